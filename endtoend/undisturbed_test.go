package endtoend

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

const iterations = 2

// reference holds the digests of the undisturbed run, with which every other run is compared.
var reference struct {
	sync.Once
	digests map[string]string
	answers int // to rows' questions
}

// mustReference returns the digests of the undisturbed run, which is done first where the test for it was left out.
func mustReference(t *testing.T) map[string]string {
	t.Helper()
	reference.Do(func() { undisturbed(t) })
	if reference.digests == nil {
		t.Fatal("there is no undisturbed run to compare with: it failed")
	}
	return reference.digests
}

// TestUndisturbed is a run from end to end, as a user has it.
func TestUndisturbed(t *testing.T) { //nolint:paralleltest // it goes first, alone: others compare with it
	reference.Do(func() { undisturbed(t) })
}

func undisturbed(t *testing.T) {
	l := newLab(t)
	l.work(wiring{})
	l.start("budget.usd=5", "budget.calls=3000")
	seen := l.finished()
	st := l.client.Store
	reference.digests = digests(t, st)
	require.Empty(t, leftovers(t, st))
	reference.answers, _ = readAccount(t, l.stack.PocketDir).answered()

	l.checkStatus(seen)
	checkLineage(t, st)
	checkRows(t, st)
	l.checkCost(seen)
	l.checkReport()
	l.checkSecrets(runName)
	l.submitted(iterations)
	require.Zero(t, readAccount(t, l.stack.PocketDir).repeated(t, nil), "answered chat requests asked twice")

	all := l.executions(runName)
	for _, e := range all {
		require.Less(t, len(e.history.GetEvents()), 4096, e.id)
		require.Less(t, e.payloads(), 200<<10, "bytes of payloads in the history of %s", e.id)
	}
	types := map[string]int{}
	for _, e := range all {
		types[e.kind]++
	}
	require.Equal(t, map[string]int{
		workflows.TypeSelfTrain: 3, workflows.TypeIngest: 2, workflows.TypeFinetune: 4,
		workflows.TypeNearDuplicates: 1,
		workflows.TypeStage:          11, workflows.TypeRange: 11, // two merges, one without near-duplicates, three selections, candidates, and twice ratings and a calibration
	}, types)
	require.Eventually(t, func() bool { // visibility follows with a delay
		under, err := l.client.Temporal.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{
			Query: fmt.Sprintf(`%s = %q`, workflows.AttributeRun.GetName(), runName),
		})
		return err == nil && under.Count == int64(len(all))
	}, 2*time.Minute, 100*time.Millisecond, "workflows found under the run")
	record(t, "undisturbed", all)
}

func (l *lab) checkStatus(seen runs.Seen) {
	t := l.t
	t.Helper()
	require.Equal(t, iterations, seen.Iteration)
	require.Len(t, seen.Sets, iterations)
	require.False(t, seen.Distilled)
	for _, s := range seen.Stages {
		require.Equal(t, workflows.StageDone, s.State, s.Key)
		require.Equal(t, s.Total, s.Done, s.Key)
		require.False(t, s.StartedAt.IsZero() || s.EndedAt.Before(s.StartedAt), s.Key)
	}
	for _, key := range []string{
		"00 preflight", "00 ingest seeds", "00 ingest segments", "00 select", "00 train myx", "00 train m0", "00 augment",
		"01 rate", "01 select", "01 train m1", "02 rate", "02 select", "02 train m2",
	} {
		require.NotEmpty(t, stage(seen, key).Key, key)
	}
	require.Empty(t, stage(seen, "01 augment").Key, "a model that rates itself has A written once")
	for i, set := range seen.Sets {
		require.Greater(t, len(set.Histogram), 2, "ratings of iteration %d are all alike: %v", i+1, set.Histogram)
		require.Positive(t, set.Selected)
		require.Less(t, set.Selected, set.Ratings.Rows)
		require.Equal(t, "rate", strings.Fields(stage(seen, fmt.Sprintf("%02d rate", i+1)).Name)[0])
	}
	require.NotEqual(t, seen.Sets[0].Ratings.Digest, seen.Sets[1].Ratings.Digest, "round 2 rates as round 1 did")
	require.NotEqual(t, seen.Sets[0].Training.Digest, seen.Sets[1].Training.Digest, "round 2 selects what round 1 did")
	require.NotEqual(t, seen.Sets[0].Judge, seen.Sets[1].Judge)
	require.Equal(t, seen.Sets[0].Model, seen.Sets[1].Judge, "M1 rates in iteration 2")
}

// checkLineage checks every manifest: the balance of rows, and what each dataset was made from.
func checkLineage(t *testing.T, st *blob.Store) {
	t.Helper()
	manifests, refs := map[string]dataset.Manifest{}, map[string]dataset.Ref{}
	for _, name := range sets(t, st) {
		m, ref, err := dataset.Open(t.Context(), st, setDir(name))
		require.NoError(t, err)
		manifests[name], refs[name] = m, ref
		require.Equal(t, m.Input, m.Rows+m.Rejected, name)
		require.Equal(t, runName, m.Run)
		if !strings.Contains(name, "calibration") { // a handful of pairs
			require.GreaterOrEqual(t, ref.Partitions(), 8, name)
		}
		reasons := int64(0)
		for _, n := range m.Reasons {
			reasons += n
		}
		require.Equal(t, m.Rejected, reasons, name)
		turned := int64(0)
		for r, err := range dataset.RejectsOf(t.Context(), st, ref) {
			require.NoError(t, err)
			require.NotEmpty(t, r.Reason)
			turned++
		}
		require.Equal(t, m.Rejected, turned, name)
	}
	parents := func(name string, want ...string) {
		t.Helper()
		var refsOf []dataset.Ref
		for _, p := range want {
			refsOf = append(refsOf, refs[p])
		}
		require.Equal(t, refsOf, manifests[name].Parents, name)
		input := int64(0)
		for _, r := range refsOf {
			input += r.Rows
		}
		require.Equal(t, input, manifests[name].Input, "%s: rows that went in", name)
	}
	parents("00/training", "00/seeds")
	parents("00/candidates", "00/segments")
	for i := 1; i <= iterations; i++ {
		parents(fmt.Sprintf("%02d/ratings", i), "00/candidates")
		parents(fmt.Sprintf("%02d/training", i), "00/seeds", fmt.Sprintf("%02d/ratings", i))
		require.NotEmpty(t, manifests[fmt.Sprintf("%02d/ratings", i)].Fingerprint)
		require.Equal(t, i, manifests[fmt.Sprintf("%02d/ratings", i)].Iteration)
	}
	require.Positive(t, manifests["00/segments"].Rejected, "the corpus holds pages that are no use")
	require.NotNil(t, manifests["00/candidates"].Model)
}

// checkRows follows rows through the datasets.
func checkRows(t *testing.T, st *blob.Store) {
	t.Helper()
	segments := map[string]dataset.Segment{}
	for _, s := range rowsOf[dataset.Segment](t, st, "00/segments") {
		require.NotEmpty(t, s.Source)
		segments[s.ID] = s
	}
	seeds := map[string]dataset.Seed{}
	for _, s := range rowsOf[dataset.Seed](t, st, "00/seeds") {
		seeds[s.ID] = s
	}
	m, _, err := dataset.Open(t.Context(), st, setDir("00/candidates"))
	require.NoError(t, err)
	candidates := map[string]dataset.Candidate{}
	for _, c := range rowsOf[dataset.Candidate](t, st, "00/candidates") {
		s := segments[c.ID]
		require.Equal(t, []any{s.Text, s.Source, s.Document, s.Offset}, []any{c.Output, c.Source, c.Document, c.Offset})
		require.NotEmpty(t, c.Instruction)
		require.Equal(t, m.Model.Revision, c.Generator)
		require.True(t, strings.HasPrefix(c.Prompt, prompt.Backtranslate+"@"), c.Prompt)
		candidates[c.ID] = c
	}
	for i := 1; i <= iterations; i++ {
		ratings := map[string]dataset.Rating{}
		m, _, err := dataset.Open(t.Context(), st, setDir(fmt.Sprintf("%02d/ratings", i)))
		require.NoError(t, err)
		for _, r := range rowsOf[dataset.Rating](t, st, fmt.Sprintf("%02d/ratings", i)) {
			c := candidates[r.ID]
			require.Equal(t, []any{c.Instruction, c.Output, c.Generator, c.Prompt, c.Source}, []any{r.Instruction, r.Output, r.Generator, r.Prompt, r.Source})
			require.True(t, r.Score >= 1 && r.Score <= 5)
			require.Equal(t, int32(i), r.Iteration)
			require.Equal(t, m.Model.Revision, r.Judge)
			require.True(t, strings.HasPrefix(r.JudgePrompt, prompt.Rate+"@"), r.JudgePrompt)
			ratings[r.ID] = r
		}
		fromSeeds, augmented := 0, 0
		for _, e := range rowsOf[dataset.Example](t, st, fmt.Sprintf("%02d/training", i)) {
			switch e.Origin {
			case dataset.OriginSeed:
				fromSeeds++
				require.Equal(t, prompt.TagSeed, e.System)
				require.Equal(t, []string{seeds[e.ID].Instruction, seeds[e.ID].Output}, []string{e.Instruction, e.Output})
			case dataset.OriginAugmented:
				augmented++
				r := ratings[e.ID]
				require.Equal(t, prompt.TagAugmented, e.System)
				require.GreaterOrEqual(t, e.Score, 4.0)
				require.Equal(t, []any{r.Instruction, r.Output, r.Score, r.Reason, r.Judge, r.Generator, r.Source}, []any{e.Instruction, e.Output, e.Score, e.Reason, e.Judge, e.Generator, e.Source})
			default:
				t.Fatalf("origin %q", e.Origin)
			}
		}
		require.Len(t, seeds, fromSeeds, "every seed is in every training set")
		want := 0
		for _, r := range ratings {
			if r.Score >= 4 {
				want++
			}
		}
		require.Equal(t, want, augmented)
	}
}

// checkCost compares three accounts of the same calls: the run's status, the manifests, and the model server's journal.
func (l *lab) checkCost(seen runs.Seen) {
	t := l.t
	t.Helper()
	var asked dataset.Usage
	for _, s := range seen.Stages {
		asked = asked.Add(s.Usage)
	}
	require.Equal(t, seen.Spent, asked)
	require.Zero(t, seen.InDoubt)
	var paid dataset.Usage
	for _, name := range sets(t, l.client.Store) {
		m, _, err := dataset.Open(t.Context(), l.client.Store, setDir(name))
		require.NoError(t, err)
		for _, r := range m.Ranges {
			paid = paid.Add(r.Usage)
			require.Zero(t, r.InDoubt, name)
		}
	}
	answers, _ := readAccount(t, l.stack.PocketDir).answered()
	require.Equal(t, int64(answers), paid.Calls)
	require.Equal(t, paid.Calls, seen.Spent.Calls)
	require.Equal(t, paid.PromptTokens+2*paid.CompletionTokens, paid.MicroUSD, "1 and 2 dollars a million tokens")
	require.Greater(t, seen.Spent.MicroUSD, paid.MicroUSD, "training is not free here")
	require.LessOrEqual(t, seen.Spent.Calls, seen.Budget.Calls)
	require.LessOrEqual(t, float64(seen.Spent.MicroUSD), seen.Budget.USD*1e6)
	require.Zero(t, seen.Spent.UnknownPrice)
}

// elsewhere finds what a page would load from outside itself.
var elsewhere = regexp.MustCompile(`(?i)<script[^>]*\ssrc|<link[^>]*\shref\s*=\s*["']?(?:[^"'d]|d[^a])|<iframe|<object|<embed|\ssrc\s*=\s*["']?(?:https?:)?//|@import|url\(\s*["']?(?:https?:)?//`)

func (l *lab) checkReport() {
	t := l.t
	t.Helper()
	body, err := l.client.Store.Get(t.Context(), "runs/"+runName+"/report.html")
	require.NoError(t, err)
	page := string(body)
	require.Greater(t, len(page), 10_000)
	require.Empty(t, elsewhere.FindString(page), "a report is one page that opens offline")
	require.Contains(t, page, "</html>")
	require.Contains(t, page, "Iteration 2")
	require.Contains(t, page, workflows.PhaseCompleted)
}
