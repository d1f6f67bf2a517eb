package main

import (
	"iter"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm"
)

// An answer is written down within two seconds, and what a loaded machine is late.
const (
	unwritten = 2 * time.Second
	slack     = time.Second
)

// kill is the death of the worker, between two moments.
type kill struct{ sent, buried time.Time }

// cost is what kills of the worker cost, as the model server's journal tells it.
type cost struct {
	answered int // answers given
	repeated int // to a question that had been answered before
	inFlight int // of these: the call was in flight at a kill
	fresh    int // of these: the earlier answer was given in the last two seconds before a kill
}

// readCost explains every repeated answer by a kill, as far as one explains it.
func readCost(journal iter.Seq2[pocketlm.Entry, error], kills []kill) (cost, error) {
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
				case explained(kills, func(k kill) bool { return !q.received.After(k.buried) && q.answered.After(k.sent) }):
					c.inFlight++
				case explained(kills, func(k kill) bool { return !q.answered.After(k.buried) && k.sent.Sub(q.answered) <= unwritten+slack }):
					c.fresh++
				}
			}
			q.answered = e.At
		}
		asked[e.Digest] = q
	}
	return c, nil
}

func explained(kills []kill, is func(kill) bool) bool {
	for _, k := range kills {
		if is(k) {
			return true
		}
	}
	return false
}
