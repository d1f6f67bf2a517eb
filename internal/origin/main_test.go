package origin_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets fuzzing go on instead of shrinking each input that finds something for a minute, unless told otherwise.
func TestMain(m *testing.M) {
	_ = flag.Set("test.fuzzminimizetime", "10x")
	os.Exit(m.Run())
}
