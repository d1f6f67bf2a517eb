package activities

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Pairs that are rated well fall by their instruction: too long, with a word not wanted, or with an n-gram of an evaluation set.
// Off, all of them stay.
func TestInstructionRules(t *testing.T) {
	t.Parallel()
	s := newShuffle(t, dataset.KindSegments)
	st := s.sources.Store
	sets := &Sets{Store: st, Sources: s.sources}
	leak := "Which of the seven old bridges over the river was built first, and by whom was it paid for?"
	set := putAt(t, st, "eval/x.jsonl", fmt.Sprintf("{%q:%q}\n", "question", leak))
	pin := EvaluationInput{Key: "out/evaluation.json", Decontaminate: config.Decontaminate{NGram: 13, Sets: []config.EvalSet{{Name: "bridges", Path: set.Path, Format: "auto"}}}}
	for range 2 { // an attempt that comes late changes nothing
		if _, err := s.env.ExecuteActivity("PinEvaluation", pin); err != nil {
			t.Fatal(err)
		}
		pin.Decontaminate.NGram = 8
	}
	rows := ratingRows(5, 5, 5, 5, 1, 5)
	for i, said := range []string{
		"Explain thistles.", "What is “This”?", strings.Repeat("é", 501), strings.ToUpper(leak), "What is this?", strings.Repeat("é", 500),
	} {
		rows[i].Instruction = said
	}
	ratings := writeOne(t, st, dataset.KindRatings, "ratings", rows, dataset.Receipt{})
	seeds := writeOne(t, st, dataset.KindSeeds, "seeds", seedRows(2), dataset.Receipt{})
	w := SelectWork{Seeds: seeds, Ratings: ratings, Threshold: 4.5, Iteration: 1, Output: "plain", Bits: 1}
	if ref := selectAll(t, sets, w); ref.Rows != 7 || ref.Rejected != 1 {
		t.Errorf("off: %d rows, %d rejected", ref.Rows, ref.Rejected)
	}
	w.Output, w.MaxInstructionChars, w.InstructionWords, w.Evaluation = "out", 500, []string{"THIS"}, pin.Key
	ref := selectAll(t, sets, w)
	got := map[string]string{}
	for r, err := range dataset.RejectsOf(t.Context(), st, ref) {
		if err != nil {
			t.Fatal(err)
		}
		got[r.Reason] += r.Detail
	}
	want := map[string]string{
		"below_threshold": "score 1 of 4.5", "instruction_word": `"this"`, "long_instruction": "501 characters, at most 500",
		"contaminated": `bridges row 1: "which of the seven old bridges over the river was built first and"`,
	}
	if d := cmp.Diff(want, got); d != "" || ref.Rows != 4 {
		t.Errorf("%d rows; rejected (-want +got): %s", ref.Rows, d)
	}
	if n := len(s.sources.evaluation.all); n != 1 {
		t.Errorf("%d indexes for two partitions", n)
	}
}
