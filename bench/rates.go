package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

// rates is how fast calls were answered. The steady part is that between a tenth and nine tenths of the calls.
type rates struct {
	PerSecond     float64 `json:"calls_per_s"`        // over all
	Steady        float64 `json:"steady_calls_per_s"` // over the steady part
	SteadySeconds float64 `json:"steady_s"`
	Latency       float64 `json:"mean_latency_s"` // that the referee gave to the answers of the steady part
	Ideal         float64 `json:"ideal_calls_per_s"`
	Share         float64 `json:"share_of_ideal"` // 0 where there is no latency
	Attained      float64 `json:"in_flight_attained"`
	PeakInFlight  int     `json:"in_flight_peak"`
}

const sampleEvery = 100 * time.Millisecond

type sample struct {
	at    time.Time
	stats pocketlm.Stats
}

// area is calls in flight, summed over the seconds so far.
func (s sample) area() float64 { return s.stats.AverageInFlight * s.stats.Seconds }

// watchRates samples a referee until the function that it returns is called. total is the number of answers expected.
func watchRates(ctx context.Context, ref referee, total int64, inFlight int) func() rates {
	ctx, stop := context.WithCancel(ctx)
	var samples []sample
	var watching sync.WaitGroup
	_ = ref.reset(ctx) // a referee that does not answer shows in the first call
	watching.Go(func() {
		for {
			if stats, err := ref.stats(ctx); err == nil {
				samples = append(samples, sample{time.Now(), stats})
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(sampleEvery):
			}
		}
	})
	return sync.OnceValue(func() rates {
		stop()
		watching.Wait()
		return ratesOf(samples, total, inFlight)
	})
}

func ratesOf(samples []sample, total int64, inFlight int) (r rates) {
	var from, to sample
	for _, s := range samples {
		r.PeakInFlight = max(r.PeakInFlight, s.stats.PeakInFlight)
		if from.at.IsZero() && s.stats.Answered >= total/10 {
			from = s
		}
		if s.stats.Answered <= total*9/10 {
			to = s
		}
	}
	if len(samples) == 0 {
		return r
	}
	if last := samples[len(samples)-1]; last.stats.Seconds > 0 {
		r.PerSecond = float64(last.stats.Answered) / last.stats.Seconds
	}
	n := float64(to.stats.Answered - from.stats.Answered)
	r.SteadySeconds = to.stats.Seconds - from.stats.Seconds
	if from.at.IsZero() || n <= 0 || r.SteadySeconds <= 0 {
		return r
	}
	planned := to.stats.PlannedLatency*float64(to.stats.Answered) - from.stats.PlannedLatency*float64(from.stats.Answered)
	r.Steady, r.Latency = n/r.SteadySeconds, planned/n
	r.Attained = (to.area() - from.area()) / r.SteadySeconds
	if r.Latency > 0 {
		r.Ideal = float64(inFlight) / r.Latency
		r.Share = r.Steady / r.Ideal
	}
	return r
}

// meters read what several services use.
type meters struct {
	pid  map[string]func() int
	each map[string]*meter
}

func newMeters(pid map[string]func() int) *meters {
	m := &meters{pid: pid, each: map[string]*meter{}}
	for name, of := range pid {
		m.each[name] = &meter{}
		m.each[name].begin(of())
	}
	return m
}

func (m *meters) read() map[string]usage {
	out := map[string]usage{}
	for name, of := range m.pid {
		m.each[name].look(of())
		out[name] = m.each[name].total()
	}
	return out
}

// countObjects returns a function that says what was written since, in bytes and objects, of what still stands.
func countObjects(ctx context.Context, st *blob.Store) (func(context.Context) (bytes, objects int64, err error), error) {
	count := func(ctx context.Context) (bytes, objects int64, err error) {
		err = st.List(ctx, "", func(i blob.Info) error {
			bytes += i.Size
			objects++
			return nil
		})
		return bytes, objects, err
	}
	bytes, objects, err := count(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (int64, int64, error) {
		b, o, err := count(ctx)
		return b - bytes, o - objects, err
	}, nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func mega(bytes int64) string {
	if bytes <= 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.0f MB", float64(bytes)/1e6)
}

func (r rates) print(w io.Writer, wanted int) {
	fmt.Fprintf(w, "  calls            %.0f/s overall, %.0f/s over the steady part of %.0f s\n", r.PerSecond, r.Steady, r.SteadySeconds)
	if r.Share > 0 {
		fmt.Fprintf(w, "  share of ideal   %.1f %% of %d in flight ÷ %.3f s mean latency = %.0f/s\n", 100*r.Share, wanted, r.Latency, r.Ideal)
	}
	fmt.Fprintf(w, "  in flight        %.0f attained, %d at most\n", r.Attained, r.PeakInFlight)
}

func printUsage(w io.Writer, perThousand map[string]float64, peak map[string]int64) {
	var total float64
	for _, name := range slices.Sorted(maps.Keys(perThousand)) {
		fmt.Fprintf(w, "  %-16s %.3f CPU s per 1,000 calls, peak memory %s\n", name, perThousand[name], mega(peak[name]))
		total += perThousand[name]
	}
	fmt.Fprintf(w, "  %-16s %.3f CPU s per 1,000 calls\n", "together", total)
}

func (r *stageResult) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d rows in %d partitions, %d in work at once; %s; %.1f s\n", r.Task, r.Rows, r.Partitions, r.Window, r.Referee, r.Seconds)
	r.rates.print(w, r.InFlight)
	printUsage(w, r.PerThousand, r.Peak)
	fmt.Fprintf(w, "  written          %d objects, %s\n", r.Objects, mega(r.Bytes))
	fmt.Fprintf(w, "  answered         %d, duplicates %d, %d tokens, %d rows rejected\n", r.Answered, r.Duplicates, r.Tokens, r.Rejected)
	fmt.Fprintf(w, "  replies          %v by status; %d attempts, window %.0f of %d at the end, breaker opened %d times, %d yields\n",
		r.Statuses, r.Client.Attempts, r.Client.Limit, r.Client.MaxLimit, r.Client.Opened, r.Client.Yields)
}
