package stage

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
)

// Instructions that are found in an evaluation set are turned away when they are written, each set counted; the answer is paid
// for once and not asked for again, and nobody rates the pair.
func TestInstructionsOfEvaluationSets(t *testing.T) {
	t.Parallel()
	b := newBench(t, 200, 1)
	asked := ""
	b.deps.Evaluation = func(_ context.Context, key string) (EvaluationSets, error) {
		asked = key
		return EvaluationSets{Names: []string{"seven", "pair", "none"}, Find: func(text string) (sets []string, detail string) {
			if strings.Contains(text, "7") {
				sets = append(sets, "seven")
			}
			if strings.Contains(text, "77") {
				sets = append(sets, "pair")
			}
			return sets, strings.Join(sets, " and ")
		}}, nil
	}
	plain, clean := b.backtranslate("plain"), b.backtranslate("clean")
	b.run(plain)
	if asked != "" {
		t.Error("work that names no evaluation sets looked for them")
	}
	clean.Evaluation = "out/evaluation.json"
	before, _ := b.ref.counts()
	want := map[string]int64{"none": 0}
	kept := 0
	for _, c := range rowsOf[dataset.Candidate](b, plain) {
		sets, _ := must(b.deps.Evaluation(t.Context(), "")).Find(c.Instruction)
		for _, set := range sets {
			want[set]++
		}
		if len(sets) == 0 {
			kept++
		}
	}
	if want["seven"] == 0 || want["pair"] == 0 {
		t.Fatalf("the instructions of this test do not test it: %v", want)
	}
	got := map[string]int64{}
	for p, r := range b.run(clean) {
		for set, n := range r.Receipt.Contaminated {
			got[set] += n
		}
		clean.Partition = p
		for _, reject := range b.rejects(clean) {
			if reject.Reason != ReasonContaminated || reject.Stage != TaskBacktranslate || !strings.HasPrefix(reject.Detail, "seven") || reject.Instruction == "" || reject.Text == "" {
				t.Errorf("reject %+v", reject)
			}
		}
	}
	rows := rowsOf[dataset.Candidate](b, clean)
	if len(rows) != kept || !maps.Equal(got, want) || asked != clean.Evaluation {
		t.Errorf("%d rows kept of %d, found %v, want %v; asked for %q", len(rows), kept, got, want, asked)
	}
	if after, _ := b.ref.counts(); after != before {
		t.Errorf("%d calls for answers that were there", after-before)
	}
	gone := errors.New("the set cannot be read")
	b.deps.Evaluation = func(context.Context, string) (EvaluationSets, error) { return EvaluationSets{}, gone }
	clean.Output = "again"
	if r, err := Run(t.Context(), b.deps, clean, nil); !errors.Is(err, gone) || r.Done {
		t.Errorf("%+v, %v", r, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
