package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// stateDir is the folder of this user for data that programs keep between two starts.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "selfalign"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for data: %w. Try: -data FOLDER", err)
	}
	return filepath.Join(home, ".local", "state", "selfalign"), nil
}

// dataDir chooses the data folder: the one named, the user's own, or a new one.
func dataDir(o options, now time.Time) (string, error) {
	if o.data != "" {
		dir, err := filepath.Abs(o.data)
		if err != nil {
			return "", fmt.Errorf("-data: %w", err)
		}
		return dir, nil
	}
	state, err := stateDir()
	if err != nil {
		return "", err
	}
	name := "quickstart"
	if o.crash {
		name = "quickstart-crash"
	}
	if o.fresh || o.crash { // a crash wants answers that were not given before
		name += now.Format("-20060102-150405")
	}
	return filepath.Join(state, name), nil
}
