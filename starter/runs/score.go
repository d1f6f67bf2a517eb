package runs

import (
	"context"
	"fmt"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/workflows"
)

// PrepareScore is Prepare for the generate-and-score recipe.
func (c *Client) PrepareScore(ctx context.Context, spec config.Score, dir string, progress func(UploadProgress)) (config.Score, error) {
	var err error
	if spec.Prompts, err = InlineScorePrompts(spec.Prompts, dir); err != nil {
		return spec, err
	}
	if LocalSource(spec.Load.Path) {
		spec.Load.Path, err = c.upload(ctx, Local(dir, spec.Load.Path), progress)
	}
	return spec, err
}

// LocalSource reports whether the path of a source lies on this machine.
func LocalSource(path string) bool {
	return !strings.Contains(path, "://")
}

// InlineScorePrompts puts the texts of prompt files in the place of their paths.
func InlineScorePrompts(p config.ScorePrompts, dir string) (config.ScorePrompts, error) {
	for _, field := range []*string{&p.Respond, &p.Score} {
		if *field == "" {
			continue
		}
		text, err := readPrompt(Local(dir, *field))
		if err != nil {
			return p, err
		}
		*field = text
	}
	return p, nil
}

// StartScore is Start for the generate-and-score recipe: the same spec again finds the run that is there.
func (c *Client) StartScore(ctx context.Context, spec config.Score) (Started, error) {
	in := workflows.ScoreInput{Spec: spec, Digest: config.ScoreDigest(spec), Queue: c.Queue, Search: c.hasSearchAttributes(ctx), Withdraw: true, Some: true}
	return launch(ctx, c, spec.Name, workflows.TypeScore, in, in.Digest, scoreSummary, func(standing workflows.ScoreInput) error {
		switch {
		case standing.Digest == in.Digest:
			return nil
		case standing.Spec.Name == "": // of another workflow
			return conflict(spec.Name, nil, "of another kind")
		}
		return conflict(spec.Name, Differences(standing.Spec, spec), "of another release")
	})
}

func scoreSummary(in workflows.ScoreInput) string {
	s, answers := in.Spec, "answers of the dataset"
	if s.Generate != nil {
		answers = "answered by " + s.Generate.Model
	}
	return fmt.Sprintf("%s, %s, scored by %s", s.Load.Path, answers, s.Score.Model)
}
