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
// in a hundred whatever comes, and to retreat for each would bring them to a crawl. It is a sequential test (Page's CUSUM) of a share of
// few refusals against one of many: each outcome weighs as the logarithm of how much likelier it is under the second, and the sum
// stays at least 0. A wrong alarm at the share of few comes about once in e^alarm refusals; that all are refused is seen at the 6th.
type odds struct {
	weight   float64
	answered float64 // of the latest requests
	wary     bool    // refusals came in numbers: every one counts
	idle     float64 // refusals at a load that was borne before, lately; while wary
}

const (
	few, many  = 0.02, 0.10
	alarm      = 9.0
	oddsMemory = 256.0  // requests, of answered
	idleMemory = 4096.0 // requests, of idle
	idleEnough = 3.0    // such refusals show that the endpoint refuses whatever the load
	wellBelow  = 0.85   // of the load at the last refusal: a load that was borne
)

var (
	refusalWeighs = math.Log(many / few)
	answerWeighs  = math.Log((1 - many) / (1 - few)) // below 0
)

func (o *odds) note(refused bool) {
	o.answered *= 1 - 1/oddsMemory
	o.idle *= 1 - 1/idleMemory
	if refused {
		o.weight += refusalWeighs
	} else {
		o.answered++
		o.weight = math.Max(0, o.weight+answerWeighs)
	}
}

// alone decides whether the refusal just noted came by itself among answers. Requests in flight count as answers to be: refusals
// come sooner. borne says that the endpoint had borne the load of that moment before.
func (o *odds) alone(borne bool, inFlight int) bool {
	coming := float64(inFlight) * answerWeighs
	switch {
	case o.answered < 0.5 && coming > -refusalWeighs: // nothing is known yet, or nothing is answered any more
		return false
	case o.wary:
		if borne {
			o.idle++
		}
		if o.idle >= idleEnough {
			o.wary, o.weight = false, 0
		}
		return false
	case o.weight+coming > alarm:
		o.wary, o.idle = true, 0
		return false
	}
	return true
}
