// Package config holds the two files a user writes: the spec of a run and the settings of a worker.
package config

import "time"

// Duration is a time.Duration written as in 30s or 5m.
type Duration time.Duration
