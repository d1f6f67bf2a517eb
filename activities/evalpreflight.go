package activities

import (
	"context"
	"errors"
	"fmt"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/prompt"
)

// EvaluationCheck is what the preflight of an evaluation looks at.
type EvaluationCheck struct {
	Spec   config.Evaluation  `json:"evaluation"`
	Models []dataset.ModelRef `json:"models"` // that are to answer as they are; those that can be deployed again are looked at by ModelAnswers
	Judge  dataset.ModelRef   `json:"judge"`
	Trains config.Model       `json:"trains,omitzero"` // of scaling: what is trained, by whom
}

// PreflightEvaluation is Preflight of an evaluation: names, the bucket, keys and models.
func (r *Runs) PreflightEvaluation(ctx context.Context, in EvaluationCheck) error {
	defer newHeart(ctx).keep()()
	if err := config.CheckEvaluation(in.Spec, r.Settings); err != nil {
		return blocked("setting", err, "mend the settings of the workers and restart them, then retry")
	}
	if m := in.Trains; m.Trainer != "" {
		if _, known := r.Settings.Trainers[m.Trainer]; !known {
			return blocked("setting", fmt.Errorf("the workers' settings know no trainer %q, which scaling trains with", m.Trainer), "add it under trainers and restart the workers, then retry")
		}
	}
	if err := r.Store.Check(ctx); err != nil {
		return blocked("store", err, "make the bucket writable for the workers, then retry")
	}
	for _, m := range in.Models {
		if err := r.checkModel(ctx, m.Provider, m.Name); err != nil {
			return err
		}
	}
	return nil
}

// ModelAnswers reports whether a model answers. It does not where its endpoint knows no such model, and where nothing listens. Any
// other trouble is that of whoever asks it.
func (r *Runs) ModelAnswers(ctx context.Context, model dataset.ModelRef) (bool, error) {
	defer newHeart(ctx).keep()()
	client, err := r.Models.Client(model.Provider)
	if err != nil {
		return false, blocked("setting", err, "mend the provider in the worker's settings and restart the workers, then retry")
	}
	err = client.Check(ctx, model.Name)
	var e *llm.Error
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.As(err, &e):
		return e.Class != llm.ClassNotFound && e.Code != llm.CodeUnreachable, nil
	}
	return false, err
}

// trials are what a judge is tried with: an answer beside one that says nothing. Whom it prefers is its own affair.
var trials = []prompt.Vars{
	{Instruction: "Name three primary colours.", First: "Red, yellow and blue.", Second: "There are many colours."},
	{Instruction: "How many days has a week?", First: "It depends.", Second: "A week has seven days, Monday to Sunday."},
	{Instruction: "Explain in one sentence why leaves are green.", First: "Leaves hold chlorophyll, which reflects green light.", Second: "Because."},
}

// TryJudge has the judge compare a few answers and blocks where no verdict of it can be read: such an evaluation would spend its
// budget and count nothing.
func (r *Runs) TryJudge(ctx context.Context, in EvaluationCheck) error {
	defer newHeart(ctx).keep()()
	client, err := r.Models.Client(in.Judge.Provider)
	if err != nil {
		return blocked("setting", err, "mend the provider in the worker's settings and restart the workers, then retry")
	}
	template, err := prompt.Embedded(prompt.Compare)
	if err != nil {
		return fmt.Errorf("try the judge: %w", err)
	}
	how := in.Spec.Compare
	var unread error
	for _, v := range trials {
		messages, err := template.Render(v)
		if err != nil {
			return fmt.Errorf("try the judge: %w", err)
		}
		request := llm.Request{Model: in.Judge.Name, Temperature: how.Temperature, TopP: how.TopP, MaxTokens: how.MaxTokens}
		for _, m := range messages {
			request.Messages = append(request.Messages, llm.Message{Role: m.Role, Content: m.Content})
		}
		answer, err := client.Complete(ctx, request)
		if err != nil {
			return needsAPerson(fmt.Errorf("judge %s at provider %s: %w", in.Judge.Name, in.Judge.Provider, err), "make the judge answer")
		}
		if _, unread = prompt.ParseVerdict(answer.Text); unread == nil {
			return nil
		}
	}
	return blocked("judge", fmt.Errorf("no verdict of judge %s could be read in %d comparisons: %w", in.Judge.Name, len(trials), unread),
		"start under another name with another judge, or with more compare.max_tokens; or retry where it was bad luck")
}
