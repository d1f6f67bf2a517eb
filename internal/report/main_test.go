package report

import (
	"os"
	"testing"
)

// startDir is where the tests run. The S3 server changes the working folder of the process.
var startDir string

func TestMain(m *testing.M) {
	var err error
	if startDir, err = os.Getwd(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
