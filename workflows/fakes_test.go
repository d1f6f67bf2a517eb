package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/stage"
)

// world stands in for everything outside: it remembers which partitions and datasets stand, what was paid and which jobs
// were submitted, over any number of executions of workflows.
type world struct {
	mu        sync.Mutex
	rows      int64 // in each partition of the segments
	bits      int
	receipts  map[string]map[int]dataset.Receipt // by dataset folder
	committed map[string]bool                    // by dataset folder and first partition: ranges
	datasets  map[string]dataset.Ref
	records   map[string]json.RawMessage
	jobs      []string
	cancels   []string
	asked     int // calls of AskPartition
	inWork    int
	most      int

	ask     func(w stage.Work) (activities.PartitionResult, error) // nil: answers all
	poll    func(in activities.PollInput) (activities.TrainingStatus, error)
	selects func(s activities.SelectWork)
	pinned  []activities.EvaluationInput
	old     bool      // the run was begun before instructions were held against evaluation sets as they are written
	near    *fakeNear // nil: one that drops nothing
	judge   eval.Calibration
	submits []activities.SubmitInput
	host    string      // the machine that trains
	serves  *fakeServer // nil: models answer by themselves
	digest  func(dir string) string

	keepNone bool // of a recipe's answers none is kept

	evaluated []string // folders that evaluations made
	rate      func(eval.Result) float64
	jaccard   float64
	checks    []activities.EvaluationCheck
	tryJudge  func(judge dataset.ModelRef) error // nil: it can be read

	withdraw  func(in activities.WithdrawInput) error // nil: at once
	withdrawn []string                                // folders whose batches were taken back
}

func newWorld(bits int, rows int64) *world {
	return &world{
		bits: bits, rows: rows, receipts: map[string]map[int]dataset.Receipt{}, datasets: map[string]dataset.Ref{}, committed: map[string]bool{},
		records: map[string]json.RawMessage{}, digest: func(dir string) string { return dir },
	}
}

func (w *world) env(t *testing.T) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	// A machine that stands still for some seconds is no deadlock.
	env.SetTestTimeout(time.Minute).SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute})
	Register(env)
	env.RegisterActivity(&fakeStages{w})
	env.RegisterActivity(&fakeSets{w})
	env.RegisterActivity(&fakeSources{w})
	if w.near == nil {
		w.near = newFakeNear(w, 1)
	}
	env.RegisterActivity(w.near)
	env.RegisterActivity(&fakeTrainers{w})
	env.RegisterActivity(&fakeRuns{w})
	env.RegisterActivity(&fakeEvals{w})
	return env
}

// done commits a partition.
func (w *world) done(dir string, p int, input, kept, calls int64) activities.PartitionResult {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.receipts[dir] == nil {
		w.receipts[dir] = map[int]dataset.Receipt{}
	}
	r, ok := w.receipts[dir][p]
	if !ok {
		r = dataset.Receipt{
			Partition: p, Input: input, Rows: kept, Rejected: input - kept, Usage: dataset.Usage{Calls: calls},
			Histogram: map[string]int64{"5": kept},
		}
		w.receipts[dir][p] = r
	}
	return activities.PartitionResult{Receipt: r, Done: true, Spending: activities.Spending{Spent: r.Usage}}
}

// join adds a receipt to a summary.
func join(s dataset.RangeSummary, r dataset.Receipt) dataset.RangeSummary {
	s.Input += r.Input
	s.Rows += r.Rows
	s.Rejected += r.Rejected
	s.Usage = s.Usage.Add(r.Usage)
	s.Histogram = addHistograms(s.Histogram, r.Histogram)
	return s
}

type fakeStages struct{ w *world }

func (f *fakeStages) AskPartition(_ context.Context, work stage.Work) (activities.PartitionResult, error) {
	w := f.w
	w.mu.Lock()
	w.asked++
	w.inWork++
	w.most = max(w.most, w.inWork)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.inWork--
		w.mu.Unlock()
	}()
	if w.ask != nil {
		return w.ask(work)
	}
	return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
}

type fakeSets struct{ w *world }

func (f *fakeSets) FindDataset(_ context.Context, dir string) (activities.FoundDataset, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	ref, ok := f.w.datasets[dir]
	return activities.FoundDataset{Found: ok, Dataset: ref}, nil
}

func (f *fakeSets) SurveyRange(_ context.Context, in activities.SurveyInput) (activities.RangeSurvey, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	var out activities.RangeSurvey
	for p := in.From; p < in.To; p++ {
		if r, ok := f.w.receipts[in.Work.Output()][p]; ok {
			out.Partitions = append(out.Partitions, p)
			out.Standing = join(out.Standing, r)
		}
	}
	out.Committed = f.w.committed[fmt.Sprint(in.Work.Output(), in.From)]
	return out, nil
}

func (f *fakeSets) CommitRange(_ context.Context, in activities.CommitRangeInput) (dataset.RangeSummary, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	out := dataset.RangeSummary{From: in.From, To: in.To}
	for p := in.From; p < in.To; p++ {
		r, ok := f.w.receipts[in.Dir][p]
		if !ok {
			return out, fmt.Errorf("%s: partition %d is missing", in.Dir, p)
		}
		out = join(out, r)
	}
	f.w.committed[fmt.Sprint(in.Dir, in.From)] = true
	return out, nil
}

func (f *fakeSets) CommitDataset(_ context.Context, in activities.CommitDatasetInput) (dataset.Ref, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	dir := in.Work.Output()
	ref := dataset.Ref{Kind: in.Manifest.Kind, Dir: dir, Bits: in.Manifest.Bits, Digest: f.w.digest(dir)}
	for _, r := range in.Ranges {
		ref.Rows += r.Rows
		ref.Rejected += r.Rejected
	}
	f.w.datasets[dir] = ref
	return ref, nil
}

func (f *fakeSets) PairCalibration(_ context.Context, in activities.CalibrationInput) (dataset.Ref, error) {
	if in.Seeds.Rows < 2 {
		return dataset.Ref{}, nil
	}
	return dataset.Ref{Kind: dataset.KindCandidates, Dir: in.Output, Rows: 2 * int64(in.Pairs), Digest: "pairs"}, nil
}

func (f *fakeSets) MeasureCalibration(_ context.Context, in activities.MeasureInput) (eval.Calibration, error) {
	c := f.w.judge
	c.Threshold, c.OnTraining = in.Threshold, in.OnTraining
	return c, nil
}

func (f *fakeSets) SelectPartition(_ context.Context, s activities.SelectWork) (activities.PartitionResult, error) {
	if f.w.selects != nil {
		f.w.selects(s)
	}
	return f.w.done(s.Output, s.Partition, f.w.rows, f.w.rows, 0), nil
}

func (f *fakeSets) ExportTraining(_ context.Context, in activities.ExportInput) (activities.Exported, error) {
	return activities.Exported{Key: in.Key, Examples: in.Training.Rows, Digest: in.Training.Digest}, nil
}

type fakeSources struct{ w *world }

func (f *fakeSources) ListSources(context.Context, activities.ListInput) (activities.Listing, error) {
	return activities.Listing{Tasks: 3}, nil
}

func (f *fakeSources) PinEvaluation(_ context.Context, in activities.EvaluationInput) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.pinned = append(f.w.pinned, in)
	return nil
}
func (f *fakeSources) MapSources(context.Context, activities.MapInput) error { return nil }
func (f *fakeSources) PlanPartitions(context.Context, activities.PlanInput) (activities.MergePlan, error) {
	return activities.MergePlan{Bits: f.w.bits}, nil
}

func (f *fakeSources) MergePartition(_ context.Context, m activities.MergeWork) (activities.PartitionResult, error) {
	return f.w.done(m.Output, m.Partition, f.w.rows, f.w.rows, 0), nil
}
func (f *fakeSources) RemoveSpills(context.Context, string) error { return nil }

type fakeTrainers struct{ w *world }

func (f *fakeTrainers) SubmitFinetune(_ context.Context, in activities.SubmitInput) (activities.TrainingJob, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.jobs = append(f.w.jobs, fmt.Sprintf("%s/%d", in.Name, in.Attempt))
	f.w.submits = append(f.w.submits, in)
	job := activities.TrainingJob{ID: in.Name, Trainer: in.Model.Trainer, Queue: "selfalign-train"}
	if f.w.host != "" {
		job.Host, job.HostTimeout, job.Artifacts = f.w.host, time.Hour, "runs/demo/a"
	}
	if f.w.serves != nil {
		job.ServeQueue = "selfalign-control"
	}
	return job, nil
}

func (f *fakeTrainers) PollFinetune(_ context.Context, in activities.PollInput) (activities.TrainingStatus, error) {
	if f.w.poll != nil {
		return f.w.poll(in)
	}
	return activities.TrainingStatus{Status: finetune.Status{State: finetune.StateSucceeded, Model: "ft-" + in.Job.ID}, Done: true}, nil
}

func (f *fakeTrainers) CancelFinetune(_ context.Context, job activities.TrainingJob) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.cancels = append(f.w.cancels, job.ID)
	return nil
}

func (f *fakeTrainers) DeployModel(_ context.Context, in activities.DeployInput) (dataset.ModelRef, error) {
	if f.w.serves != nil {
		return f.w.serves.deploy(in)
	}
	return dataset.ModelRef{Provider: "p", Name: in.Status.Model, Revision: in.Status.Model}, nil
}

func (f *fakeTrainers) TeardownModel(_ context.Context, in activities.DeployInput) error {
	return f.w.serves.tearDown(in)
}

type fakeRuns struct{ w *world }

func (f *fakeRuns) Preflight(context.Context, config.Run) error { return nil }
func (f *fakeRuns) PreflightEvaluation(_ context.Context, in activities.EvaluationCheck) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.checks = append(f.w.checks, in)
	return nil
}

func (f *fakeRuns) TryJudge(_ context.Context, in activities.EvaluationCheck) error {
	if f.w.tryJudge != nil {
		return f.w.tryJudge(in.Judge)
	}
	return nil
}

func (f *fakeRuns) ModelAnswers(_ context.Context, m dataset.ModelRef) (bool, error) {
	return f.w.serves.has(m.Name), nil
}

func (f *fakeRuns) SaveRecord(_ context.Context, in activities.RecordInput) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.records[path.Join(in.Run, in.Name)] = in.Body
	return nil
}

func (f *fakeRuns) WriteReport(_ context.Context, in activities.ReportInput) (string, error) {
	return "s3://bucket/" + activities.ReportKey(in.Known.Run), nil
}

// spec is a run of two iterations that does not try its judges out.
func spec() config.Run {
	s := config.DefaultRun()
	s.Rate.Calibration.Pairs = 0
	s.Name = "demo"
	s.Model = config.Model{Base: "base", Provider: "p", Trainer: "tuner", Server: "tuner"}
	return s
}

// play runs SelfTrain from execution to execution until it ends for good.
func (w *world) play(t *testing.T, spec config.Run, during func(env *testsuite.TestWorkflowEnvironment, iteration int)) (Status, error) {
	t.Helper()
	in := SelfTrainInput{Spec: spec, Digest: "spec", Queue: "selfalign", Withdraw: true, Clean: !w.old}
	for range 10 {
		env := w.env(t)
		iteration := 0
		if in.Resume != nil {
			iteration = in.Resume.Iteration
		}
		if during != nil {
			during(env, iteration)
		}
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: spec.Name})
		env.ExecuteWorkflow(SelfTrain, in)
		if !env.IsWorkflowCompleted() {
			t.Fatal("the workflow did not end")
		}
		var next *workflow.ContinueAsNewError
		err := env.GetWorkflowError()
		if errors.As(err, &next) {
			in = SelfTrainInput{}
			if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &in); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var status Status
		if err == nil {
			if err := env.GetWorkflowResult(&status); err != nil {
				t.Fatal(err)
			}
		}
		return status, err
	}
	t.Fatal("the run goes on for ever")
	return Status{}, nil
}
