package finetunetest

import (
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/finetune"
)

func cleans(t *testing.T, w World) {
	b := w.Backend(t)
	cleaner, ok := b.(finetune.Cleaner)
	if !ok || w.Left == nil {
		if ok != (w.Left != nil) {
			t.Errorf("cleaner: %v; the world tells what is left: %v", ok, w.Left != nil)
		}
		return
	}
	job := NewJob(t, w, "cleaned", w.Quick, 12)
	id := submit(t, b, job)
	before := Await(t, b, id, Ended)
	if len(w.Left(t, job.Key)) == 0 {
		t.Error("nothing is left to be cleaned up")
	}
	for range 2 {
		if err := cleaner.Clean(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if left := w.Left(t, job.Key); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	after, err := w.Backend(t).Poll(t.Context(), id)
	if err != nil || after.State != before.State || after.Model != before.Model {
		t.Errorf("%+v, %v; before %+v", after, err, before)
	}
	if again := submit(t, w.Backend(t), job); again != id {
		t.Errorf("%s, then %s", id, again)
	}
	started(t, w, job.Key, 1)
}

func cleansCancelled(t *testing.T, w World) {
	b := w.Backend(t)
	cleaner, ok := b.(finetune.Cleaner)
	if !ok {
		return
	}
	job := NewJob(t, w, "cleaned after a cancel", w.Endless, 12)
	id := submit(t, b, job)
	Await(t, b, id, func(st finetune.Status) bool { return st.Step > 0 })
	if err := cleaner.Clean(t.Context(), id); err != nil {
		t.Errorf("at work: %v", err)
	}
	if len(w.Left(t, job.Key)) == 0 {
		t.Error("a job at work was cleaned up after")
	}
	if err := b.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	Await(t, b, id, Ended)
	if err := cleaner.Clean(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if left := w.Left(t, job.Key); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func affords(t *testing.T, w World) {
	if !w.Estimates {
		return
	}
	b := w.Backend(t)
	job := NewJob(t, w, "dear", w.Quick, 12)
	var nothing int64
	job.MaxMicroUSD = &nothing
	if _, err := b.Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassBudget || !strings.Contains(err.Error(), "$") {
		t.Errorf("%v", err)
	}
	started(t, w, job.Key, 0)
	if w.Left != nil {
		if left := w.Left(t, job.Key); len(left) != 0 {
			t.Errorf("of a job that was not begun is left: %v", left)
		}
	}
	job.MaxMicroUSD = nil
	id := submit(t, b, job)
	job.MaxMicroUSD = &nothing
	if again := submit(t, b, job); again != id { // what was begun is not given up
		t.Errorf("%s, then %s", id, again)
	}
	if st := Await(t, b, id, Ended); st.State != finetune.StateSucceeded || !st.CostKnown {
		t.Errorf("%+v", st)
	}
	started(t, w, job.Key, 1)
}
