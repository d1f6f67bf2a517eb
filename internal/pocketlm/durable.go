package pocketlm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// writeAside writes a file whole or not at all: beside its place first, synced, then renamed over it.
func writeAside(path string, body []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".aside-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = tmp.Write(body)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

func saveJSON(path string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return writeAside(path, body)
}

// loadAll reads every *.json of a folder and removes what a killed writer left aside.
func loadAll[T any](dir string, fn func(*T)) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(dir), err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".aside-") {
			os.Remove(path)
			continue
		}
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		body, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Name(), err)
		}
		v := new(T)
		if err := json.Unmarshal(body, v); err != nil {
			return fmt.Errorf("read %s: %w", e.Name(), err)
		}
		fn(v)
	}
	return nil
}
