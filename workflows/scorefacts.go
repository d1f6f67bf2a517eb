package workflows

import (
	"fmt"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/publish"
)

// ScoreFacts are what the card of a generate-and-score run says beyond its manifests; results are those of its Status.
func ScoreFacts(s config.Score, results []dataset.Ref) publish.Facts {
	f := publish.Facts{
		Title: s.Name, Run: s.Name, Distilled: true,
		About: "Answers to instructions, each with a score from 1 to 5 and the reason for it, as in the curation step of " +
			"[Self-Alignment with Instruction Backtranslation](https://arxiv.org/abs/2308.06259).",
		Sources: []string{"Prompts: " + s.Load.Address()},
	}
	f.Method = append(f.Method, "Instructions were loaded from "+s.Load.Address()+"; exact duplicates were dropped.")
	if g := s.Generate; g != nil {
		f.Method = append(f.Method, fmt.Sprintf("%s answered each (answers to each: %d, temperature %g, at most %d tokens).", g.Model, g.NumGenerations, g.Temperature, g.MaxTokens))
		if g.KeepTruncated {
			f.Method = append(f.Method, "Answers that reached that length were kept as they are.")
		}
		f.Models = append(f.Models, hub.CardModel{Role: "answers", Name: g.Model, Revision: g.Provider})
	}
	f.Models = append(f.Models, hub.CardModel{Role: "scores", Name: s.Score.Model, Revision: s.Score.Provider})
	f.Method = append(f.Method, fmt.Sprintf("%s scored each pair from 1 to 5 and gave a reason (method %s, rubric %s, mean of %d).", s.Score.Model, s.Score.Method, s.Score.Rubric, s.Score.Samples))
	kept := "All scored answers were kept"
	if activities.KeepBest(s.Keep) {
		kept = "The best answer to each instruction was kept"
	}
	if s.Keep.MinScore > 0 {
		kept += fmt.Sprintf(", where its score is %g or more", s.Keep.MinScore)
	}
	f.Method = append(f.Method, kept+".")
	names := map[dataset.Kind]string{
		dataset.KindPrompts: "load", dataset.KindResponses: "generate", dataset.KindRatings: "score",
		dataset.KindCurated: "keep", dataset.KindPreferences: "preferences",
	}
	seen := map[string]bool{}
	for _, ref := range results {
		name := names[ref.Kind]
		if seen[name] {
			name = "scored"
		}
		if seen[ref.Dir] {
			continue
		}
		seen[name], seen[ref.Dir] = true, true
		if ref.Kind == dataset.KindRatings {
			f.Scores = ref
		}
		f.Steps = append(f.Steps, publish.Step{Name: name, Dataset: ref})
	}
	if hub := s.Push.Hub; hub != nil {
		f.License, f.Languages = hub.License, hub.Languages
		f.Sources = append(f.Sources, hub.Sources...)
	}
	return f
}
