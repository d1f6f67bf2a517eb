package activities

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/internal/stage"
)

func ratingRows(scores ...float64) (rows []dataset.Rating) {
	for i, score := range scores {
		text := fmt.Sprintf("Text %d <&> \"quoted\"\nand a second line.", i)
		rows = append(rows, dataset.Rating{
			ID: dataset.SegmentID(text), Instruction: fmt.Sprintf("Ask %d", i), Output: text, Score: score, Scores: []float64{score}, Iteration: 1,
			Judge: "m0", Source: "s", Document: "d", Offset: int64(i),
		})
	}
	return rows
}

// selectAll makes a training set of 2^bits partitions.
func selectAll(t *testing.T, sets *Sets, w SelectWork) dataset.Ref {
	t.Helper()
	env := activityEnv(t, sets)
	for p := range 1 << w.Bits {
		w.Partition = p
		for range 2 { // the second attempt finds what the first one made
			value, err := env.ExecuteActivity("SelectPartition", w)
			var got PartitionResult
			if err != nil || value.Get(&got) != nil || !got.Done {
				t.Fatalf("partition %d: %+v, %v", p, got, err)
			}
		}
	}
	all, err := sets.CommitRange(t.Context(), CommitRangeInput{Dir: w.Output, From: 0, To: 1 << w.Bits})
	if err != nil {
		t.Fatal(err)
	}
	m := dataset.Manifest{Kind: dataset.KindTraining, Bits: w.Bits, Iteration: w.Iteration, Input: w.Seeds.Rows + w.Ratings.Rows}
	ref, err := sets.CommitDataset(t.Context(), CommitDatasetInput{Work: Work{Select: &w}, Manifest: m, Ranges: []dataset.RangeSummary{all}})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// D ∪ A_k: every seed tagged S_a, every pair that reaches the threshold tagged S_w, and the rest rejected with its score.
func TestSelection(t *testing.T) {
	t.Parallel()
	sets := &Sets{Store: s3test.Store(t)}
	seeds := writeOne(t, sets.Store, dataset.KindSeeds, "seeds", seedRows(5), dataset.Receipt{})
	ratings := writeOne(t, sets.Store, dataset.KindRatings, "ratings", ratingRows(5, 4.5, 4.4999, 1, 4.5), dataset.Receipt{})
	ref := selectAll(t, sets, SelectWork{Seeds: seeds, Ratings: ratings, Threshold: 4.5, Iteration: 1, Output: "out", Bits: 2})
	if ref.Rows != 8 || ref.Rejected != 2 {
		t.Fatalf("%d rows and %d rejected, want 8 and 2", ref.Rows, ref.Rejected)
	}
	tags := map[string]string{dataset.OriginSeed: prompt.TagSeed, dataset.OriginAugmented: prompt.TagAugmented}
	seen := map[string]int{}
	for row, err := range dataset.Rows[dataset.Example](t.Context(), sets.Store, ref) {
		if err != nil {
			t.Fatal(err)
		}
		seen[row.Origin]++
		if row.System != tags[row.Origin] || row.Origin == dataset.OriginAugmented && (row.Score < 4.5 || row.Judge != "m0" || row.Iteration != 1) {
			t.Errorf("%+v", row)
		}
	}
	if d := cmp.Diff(map[string]int{dataset.OriginSeed: 5, dataset.OriginAugmented: 3}, seen); d != "" {
		t.Error(d)
	}
	for r, err := range dataset.RejectsOf(t.Context(), sets.Store, ref) {
		if err != nil || r.Reason != "below_threshold" || !strings.HasPrefix(r.Detail, "score ") || !strings.HasSuffix(r.Detail, " of 4.5") || r.Instruction == "" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	found, err := sets.FindDataset(t.Context(), "out")
	if err != nil || !found.Found || found.Dataset != ref || found.Totals.Input != 10 {
		t.Errorf("found %+v, %v", found, err)
	}
	if found, err := sets.FindDataset(t.Context(), "elsewhere"); err != nil || found.Found {
		t.Errorf("found %+v, %v", found, err)
	}
}

// Equal rows give an equal digest, whatever the run is called: that is how a run knows that it converged.
func TestEqualSelectionsHaveOneDigest(t *testing.T) {
	t.Parallel()
	sets := &Sets{Store: s3test.Store(t)}
	seeds := writeOne(t, sets.Store, dataset.KindSeeds, "seeds", seedRows(5), dataset.Receipt{})
	digest := map[string]string{}
	for dir, scores := range map[string][]float64{"a": {5, 1, 5}, "b": {5, 3, 5}, "c": {5, 5, 5}} {
		ratings := writeOne(t, sets.Store, dataset.KindRatings, "ratings-"+dir, ratingRows(scores...), dataset.Receipt{})
		digest[dir] = selectAll(t, sets, SelectWork{Seeds: seeds, Ratings: ratings, Threshold: 4.5, Output: dir, Bits: 1}).Digest
	}
	if digest["a"] != digest["b"] || digest["a"] == digest["c"] {
		t.Errorf("%v: want a as b, and c another", digest)
	}
}

func export(t *testing.T, sets *Sets, in ExportInput) (Exported, [][]chatMessage, string) {
	t.Helper()
	value, err := activityEnv(t, sets).ExecuteActivity("ExportTraining", in)
	var out Exported
	if err != nil || value.Get(&out) != nil {
		t.Fatal(err)
	}
	body, err := sets.Store.Get(t.Context(), in.Key)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]chatMessage
	for line := range strings.Lines(string(body)) {
		var e chatExample
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e.Messages)
	}
	return out, all, string(body)
}

// A training file is the same bytes each time: its digest names the model. Forward it tags by source; reversed it asks by
// the very prompt that inference uses.
func TestTrainingFiles(t *testing.T) {
	t.Parallel()
	sets := &Sets{Store: s3test.Store(t)}
	seeds := writeOne(t, sets.Store, dataset.KindSeeds, "seeds", seedRows(4), dataset.Receipt{})
	ratings := writeOne(t, sets.Store, dataset.KindRatings, "ratings", ratingRows(5, 5), dataset.Receipt{})
	training := selectAll(t, sets, SelectWork{Seeds: seeds, Ratings: ratings, Threshold: 4.5, Output: "out", Bits: 2})

	first, messages, body := export(t, sets, ExportInput{Training: training, Key: "one.jsonl"})
	second, _, again := export(t, sets, ExportInput{Training: training, Key: "two.jsonl"})
	if first.Digest != second.Digest || body != again || first.Examples != 6 || len(messages) != 6 {
		t.Errorf("%+v and %+v", first, second)
	}
	tags := map[string]int{}
	for _, m := range messages {
		if len(m) != 3 || m[0].Role != "system" || m[1].Role != "user" || m[2].Role != "assistant" || m[1].Content == "" || m[2].Content == "" {
			t.Fatalf("%+v", m)
		}
		tags[m[0].Content]++
	}
	if d := cmp.Diff(map[string]int{prompt.TagSeed: 4, prompt.TagAugmented: 2}, tags); d != "" {
		t.Error(d)
	}
	if strings.Contains(body, `\u003c`) {
		t.Error("signs of HTML are escaped, which costs tokens")
	}

	reversed, messages, _ := export(t, sets, ExportInput{Training: training, Reversed: true, Key: "reversed.jsonl"})
	if reversed.Digest == first.Digest || reversed.Examples != 6 {
		t.Errorf("reversed %+v", reversed)
	}
	template, err := prompt.Embedded(prompt.Backtranslate)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for row, err := range dataset.Rows[dataset.Example](t.Context(), sets.Store, training) {
		if err != nil {
			t.Fatal(err)
		}
		asked, err := template.Render(prompt.Vars{Output: row.Output})
		if err != nil {
			t.Fatal(err)
		}
		got := messages[i]
		if len(got) != len(asked)+1 || got[len(got)-1] != (chatMessage{"assistant", row.Instruction}) {
			t.Fatalf("%+v", got)
		}
		for k, m := range asked {
			if got[k] != chatMessage(m) {
				t.Errorf("trained on %+v, asked with %+v", got[k], m)
			}
		}
		i++
	}
	_, err = activityEnv(t, sets).ExecuteActivity("ExportTraining", ExportInput{Training: training, Reversed: true, Prompt: "{{.Nothing}}", Key: "x"})
	if trouble, known := TroubleOf(err); !known || !strings.Contains(trouble.Way, "prompts.backtranslate") {
		t.Errorf("a template that is none: %v", err)
	}
}

// A survey tells the partitions that stand, and has nothing to say of what was not begun.
func TestSurvey(t *testing.T) {
	t.Parallel()
	sets := &Sets{Store: s3test.Store(t)}
	seeds := writeOne(t, sets.Store, dataset.KindSeeds, "seeds", seedRows(9), dataset.Receipt{})
	w := SelectWork{Seeds: seeds, Output: "out", Bits: 2, Partition: 2}
	if _, err := activityEnv(t, sets).ExecuteActivity("SelectPartition", w); err != nil {
		t.Fatal(err)
	}
	found, err := sets.SurveyRange(t.Context(), SurveyInput{Work: Work{Select: &w}, From: 0, To: 4})
	if err != nil || found.Committed || len(found.Partitions) != 1 || found.Partitions[0] != 2 || found.Partial != nil {
		t.Errorf("%+v, %v", found, err)
	}
	ask := stage.Work{Task: stage.TaskRate, Run: "r", Input: dataset.Ref{Dir: "in", Bits: 2, Rows: 9}, Output: "asked", Model: dataset.ModelRef{Name: "m"}}
	found, err = sets.SurveyRange(t.Context(), SurveyInput{Work: Work{Ask: &ask}, From: 0, To: 4})
	if err != nil || len(found.Partitions) != 0 || found.Partial != nil {
		t.Errorf("nothing begun: %+v, %v", found, err)
	}
	if _, err := sets.CommitRange(t.Context(), CommitRangeInput{Dir: "out", From: 0, To: 4}); err == nil {
		t.Error("committed a range with partitions missing")
	}
}
