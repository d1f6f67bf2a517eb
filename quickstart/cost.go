package main

import (
	"iter"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm"
)

// unwritten is how old an answer may get before it is written down.
const unwritten = 2 * time.Second

// cost is what kills of the worker cost, as the model server's journal tells it.
type cost struct {
	answered int // answers given
	repeated int // to a question that had been answered before
	inFlight int // of these: the call was in flight at a kill
	fresh    int // of these: the earlier answer was given in the last two seconds before a kill
}

// readCost explains every repeated answer by a kill, as far as one explains it.
func readCost(journal iter.Seq2[pocketlm.Entry, error], kills []time.Time) (cost, error) {
	var c cost
	type question struct {
		received time.Time // the request that was answered last
		answered time.Time // zero: not yet
	}
	asked := map[pocketlm.Digest]question{}
	for e, err := range journal {
		if err != nil {
			return cost{}, err
		}
		if !strings.HasSuffix(e.Route, "completions") {
			continue
		}
		q := asked[e.Digest]
		switch e.Kind {
		case pocketlm.Received:
			if q.answered.IsZero() {
				q.received = e.At
			}
		case pocketlm.Answered:
			c.answered++
			if !q.answered.IsZero() {
				c.repeated++
				switch {
				case explained(kills, func(k time.Time) bool { return !q.received.After(k) && q.answered.After(k) }):
					c.inFlight++
				case explained(kills, func(k time.Time) bool { return !q.answered.After(k) && k.Sub(q.answered) <= unwritten }):
					c.fresh++
				}
			}
			q.answered = e.At
		}
		asked[e.Digest] = q
	}
	return c, nil
}

func explained(times []time.Time, is func(time.Time) bool) bool {
	for _, t := range times {
		if is(t) {
			return true
		}
	}
	return false
}
