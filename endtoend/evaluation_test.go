package endtoend

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// TestEvaluated is a run that evaluates each of its models and compares it with the one before on held-out seeds, and an evaluation
// of it that is asked for by itself, in the middle of which the worker is killed.
func TestEvaluated(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.work(wiring{})
	const contest = ", limit: 12, answers: {max_tokens: 64, in_flight: 8}, compare: {max_tokens: 96, in_flight: 8}}"
	l.start("gate={holdout: 6, policy: continue"+contest, "evaluate={prompts: [{path: seeds.jsonl}], against: previous"+contest)
	seen := l.finished()
	require.Equal(t, workflows.EndedIterations, seen.EndedBy)
	require.NotNil(t, seen.Result)
	require.Len(t, seen.Sets, iterations)
	st := l.client.Store
	for i, set := range seen.Sets {
		require.NotNil(t, set.Evaluation)
		require.EqualValues(t, 12, set.Evaluation.Prompts)
		require.Equal(t, set.Evaluation.N, set.Evaluation.Wins+set.Evaluation.Draws+set.Evaluation.Losses)
		require.NotNil(t, set.Gate)
		require.EqualValues(t, 6, set.Gate.Prompts)
		require.True(t, set.Gate.SelfJudged)
		_, rows, err := dataset.Open(t.Context(), st, set.Evaluation.Outcomes)
		require.NoError(t, err)
		require.EqualValues(t, 12, rows.Rows)
		require.Equal(t, i > 0, set.Drift != nil)
		body, err := st.Get(t.Context(), set.Evaluation.Key)
		require.NoError(t, err)
		require.Contains(t, string(body), `"standard_error"`)
		held := 0
		for x, err := range dataset.RejectsOf(t.Context(), st, set.Training) {
			require.NoError(t, err)
			if x.Reason == "held_out" {
				held++
			}
		}
		require.Equal(t, 6, held)
	}
	// What the run asked of its last model, asked by itself: the same answers, unpaid.
	same := config.DefaultEvaluation()
	same.Name, same.Run, same.Limit = "as-the-run", runName, 12
	same.Model.Iteration, same.Baseline.Iteration, same.Judge.Iteration = 2, 1, 1
	same.Prompts = []config.Source{{Path: filepath.Join(l.dir, "spec", "seeds.jsonl"), Format: "auto"}}
	same.Answers.MaxTokens, same.Compare.MaxTokens = 64, 96
	in, err := l.client.PrepareEvaluation(t.Context(), same, l.dir, func(runs.UploadProgress) {})
	require.NoError(t, err)
	_, err = l.client.StartEvaluation(t.Context(), in)
	require.NoError(t, err)
	again := l.ended(workflows.EvaluationID(same))
	require.Equal(t, seen.Sets[1].Evaluation.WinRate, again.Evaluation.WinRate)
	require.Zero(t, again.Spent.Calls, "every answer was known")

	l.misbehave(pocketlm.Faults{Latency: 100})
	spec := config.DefaultEvaluation()
	spec.Name, spec.Run = "by-itself", runName
	spec.Model.Iteration, spec.Baseline.Iteration, spec.Judge.Iteration = 2, 0, 1
	spec.Prompts, spec.Tags = []config.Source{{Path: filepath.Join(l.dir, "spec", "seeds.jsonl"), Format: "auto"}}, config.TagsNone
	spec.Answers.InFlight, spec.Compare.InFlight, spec.Answers.MaxTokens = 2, 2, 64
	in, err = l.client.PrepareEvaluation(t.Context(), spec, l.dir, func(runs.UploadProgress) {})
	require.NoError(t, err)
	started, err := l.client.StartEvaluation(t.Context(), in)
	require.NoError(t, err)
	require.True(t, started.New)
	id := workflows.EvaluationID(spec)
	before := l.answers()
	require.Eventually(t, func() bool { return l.answers() > before+10 }, patience, 20*time.Millisecond)
	l.kill("worker")
	result := l.ended(id)
	require.EqualValues(t, 30, result.Evaluation.Prompts)
	require.Equal(t, "M2", result.Evaluation.Model)
	// Again: it is found, and nothing is asked.
	before = l.answers()
	started, err = l.client.StartEvaluation(t.Context(), in)
	require.NoError(t, err)
	require.False(t, started.New)
	require.Equal(t, workflows.PhaseCompleted, started.Phase)
	require.Equal(t, before, l.answers())

	described, err := l.client.Temporal.DescribeWorkflowExecution(t.Context(), id, "")
	require.NoError(t, err)
	all := append(l.executions(runName), l.walk(id, described.GetWorkflowExecutionInfo().GetFirstRunId())...)
	record(t, "evaluated", slices.DeleteFunc(all, func(e execution) bool {
		return e.kind != workflows.TypeSelfTrain && e.kind != workflows.TypeEvaluate
	}))
}

// ended waits for the end of an evaluation, which must be a good one.
func (l *lab) ended(id string) (seen runs.Seen) {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		var err error
		seen, err = l.client.Status(l.t.Context(), id)
		return err == nil && seen.Ended()
	}, patience, 100*time.Millisecond)
	require.Equal(l.t, workflows.PhaseCompleted, seen.Phase, seen.Message)
	return seen
}
