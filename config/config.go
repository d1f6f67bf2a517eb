// Package config reads the two files a user writes, the spec of a run and the settings of a worker, and reports every
// mistake in them at once.
//
// It is a leaf: it imports nothing else of this module, opens no file but the one it is given and never looks at the environment.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration written as in 500ms, 30s or 5m.
type Duration time.Duration

// String returns the duration as time.Duration prints it.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration in the form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration with its unit, such as 30s. A bare number is an error: its unit would be a guess.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("parse duration: %w", err)
	}
	*d = Duration(v)
	return nil
}

// Digest names a run spec by its content: 64 hexadecimal digits, equal for specs with equal values however they were
// written down. Specs hold no maps, so their JSON is canonical.
func Digest(r Run) string {
	body, err := json.Marshal(r)
	if err != nil { // only NaN and infinities cannot be marshalled, and Validate refuses both
		body = fmt.Appendf(nil, "%#v", r)
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
