package kubernetes

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
)

// Who cleans up dies when the job is written down and not deleted, or deleted and the answer lost; or may not delete at all.
func TestCleanDiesAnywhere(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Job", "TrainJob"} {
		for name, spoil := range map[string]func(c *cluster){
			"written down, not deleted": func(c *cluster) { c.denyDelete = true },
			"deleted, answer lost":      func(c *cluster) { c.loseDelete = true },
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				c, fresh, st := setup(t, kind)
				job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "run/01/m1", "quick", 12)
				if err := st.Put(t.Context(), job.Artifacts+"/adapter.safetensors", []byte("x")); err != nil {
					t.Fatal(err)
				}
				b := fresh(t)
				id, err := b.Submit(t.Context(), job)
				if err != nil {
					t.Fatal(err)
				}
				before := finetunetest.Await(t, b, id, finetunetest.Ended)
				spoil(c)
				first := b.(finetune.Cleaner).Clean(t.Context(), id)
				if c.denyDelete != (finetune.ClassOf(first) == finetune.ClassAuth) {
					t.Errorf("%v", first)
				}
				c.denyDelete = false
				for range 2 {
					after, err := fresh(t).Poll(t.Context(), id)
					// The log goes on in this cluster, so that steps and loss do not say the same.
					if err != nil || after.State != before.State || after.Model != before.Model || after.Artifact != job.Artifacts || after.Step < before.Step {
						t.Errorf("%+v, %v; before %+v", after, err, before)
					}
					if again, err := fresh(t).Submit(t.Context(), job); err != nil || again != id || len(c.made) != 1 {
						t.Errorf("%s, %v, %v", again, err, c.made)
					}
					if err := fresh(t).(finetune.Cleaner).Clean(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
				if len(c.jobs) != 0 {
					t.Errorf("left: %v", c.jobs)
				}
				if err := fresh(t).Cancel(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A failed job stays, and every one where the settings say so.
func TestKept(t *testing.T) {
	t.Parallel()
	c, fresh, st := setup(t, "Job")
	for base, keep := range map[string]bool{"broken": false, "quick": true} {
		b := fresh(t).(*Backend)
		b.keep = keep
		id, err := b.Submit(t.Context(), finetunetest.NewJob(t, finetunetest.World{Store: st}, "kept/"+base, base, 12))
		if err != nil {
			t.Fatal(err)
		}
		finetunetest.Await(t, b, id, finetunetest.Ended)
		if err := b.Clean(t.Context(), id); err != nil || c.jobs[id] == nil {
			t.Errorf("%s: %v", base, err)
		}
	}
}

// The rules are those of the TrainJob's definition and of JobSet's webhook.
func TestNames(t *testing.T) {
	t.Parallel()
	label := regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	rapid.Check(t, func(t *rapid.T) {
		key, other := rapid.String().Draw(t, "key"), rapid.String().Draw(t, "other")
		name := shortName(key)
		if pod := name + "-dataset-initializer-0-0-abcde"; !label.MatchString(name) || len(pod) > 63 || strings.Contains(name, "--") {
			t.Fatalf("%q has the name %q", key, name)
		}
		if key != other && shortName(other) == name {
			t.Fatalf("%q and %q are both %q", key, other, name)
		}
		if full := finetune.NameOf(key); len(full) > 63 || !validID(full) || !validID(name) {
			t.Fatalf("%q", full)
		}
	})
}
