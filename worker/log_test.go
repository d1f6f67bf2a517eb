package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"

	"github.com/selfalign/selfalign/config"
)

// A heartbeat that learns of a pause is no warning; one that fails is.
func TestPausesAreNotWarnedOf(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		base, err := newLogger(config.Process{LogLevel: "info", LogFormat: format}, &out)
		if err != nil {
			t.Fatal(err)
		}
		sdk := log.With(log.NewStructuredLogger(base), "ActivityType", "AskPartition")
		sdk.Warn(heartbeatWarning, "Error", temporal.NewCanceledError())
		if out.Len() > 0 {
			t.Errorf("%s: a pause is warned of: %s", format, out.String())
		}
		sdk.Warn(heartbeatWarning, "Error", errors.New("the server is away"))
		sdk.Warn("something else", "Error", temporal.NewCanceledError())
		sdk.Error(heartbeatWarning, "Error", temporal.NewCanceledError())
		if n := strings.Count(out.String(), "AskPartition"); n != 3 {
			t.Errorf("%s: %d of 3 lines\n%s", format, n, out.String())
		}
	}
	var out bytes.Buffer
	base, err := newLogger(config.Process{LogLevel: "debug", LogFormat: "json"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	log.NewStructuredLogger(base).Warn(heartbeatWarning, "Error", temporal.NewCanceledError())
	if !strings.Contains(out.String(), `"level":"DEBUG"`) {
		t.Errorf("with debugging: %s", out.String())
	}
}
