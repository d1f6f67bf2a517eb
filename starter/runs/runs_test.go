package runs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

func put(t *testing.T, c *runs.Client, key string, value any) {
	t.Helper()
	body, ok := value.([]byte)
	if !ok {
		var err error
		if body, err = json.Marshal(value); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Store.Put(t.Context(), key, body); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStartIsIdempotent(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	first, err := c.Start(t.Context(), spec("a"), nil)
	if err != nil || !first.New {
		t.Fatalf("first start: %+v, %v", first, err)
	}
	if in := f.inputs["a"]; in.Digest != config.Digest(spec("a")) || in.Queue != "q" {
		t.Errorf("input is %+v", in)
	}
	f.status["a"] = workflows.Status{Run: "a", Phase: workflows.PhaseRunning}
	again, err := c.Start(t.Context(), spec("a"), nil)
	if err != nil || again.New || again.Phase != workflows.PhaseRunning || f.starts != 1 {
		t.Errorf("again: %+v, %v, %d starts", again, err, f.starts)
	}
	other := spec("a")
	other.Augment.Temperature, other.Curate.Threshold = 0.1, 4
	_, err = c.Start(t.Context(), other, nil)
	if want := "there is a run a with another spec (other: augment.temperature, curate.threshold). Try: --name another-name; answers that were paid for are used again, whatever the run is called"; err == nil || err.Error() != want || !isConflict(err) {
		t.Errorf("another spec: %v", err)
	}
	// Temporal has forgotten the finished run: its record has not.
	delete(f.executions, "a")
	put(t, c, "runs/a/status.json", workflows.Status{Run: "a", Phase: workflows.PhaseCompleted})
	done, err := c.Start(t.Context(), spec("a"), nil)
	if err != nil || done.New || done.Phase != workflows.PhaseCompleted || f.starts != 1 {
		t.Errorf("after its end: %+v, %v, %d starts", done, err, f.starts)
	}
}

// Whatever dies between the record and the workflow, starting again starts it.
func TestStartAfterACrashInBetween(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	f.down = errDown
	if _, err := c.Start(t.Context(), spec("a"), nil); !isUnreachable(err) {
		t.Fatalf("with Temporal down: %v", err)
	}
	if len(keys(t, c.Store, "runs/a/run.json")) != 1 {
		t.Fatal("no record")
	}
	f.down = nil
	again, err := c.Start(t.Context(), spec("a"), nil)
	if err != nil || f.starts != 1 || again.Phase != runs.PhaseStarting {
		t.Errorf("again: %+v, %v, %d starts", again, err, f.starts)
	}
	// Ended from outside: it may start again.
	f.executions["a"] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil || f.starts != 2 {
		t.Errorf("after termination: %v, %d starts", err, f.starts)
	}
}

func TestPrepareUploadsOnce(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "seeds.jsonl"), "{}\n")
	write(t, filepath.Join(dir, "pages", "a.html"), "<p>a")
	write(t, filepath.Join(dir, "pages", "sub", "b.html"), "<p>b")
	write(t, filepath.Join(dir, "pages", ".hidden"), "no")
	write(t, filepath.Join(dir, "rate.tmpl"), "rate {{.Output}}")
	s := spec("a")
	s.Seeds[0].Path, s.Documents[0].Path, s.Prompts.Rate = "seeds.jsonl", "pages", "rate.tmpl"
	var skipped, sent int
	progress := func(p runs.UploadProgress) {
		if p.Files == p.Of && !p.HashingOnly {
			skipped, sent = skipped+p.Skipped, sent+p.Files-p.Skipped
		}
	}
	got, err := c.Prepare(t.Context(), s, dir, progress)
	if err != nil {
		t.Fatal(err)
	}
	if sent != 3 || skipped != 0 {
		t.Errorf("sent %d, skipped %d", sent, skipped)
	}
	uploads := keys(t, c.Store, "uploads/")
	if len(uploads) != 3 {
		t.Errorf("uploads are %v", uploads)
	}
	for _, path := range []string{got.Seeds[0].Path, got.Documents[0].Path + "a.html", got.Documents[0].Path + "sub/b.html"} {
		key, ok := strings.CutPrefix(path, c.Store.URI("")+"")
		if key = strings.TrimPrefix(key, "/"); !ok || uploads[key] == 0 {
			t.Errorf("%s was not uploaded: %v", path, uploads)
		}
	}
	if got.Prompts.Rate != "rate {{.Output}}" || s.Seeds[0].Path != "seeds.jsonl" {
		t.Errorf("prompt %q, spec given now %+v", got.Prompts.Rate, s.Seeds)
	}
	if !strings.HasSuffix(got.Documents[0].Path, "/pages/") {
		t.Errorf("the folder pages is called %s", got.Documents[0].Path)
	}
	sent = 0
	again, err := c.Prepare(t.Context(), s, dir, progress)
	if err != nil || config.Digest(again) != config.Digest(got) || sent != 0 || skipped != 3 {
		t.Errorf("again: %v, sent %d, skipped %d, equal %v", err, sent, skipped, config.Digest(again) == config.Digest(got))
	}
}

func TestSourcesThatCannotBeUploaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "s")
	write(t, filepath.Join(dir, "links", "ok.txt"), "s")
	if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(dir, "links", "out.txt")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "names", "a\nb.txt"), "s")
	for source, want := range map[string]string{
		"links": "leads out of the folder", "empty": "holds no files", "absent": "does not exist", "names": "cannot be a key",
	} {
		if _, err := runs.LocalFiles(filepath.Join(dir, source)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
	if err := os.Remove(filepath.Join(dir, "links", "out.txt")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("ok.txt", filepath.Join(dir, "links", "in.txt")); err != nil {
		t.Fatal(err)
	}
	if files, err := runs.LocalFiles(filepath.Join(dir, "links")); err != nil || len(files) != 2 {
		t.Errorf("link inside: %v, %v", files, err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Status(t.Context(), "none"); !errors.Is(err, runs.ErrNotFound) {
		t.Errorf("no such run: %v", err)
	}
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	seen, err := c.Status(t.Context(), "a")
	if err != nil || seen.Live || seen.Phase != runs.PhaseStarting || !strings.Contains(seen.Note, "no worker answers on q-control") {
		t.Errorf("without worker: %+v, %v", seen, err)
	}
	f.status["a"] = workflows.Status{Run: "a", Phase: workflows.PhaseRunning, Iteration: 1}
	if seen, err = c.Status(t.Context(), "a"); err != nil || !seen.Live || seen.Iteration != 1 {
		t.Errorf("live: %+v, %v", seen, err)
	}
	delete(f.status, "a")
	put(t, c, "runs/a/status.json", workflows.Status{Run: "a", Phase: workflows.PhaseRunning, Iteration: 2})
	f.executions["a"] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	if seen, err = c.Status(t.Context(), "a"); err != nil || seen.Phase != runs.PhaseFailed || !seen.Ended() || seen.Iteration != 2 {
		t.Errorf("terminated: %+v, %v", seen, err)
	}
	delete(f.executions, "a")
	if seen, err = c.Status(t.Context(), "a"); err != nil || !strings.Contains(seen.Note, "Temporal has no such run") {
		t.Errorf("forgotten: %+v, %v", seen, err)
	}
	f.down = errDown
	if seen, err = c.Status(t.Context(), "a"); err != nil || seen.Iteration != 2 || !strings.Contains(seen.Note, "Temporal does not answer") {
		t.Errorf("Temporal down: %+v, %v", seen, err)
	}
	if _, err = c.Status(t.Context(), "none"); !isUnreachable(err) {
		t.Errorf("unknown run with Temporal down: %v", err)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if all, err := c.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("empty bucket: %v, %v", all, err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := c.Start(t.Context(), spec(name), nil); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, "runs/b/status.json", workflows.Status{Run: "b", Phase: workflows.PhaseCompleted, StartedAt: time.Now()})
	put(t, c, "runs/c/status.json", workflows.Status{Run: "c", Phase: workflows.PhaseRunning, StartedAt: time.Now().Add(-time.Hour)})
	put(t, c, "runs/stray/other.json", []byte("{}"))
	for i, id := range []string{"b/eval/second", "b/eval/first", "eval/alone"} {
		put(t, c, "runs/"+id+"/status.json", workflows.Status{
			Run: id, Phase: workflows.PhaseRunning, Recipe: workflows.RecipeEvaluate, StartedAt: time.Now().Add(-time.Duration(10+i) * time.Minute),
		})
	}
	f.executions["b"] = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	f.status["a"] = workflows.Status{Run: "a", Phase: runs.PhaseStarting} // one that does not answer is taken for all
	f.executions["b/eval/first"] = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	f.status["b/eval/first"] = workflows.Status{Run: "b/eval/first", Phase: workflows.PhasePaused, StartedAt: time.Now().Add(-time.Hour)}
	f.executions["eval/alone"] = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	f.executions["c"] = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	all, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		got = append(got, s.Run+" "+s.Phase)
	}
	asked, err := c.Evaluations(t.Context(), "b")
	if err != nil || len(asked) != 2 || asked[0].Run != "b/eval/first" {
		t.Errorf("evaluations: %+v, %v", asked, err)
	}
	if diff := cmp.Diff([]string{"b completed", "b/eval/first paused", "b/eval/second running", "eval/alone completed", "c failed", "a starting"}, got); diff != "" {
		t.Error(diff)
	}
	f.down = errDown
	if all, err = c.List(t.Context()); !isUnreachable(err) || len(all) != 6 {
		t.Errorf("Temporal down: %v, %v", all, err)
	}
}

func TestUpdates(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	var asked string
	var payload []any
	f.update = func(name string, args []any) (workflows.Status, error) {
		asked, payload = name, args
		return workflows.Status{Run: "a", Phase: workflows.PhaseRunning}, nil
	}
	if s, err := c.Update(t.Context(), "a", workflows.UpdateApprove, workflows.Approval{Gate: "finetune"}); err != nil || s.Phase != workflows.PhaseRunning {
		t.Errorf("approve: %+v, %v", s, err)
	}
	if asked != "approve" || len(payload) != 1 || payload[0] != (workflows.Approval{Gate: "finetune"}) {
		t.Errorf("asked %s with %v", asked, payload)
	}
	if _, err := c.Update(t.Context(), "a", workflows.UpdatePause, nil); err != nil || len(payload) != 0 {
		t.Errorf("pause: %v with %v", err, payload)
	}
	f.update = func(string, []any) (workflows.Status, error) {
		return workflows.Status{}, sdk.NewApplicationError("the run is not blocked", "refused")
	}
	var refused *runs.RefusedError
	if _, err := c.Update(t.Context(), "a", workflows.UpdateRetry, nil); !errors.As(err, &refused) || err.Error() != "run a refuses retry: the run is not blocked" {
		t.Errorf("refused: %v", err)
	}
	if _, err := c.Update(t.Context(), "none", workflows.UpdatePause, nil); !errors.Is(err, runs.ErrNotFound) {
		t.Errorf("no such run: %v", err)
	}
	if err := c.Cancel(t.Context(), "a"); err != nil || len(f.cancelled) != 1 {
		t.Errorf("cancel: %v", err)
	}
	f.executions["a"] = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED // a server takes a request to cancel what has ended
	if err := c.Cancel(t.Context(), "a"); !isConflict(err) || len(f.cancelled) != 1 {
		t.Errorf("cancel what is completed: %v", err)
	}
	put(t, c, "runs/a/status.json", workflows.Status{Run: "a", Phase: workflows.PhaseCancelled})
	f.executions["a"] = enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	if err := c.Cancel(t.Context(), "a"); !isConflict(err) || !strings.Contains(err.Error(), "run a has ended: cancelled") {
		t.Errorf("cancel twice: %v", err)
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if w, err := c.Preflight(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("all there: %v, %v", w, err)
	}
	f.pollers = 0
	if w, err := c.Preflight(t.Context()); err != nil || len(w) != 1 || !strings.Contains(w[0], "no worker is polling q-control") {
		t.Errorf("no worker: %v, %v", w, err)
	}
	f.down = errDown
	if _, err := c.Preflight(t.Context()); !isUnreachable(err) || !strings.Contains(err.Error(), "Temporal at fake:7233") {
		t.Errorf("Temporal down: %v", err)
	}
}

func TestFork(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	two := 2.0
	state := workflows.State{
		Iteration: 2, Seeds: dataset.Ref{Dir: "d/seeds"}, Models: []dataset.ModelRef{{Name: "m0"}, {Name: "m1"}}, Paused: true,
		Settings: workflows.Settings{Threshold: &two}, Stages: []workflows.StageStatus{{Name: "rate"}},
	}
	put(t, c, "runs/a/state/02.json", state)
	fork := spec("b")
	fork.Curate.Threshold = 4
	if _, err := c.Fork(t.Context(), "a", 2, fork); err != nil {
		t.Fatal(err)
	}
	got := f.inputs["b"].Resume
	if got == nil || got.Iteration != 2 || got.Seeds.Dir != "d/seeds" || len(got.Models) != 2 || got.Paused || got.Stages != nil || got.Settings.Threshold != nil {
		t.Errorf("resumes from %+v", got)
	}
	if s, err := c.Fork(t.Context(), "a", 2, fork); err != nil || s.New || f.starts != 2 {
		t.Errorf("again: %+v, %v", s, err)
	}
	if _, err := c.Fork(t.Context(), "a", 3, spec("c")); !errors.Is(err, runs.ErrNotFound) || !strings.Contains(err.Error(), "iteration 3 not found among those that a fork can begin with: 2") {
		t.Errorf("no such iteration: %v", err)
	}
	if _, err := c.Fork(t.Context(), "none", 2, spec("c")); !errors.Is(err, runs.ErrNotFound) {
		t.Errorf("no such run: %v", err)
	}
	other := spec("c")
	other.Seeds[0].Path, other.Model.Base = "s3://b/other.jsonl", "bigger"
	if _, err := c.Fork(t.Context(), "a", 2, other); !isConflict(err) || !strings.Contains(err.Error(), "seeds, model.base") {
		t.Errorf("other seeds: %v", err)
	}
	if _, err := c.Fork(t.Context(), "a", 2, spec("a")); !isConflict(err) {
		t.Errorf("onto itself: %v", err)
	}
}

// The attributes are those of the namespace: a cluster's own list may lack them.
func TestSearchAttributes(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	for _, want := range []bool{false, true} {
		run := fmt.Sprintf("with-%v", want)
		if _, err := c.Start(t.Context(), spec(run), nil); err != nil {
			t.Fatal(err)
		}
		if got := f.inputs[run].Search; got != want {
			t.Errorf("with %d attributes there: search %v, want %v", len(f.attributes), got, want)
		}
		f.attributes = map[string]enumspb.IndexedValueType{
			"SelfalignRun": 1, "SelfalignStage": 1, "SelfalignIteration": 1, "SelfalignModel": 1,
		}
	}
}

// Where no worker takes an update, the server gives up before the starter does.
func TestUpdateWithoutWorker(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	f.update = func(string, []any) (workflows.Status, error) {
		return workflows.Status{}, client.NewWorkflowUpdateServiceTimeoutOrCanceledError(context.DeadlineExceeded)
	}
	if _, err := c.Update(t.Context(), "a", workflows.UpdatePause, nil); !isUnreachable(err) || !strings.Contains(err.Error(), "cannot reach a worker: none answered on q-control") {
		t.Errorf("no worker: %v", err)
	}
}

// While no worker takes an update, whoever sent it is told after some seconds.
func TestUpdateTellsThatItWaits(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1)
	c.Slow = func(waiting string) { told <- waiting }
	f.update = func(string, []any) (workflows.Status, error) {
		select {
		case said := <-told:
			if said != "no worker has answered on q-control yet; waiting for up to 30s" {
				t.Errorf("told %q", said)
			}
		case <-t.Context().Done():
			t.Error("not told")
		}
		return workflows.Status{Phase: workflows.PhasePaused}, nil
	}
	if after, err := c.Update(t.Context(), "a", workflows.UpdatePause, nil); err != nil || after.Phase != workflows.PhasePaused {
		t.Errorf("%+v, %v", after, err)
	}
	f.update = func(string, []any) (workflows.Status, error) { return workflows.Status{}, nil }
	if _, err := c.Update(t.Context(), "a", workflows.UpdateResume, nil); err != nil || len(told) > 0 {
		t.Errorf("an update that was answered: %v, told %d", err, len(told))
	}
}
