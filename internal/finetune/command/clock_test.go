package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
)

// TestJobIsHeldToItsBudget stops a program when what it may cost is spent, and does not begin it again for nothing.
func TestJobIsHeldToItsBudget(t *testing.T) {
	t.Parallel()
	w, dir := world(t)
	job := finetunetest.NewJob(t, w, "held", "endless", 12)
	left := int64(1_200_000) // two minutes at a cent a second
	job.MaxMicroUSD = &left
	id, err := w.Backend(t).Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	b := w.Backend(t)
	st := finetunetest.Await(t, b, id, func(st finetune.Status) bool { return st.Step > 1 })
	if !st.CostKnown || st.CostMicroUSD > left {
		t.Errorf("%+v", st)
	}
	beganEarlier(t, folder(filepath.Join(dir, id)))
	st = finetunetest.Await(t, b, id, finetunetest.Ended)
	if st.State != finetune.StateFailed || !strings.Contains(st.Message, "stopped after 2m0s, which is what the budget left") {
		t.Errorf("%+v", st)
	}
	if !st.CostKnown || st.CostMicroUSD < 1_800_000 || st.CostMicroUSD > 3_600_000 {
		t.Errorf("cost %d", st.CostMicroUSD)
	}
	if n := len(starts(t, dir, job.Key)); n != 1 {
		t.Errorf("%d starts", n)
	}
}

// beganEarlier has the first attempt have begun three minutes before it did, by the clock of files, which lags behind time.Now.
func beganEarlier(t *testing.T, f folder) {
	t.Helper()
	info, err := os.Stat(f.path(FileBegun + "1"))
	if err != nil {
		t.Fatal(err)
	}
	at := info.ModTime().Add(-3 * time.Minute)
	if err := os.Chtimes(f.path(FileBegun+"1"), at, at); err != nil {
		t.Fatal(err)
	}
}

// TestDeadProgramIsNotBegunAgainWithoutMoney has the time run out in an attempt that died.
func TestDeadProgramIsNotBegunAgainWithoutMoney(t *testing.T) {
	t.Parallel()
	w, dir := world(t)
	job := finetunetest.NewJob(t, w, "dead and poor", "always dies", 12)
	left := int64(1_200_000)
	job.MaxMicroUSD = &left
	b := w.Backend(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	f := folder(filepath.Join(dir, id))
	for i := 0; i < 3000; i++ {
		if _, exited := f.exit(); exited {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	beganEarlier(t, f)
	st := finetunetest.Await(t, b, id, finetunetest.Ended)
	if st.State != finetune.StateFailed || !strings.Contains(st.Message, "what the budget left") || len(starts(t, dir, job.Key)) != 1 {
		t.Errorf("%+v after %d starts", st, len(starts(t, dir, job.Key)))
	}
}

func TestWorked(t *testing.T) {
	t.Parallel()
	f, t0 := folder(t.TempDir()), time.Now().Add(-time.Hour)
	at := func(name string, since time.Duration) {
		t.Helper()
		if err := os.WriteFile(f.path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(f.path(name), t0.Add(since), t0.Add(since)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(rec record, alive bool, want time.Duration) {
		t.Helper()
		if got := f.worked(rec, alive); got < want || got > want+time.Minute {
			t.Errorf("%v, want %v", got, want)
		}
	}
	first, second := record{Attempts: 1}, record{Attempts: 2, Worked: 20 * time.Minute}
	want(first, false, 0) // it waits
	at(fileStdout, -time.Minute)
	at(FileBegun+"1", 0)
	want(first, true, time.Hour)
	want(first, false, 0) // it died at once
	at(fileStdout, 10*time.Minute)
	want(first, false, 10*time.Minute) // the machine died
	at(fileExit, 20*time.Minute)
	want(first, false, 20*time.Minute)
	want(second, true, 20*time.Minute) // the second waits
	at(FileBegun+"2", 30*time.Minute)
	want(second, true, 50*time.Minute)
	want(second, false, 20*time.Minute) // the code is the first one's
}
