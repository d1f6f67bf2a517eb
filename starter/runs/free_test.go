package runs_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/starter/runs"
)

// A name that another spec has is told before a byte is sent, and the same spec under its own name is no conflict.
func TestFree(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "seeds.jsonl"), "{}\n")
	write(t, filepath.Join(dir, "pages [old]", "a.html"), "<p>a")
	s := spec("a")
	s.Seeds[0].Path, s.Documents[0].Path = "seeds.jsonl", "pages [old]"
	if err := c.Free(t.Context(), s, dir); err != nil {
		t.Errorf("a new name: %v", err)
	}
	ready, err := c.Prepare(t.Context(), s, dir, func(runs.UploadProgress) {})
	if err != nil || !strings.HasSuffix(ready.Documents[0].Path, "/pages _old_/") {
		t.Fatalf("%+v, %v", ready.Documents, err)
	}
	if _, err := c.Start(t.Context(), ready, nil); err != nil {
		t.Fatal(err)
	}
	before := len(keys(t, c.Store, "uploads/"))
	if err := c.Free(t.Context(), s, dir); err != nil {
		t.Errorf("the same run: %v", err)
	}
	write(t, filepath.Join(dir, "seeds.jsonl"), "{}\n{}\n")
	s.Iterations++
	if err := c.Free(t.Context(), s, dir); !isConflict(err) || !strings.Contains(err.Error(), "other: seeds, iterations") {
		t.Errorf("another run: %v", err)
	}
	if after := len(keys(t, c.Store, "uploads/")); after != before {
		t.Errorf("%d files were sent", after-before)
	}
}

func TestFreeScore(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	s := config.DefaultScore()
	s.Name, s.Load.Path = "a", "s3://b/prompts.jsonl"
	if err := c.FreeScore(t.Context(), s, "."); err != nil {
		t.Errorf("a new name: %v", err)
	}
	if _, err := c.Start(t.Context(), spec("b"), nil); err != nil {
		t.Fatal(err)
	}
	s.Name = "b"
	if err := c.FreeScore(t.Context(), s, "."); !isConflict(err) || !strings.Contains(err.Error(), "of another kind") {
		t.Errorf("the name of a self-training run: %v", err)
	}
}
