package llm

import "math"

// window is how many calls may be in flight: multiplicative decrease when the endpoint refuses, additive increase while it
// answers, a slow start after it was down.
type window struct {
	limit     float64 // calls allowed now, 1..max
	max       float64
	threshold float64 // below it the window grows by one per answer
	ceiling   float64 // where the last refusal came; growth is slow around it, so that probing costs few refusals
	epoch     uint64  // calls admitted before this sequence number do not shrink the window again
}

const (
	shrink     = 0.7
	nearBelow  = 0.9
	nearAbove  = 1.1
	nearGrowth = 0.2
)

func newWindow(most int) window {
	m := float64(most)
	return window{limit: m, max: m, threshold: 1}
}

// allows reports whether one more call may start beside those in flight.
func (w *window) allows(inFlight int) bool { return inFlight < int(w.limit) }

// refused shrinks the window, once for all the calls that were in flight together. seq is the refused call, next the number
// of the next call to be admitted. It reports whether the window shrank.
func (w *window) refused(seq, next uint64, inFlight int) bool {
	if seq < w.epoch {
		return false
	}
	w.epoch = next
	at := math.Min(w.limit, math.Max(1, float64(inFlight)))
	w.ceiling = at
	w.limit = math.Max(1, at*shrink)
	w.threshold = w.limit
	return true
}

// borne reports whether a refused call met a load that was borne before and that the window did not have to retreat from since.
func (w *window) borne(seq uint64, inFlight int) bool {
	return seq >= w.epoch && float64(inFlight) < wellBelow*w.ceiling
}

// restart makes the window begin again at 1/4 of its size, growing fast to what it was.
func (w *window) restart() {
	w.threshold = w.limit
	w.limit = math.Max(1, math.Floor(w.limit/4))
}

// collapse makes the window begin again at one call, growing fast to half of what it was or to its last threshold.
func (w *window) collapse() {
	w.threshold = math.Max(w.threshold, math.Max(1, w.limit/2))
	w.limit = 1
}

// answered grows the window, if it was in use. wary says that the endpoint is known to refuse because of the load.
func (w *window) answered(inFlight int, wary bool) {
	if w.limit >= w.max || float64(inFlight) < math.Floor(w.limit)*0.75 {
		return
	}
	step := 1.0
	if w.limit >= w.threshold && wary {
		step = math.Max(1, w.max/32) / w.limit
		if w.ceiling > 0 && w.limit >= nearBelow*w.ceiling && w.limit <= nearAbove*w.ceiling {
			step *= nearGrowth
		}
	}
	w.limit = math.Min(w.max, w.limit+step)
}

// odds tells refusals that have nothing to do with the load from an endpoint that has enough. Some endpoints refuse one request
// in a hundred whatever comes, and to retreat for each would bring them to a crawl.
type odds struct {
	answered, refused float64 // of the latest requests
	wary              bool    // refusals came in numbers: every one counts
	idle              float64 // refusals at a load that was borne before, lately; while wary
}

const (
	oddsMemory = 256.0  // requests, of answered and refused
	idleMemory = 4096.0 // requests, of idle
	idleEnough = 3.0    // such refusals show that the endpoint refuses whatever the load
	tolerated  = 0.04   // a share up to this is no reason to retreat
	fewEnough  = 5.0    // nor are so many
	wellBelow  = 0.85   // of the load at the last refusal: a load that was borne
)

func (o *odds) note(refused bool) {
	o.answered *= 1 - 1/oddsMemory
	o.refused *= 1 - 1/oddsMemory
	o.idle *= 1 - 1/idleMemory
	if refused {
		o.refused++
	} else {
		o.answered++
	}
}

// alone decides whether the refusal just noted came by itself among answers. borne says that the endpoint had borne the load
// of that moment before.
func (o *odds) alone(borne bool) bool {
	switch {
	case o.answered < 0.5: // nothing is known yet, or nothing is answered any more
		return false
	case o.wary:
		if borne {
			o.idle++
		}
		o.wary = o.idle < idleEnough
		return false
	case o.refused > max(fewEnough, tolerated*(o.answered+o.refused)):
		o.wary, o.idle, o.refused = true, 0, 0
		return false
	}
	return true
}
