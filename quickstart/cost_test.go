package main

import (
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/pocketlm"
)

var begin = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// entry notes something about question q at a number of seconds.
func entry(kind pocketlm.Kind, q byte, seconds float64) pocketlm.Entry {
	return pocketlm.Entry{Kind: kind, Route: "chat.completions", Digest: pocketlm.Digest{q}, At: at(seconds)}
}

func at(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }

func entries(all ...pocketlm.Entry) iter.Seq2[pocketlm.Entry, error] {
	return func(yield func(pocketlm.Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

const (
	r = pocketlm.Received
	a = pocketlm.Answered
	x = pocketlm.Refused
)

func TestCost(t *testing.T) {
	t.Parallel()
	kills := []kill{{at(10), at(10)}, {at(50), at(50.2)}}
	files := entry(a, 1, 1)
	files.Route = "files"
	for name, c := range map[string]struct {
		journal []pocketlm.Entry
		want    cost
	}{
		"nothing":                 {nil, cost{}},
		"answered once":           {[]pocketlm.Entry{entry(r, 1, 1), entry(a, 1, 2)}, cost{answered: 1}},
		"refused and asked again": {[]pocketlm.Entry{entry(r, 1, 1), entry(x, 1, 2), entry(r, 1, 3), entry(a, 1, 4)}, cost{answered: 1}},
		"other routes":            {[]pocketlm.Entry{files, files}, cost{}},
		"in flight at the kill": {
			[]pocketlm.Entry{entry(r, 1, 9), entry(a, 1, 10.5), entry(r, 1, 20), entry(a, 1, 21)},
			cost{answered: 2, repeated: 1, inFlight: 1},
		},
		"answered just before the kill": {
			[]pocketlm.Entry{entry(r, 1, 7), entry(a, 1, 8.1), entry(r, 1, 20), entry(a, 1, 21)},
			cost{answered: 2, repeated: 1, fresh: 1},
		},
		"answered long before the kill": {
			[]pocketlm.Entry{entry(r, 1, 6), entry(a, 1, 6.9), entry(r, 1, 20), entry(a, 1, 21)},
			cost{answered: 2, repeated: 1},
		},
		"asked after the kill, and again": {
			[]pocketlm.Entry{entry(r, 1, 11), entry(a, 1, 12), entry(r, 1, 20), entry(a, 1, 21)},
			cost{answered: 2, repeated: 1},
		},
		"while it died": {
			[]pocketlm.Entry{entry(r, 1, 49), entry(a, 1, 50.1), entry(r, 1, 60), entry(a, 1, 61)},
			cost{answered: 2, repeated: 1, inFlight: 1},
		},
		"both kills": {
			[]pocketlm.Entry{
				entry(r, 1, 9), entry(a, 1, 9.5), entry(r, 1, 49), entry(a, 1, 50.1), entry(r, 1, 60), entry(a, 1, 61),
				entry(r, 2, 60), entry(a, 2, 61),
			},
			cost{answered: 4, repeated: 2, fresh: 1, inFlight: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readCost(entries(c.journal...), kills)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}

	broken := errors.New("broken")
	_, err := readCost(func(yield func(pocketlm.Entry, error) bool) { yield(pocketlm.Entry{}, broken) }, kills)
	require.ErrorIs(t, err, broken)
}
