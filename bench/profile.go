package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
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
	return func() error {
		pprof.StopCPUProfile()
		heap, err := os.Create(filepath.Join(dir, name+".heap"))
		if err != nil {
			return fmt.Errorf("profile: %w", errors.Join(err, f.Close()))
		}
		runtime.GC()
		return errors.Join(f.Close(), pprof.WriteHeapProfile(heap), heap.Close())
	}, nil
}
