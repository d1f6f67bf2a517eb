//go:build extra

package slurm

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
)

// realWorld is the cluster that .ci/extra.d/slurm starts; SLURM_CONF names it.
func realWorld(t *testing.T) (finetunetest.World, Config) {
	cfg := Config{
		Name: "real", Template: template(t), Dir: t.TempDir(), Resumes: 2, Grace: 2 * time.Second,
		Env: []string{"HUB_TOKEN=" + secret}, Rate: finetune.Rate{USDPerHour: 36},
	}
	return world(t, cfg, finetunetest.World{Store: s3test.Store(t)}), cfg
}

func TestRealConformance(t *testing.T) {
	t.Parallel()
	finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
		w, _ := realWorld(t)
		return w
	})
}

func TestRealRequeue(t *testing.T) {
	t.Parallel()
	w, cfg := realWorld(t)
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "requeued", "patient", 12)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 3000 && len(startsOf(cfg.Dir, job.Key)) == 0; i++ {
		time.Sleep(20 * time.Millisecond)
	}
	name := nameOfBatch + job.Name() + ".1"
	out, err := exec.Command("squeue", "--noheader", "--name="+name, "--format=%i").Output()
	if err != nil {
		t.Fatal(err)
	}
	batchID := strings.TrimSpace(string(out))
	if said, err := exec.Command("scontrol", "requeue", batchID).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", said, err)
	}
	// A requeued job may not begin before a minute or two have passed; an operator can release it.
	seen := false
	deadline := time.Now().Add(5 * time.Minute)
	for {
		st, err := b.Poll(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		seen = seen || st.State == finetune.StateQueued
		if st.State.Terminal() {
			if st.State != finetune.StateSucceeded {
				t.Errorf("%+v", st)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", st)
		}
		_ = exec.Command("scontrol", "update", "JobId="+batchID, "StartTime=now").Run()
		time.Sleep(200 * time.Millisecond)
	}
	if s := startsOf(cfg.Dir, job.Key); !seen || len(s) != 2 || !strings.Contains(s[1], "resumed=true") {
		t.Errorf("queued again %v, starts %q", seen, s)
	}
}

func TestRealCancelByHand(t *testing.T) {
	t.Parallel()
	w, _ := realWorld(t)
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "by hand", "endless", 12)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	finetunetest.Await(t, b, id, func(st finetune.Status) bool { return st.Step > 1 })
	if said, err := exec.Command("scancel", "--name="+nameOfBatch+job.Name()+".1").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", said, err)
	}
	if st := finetunetest.Await(t, b, id, finetunetest.Ended); st.State != finetune.StateCancelled || !strings.Contains(st.Message, "somebody") {
		t.Errorf("%+v", st)
	}
}
