package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"
)

// profileDir is where every process of a benchmark leaves its profiles, if it is set.
const profileEnv = "SELFALIGN_BENCH_PROFILE"

// profileFlag adds -profile.
func profileFlag(flags *flag.FlagSet) *string {
	return flags.String("profile", "", "`folder` for CPU and heap profiles of the processes that are ours (go tool pprof)")
}

// profiling makes the folder and has children started from now on leave profiles there too. stop writes this process's.
func profiling(dir string) (stop func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Setenv(profileEnv, dir)); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return profileTo(dir, "worker")
}

func profileChild(name string) (stop func() error, err error) {
	return profileTo(os.Getenv(profileEnv), name)
}

func profileTo(dir, name string) (stop func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(filepath.Join(dir, name+".cpu"))
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	done := make(chan struct{})
	go keepPeak(filepath.Join(dir, name+".peak"), done)
	return func() error {
		close(done)
		pprof.StopCPUProfile()
		heap, err := os.Create(filepath.Join(dir, name+".heap"))
		if err != nil {
			return fmt.Errorf("profile: %w", errors.Join(err, f.Close()))
		}
		runtime.GC()
		return errors.Join(f.Close(), pprof.WriteHeapProfile(heap), heap.Close())
	}, nil
}

// keepPeak keeps the heap profile of the moment at which the heap was largest, about.
func keepPeak(path string, done <-chan struct{}) {
	var largest uint64
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Second):
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if m.HeapInuse <= largest+largest/20 {
			continue
		}
		largest = m.HeapInuse
		if f, err := os.Create(path); err == nil {
			_ = pprof.WriteHeapProfile(f)
			_ = f.Close()
		}
		fmt.Fprintf(os.Stderr, "%s: heap %s in use (%s live after the last collection, next at %s), stacks %s, %s from the system, %d goroutines\n", filepath.Base(path),
			mega(int64(m.HeapInuse)), mega(int64(m.HeapAlloc)), mega(int64(m.NextGC)), mega(int64(m.StackInuse)), mega(int64(m.Sys-m.HeapReleased)), runtime.NumGoroutine())
	}
}
