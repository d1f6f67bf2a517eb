package activities

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/dataset"
)

// Every scored answer is kept or rejected once, the best of a prompt is the one that scored highest, and a pair of preferences is
// two answers of different scores.
func TestKeepAccountsForEveryAnswer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		answers := map[string][]dataset.Scored{}
		var prompts []string
		all := 0
		for p := range rapid.IntRange(1, 5).Draw(t, "prompts") {
			id := dataset.PromptID(string(rune('a' + p)))
			prompts = append(prompts, id)
			for sample := range rapid.IntRange(1, 4).Draw(t, "samples") {
				score := float64(rapid.IntRange(2, 10).Draw(t, "score")) / 2
				answers[id] = append(answers[id], dataset.Scored{
					ID: dataset.ResponseID(id, sample+1), PromptID: id, Sample: int32(sample + 1), Score: score, Generation: string(rune('A' + sample)),
				})
				all++
			}
			slices.SortStableFunc(answers[id], better)
		}
		w := KeepWork{Best: rapid.Bool().Draw(t, "best"), MinScore: float64(rapid.IntRange(0, 5).Draw(t, "min")), MinGap: float64(rapid.IntRange(0, 4).Draw(t, "gap"))}
		out := kept(prompts, answers, w)
		if len(out.rows)+len(out.rejects) != all {
			t.Fatalf("%d kept, %d rejected of %d", len(out.rows), len(out.rejects), all)
		}
		seen := map[string]bool{}
		for _, r := range out.rows {
			if r.Score < w.MinScore || (w.Best && (seen[r.PromptID] || r.Score < answers[r.PromptID][0].Score)) {
				t.Fatalf("kept %+v", r)
			}
			seen[r.PromptID] = true
		}
		pairs := preferences(prompts, answers, w)
		if len(pairs.rows)+len(pairs.rejects) != len(prompts) {
			t.Fatalf("%d pairs, %d rejected of %d prompts", len(pairs.rows), len(pairs.rejects), len(prompts))
		}
		for _, p := range pairs.rows {
			if p.ChosenScore <= p.RejectedScore || p.ChosenScore-p.RejectedScore < w.MinGap || p.Chosen == p.Rejected {
				t.Fatalf("pair %+v", p)
			}
		}
	})
}
