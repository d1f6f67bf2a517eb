package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryWanted is the memory that Go holds itself to when GOMEMLIMIT does not say. With the program's own pages, about 40 MB, a
	// worker stays under 300 MB.
	memoryWanted = 232 << 20
	// memoryRoom is how much of a limit may be live after a collection: beyond, collections would come too often.
	memoryRoom = 0.8
	// collectAt is GOGC when the environment does not say: within the limit, fewer collections save a tenth of the processor time of
	// map tasks.
	collectAt = 200

	liveMetric  = "/gc/heap/live:bytes"
	stackMetric = "/memory/classes/heap/stacks:bytes"
)

// limitMemory makes the collector work a little more so that the process stays small, for as long as that is possible: where more
// is in use, as with several thousand calls in flight, the limit goes up with it rather than slow the work down. Under the limit
// it collects less often than Go does by itself.
func limitMemory(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(memoryWanted)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				debug.SetMemoryLimit(memoryLimit(inUse()))
			case <-ctx.Done():
				return
			}
		}
	}()
}

// memoryLimit returns the limit for what is in use after a collection, in bytes.
func memoryLimit(inUse uint64) int64 {
	return int64(math.Max(memoryWanted, float64(inUse)/memoryRoom))
}

// inUse is what the last collection left, with the stacks.
func inUse() uint64 {
	s := []metrics.Sample{{Name: liveMetric}, {Name: stackMetric}}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64()
}
