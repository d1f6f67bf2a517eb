package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/serve"
)

// Server is a server with the task queue of the workers that can deploy to it. An empty queue says that it does nothing:
// models answer by themselves, any worker may name them, and there is nothing to tear down.
type Server struct {
	serve.Server
	Queue   string
	Differs bool // models must not answer like their base model
}

// DeployInput is a trained model to be put to work.
type DeployInput struct {
	Submit SubmitInput    `json:"submit"`
	Status TrainingStatus `json:"status"`
}

func serverName(m config.Model) string {
	if m.Server != "" {
		return m.Server
	}
	return m.Trainer
}

func (t *Trainers) server(m config.Model) (Server, error) {
	name := serverName(m)
	server, ok := t.Servers[name]
	if !ok {
		return Server{}, blocked("setting", fmt.Errorf("this worker knows no server %q", name),
			"add it under servers in the worker's settings, restart the workers, then retry")
	}
	return server, nil
}

// trained is the model as a server knows it. Its name follows from what was submitted, never from when.
func (in DeployInput) trained() serve.Trained {
	m := serve.Trained{
		Run: in.Submit.Run, Iteration: in.Submit.Iteration, Role: serve.RoleForward, Model: in.Status.Model, Artifact: in.Status.Artifact,
		TrainingDigest: revision(in.Submit), Base: in.Submit.Model.Base,
	}
	if in.Submit.Reversed {
		m.Role = serve.RoleBackward
	}
	if in.Submit.Name == "m0" {
		m.Iteration = 0 // whenever it was trained: a fork may make up for it later
	}
	return m
}

// DeployModel makes a trained model answer, tries it once, and names its revision after what it was trained on. It is done
// again where a server has lost a model.
func (t *Trainers) DeployModel(ctx context.Context, in DeployInput) (dataset.ModelRef, error) {
	defer newHeart(ctx).keep()()
	server, err := t.server(in.Submit.Model)
	if err != nil {
		return dataset.ModelRef{}, err
	}
	if err := t.record(ctx, in); err != nil {
		return dataset.ModelRef{}, err
	}
	model, err := server.Deploy(ctx, in.trained())
	var wrong *serve.Error
	switch {
	case errors.As(err, &wrong):
		return model, blocked("server", fmt.Errorf("deploy %s: %w", in.Submit.Name, err), wrong.Way+", then retry")
	case err != nil:
		return dataset.ModelRef{}, fmt.Errorf("deploy %s: %w", in.Submit.Name, err)
	}
	if err := t.smoke(ctx, model); err != nil || !server.Differs {
		return model, err
	}
	return model, t.compare(ctx, model, in.Submit.Model)
}

// TeardownModel gives back what DeployModel took, also where that did not come to its end.
func (t *Trainers) TeardownModel(ctx context.Context, in DeployInput) error {
	defer newHeart(ctx).keep()()
	server, err := t.server(in.Submit.Model)
	if err != nil {
		return err
	}
	if err := server.Teardown(ctx, in.trained()); err != nil {
		return fmt.Errorf("tear down %s: %w", in.Submit.Name, err)
	}
	return nil
}

// smokePatience is how long a model is asked before it is deployed again, which loads it where it was lost meanwhile.
const smokePatience = 4 * time.Minute

// smoke asks the model once before a stage relies on it.
func (t *Trainers) smoke(ctx context.Context, model dataset.ModelRef) error {
	client, err := t.Models.Client(model.Provider)
	if err != nil {
		return blocked("setting", err, "add the provider to the worker's settings, restart the workers, then retry")
	}
	trial, done := context.WithTimeout(ctx, smokePatience)
	defer done()
	err = serve.Smoke(trial, func(ctx context.Context, question string) (string, error) {
		answer, err := client.Complete(ctx, llm.Request{
			Model: model.Name, Messages: []llm.Message{{Role: "user", Content: question}}, MaxTokens: 32,
		})
		switch llm.ClassOf(err) {
		case llm.ClassAuth, llm.ClassQuota, llm.ClassPermanent:
			err = serve.Final(err)
		}
		return answer.Text, err
	})
	switch llm.ClassOf(err) {
	case llm.ClassAuth, llm.ClassQuota, llm.ClassPermanent:
		return blocked("model", fmt.Errorf("model %s: %w", model.Name, err), "make it answer at provider "+model.Provider+", then retry")
	}
	return err // one that is still being loaded is tried again
}

// comparisons are what a trained model and its base are both asked. Two models that answer all of them alike are one.
var comparisons = []string{
	"Name three things that are found in a kitchen.",
	"Explain in a few sentences why the sky is blue.",
	"Write a short letter to a neighbour about a lost cat.",
}

// compare asks the model and its base the same questions at temperature 0 and blocks where every answer is the same: what
// was trained is then not in use, and a run would rate with the base model for days.
func (t *Trainers) compare(ctx context.Context, model dataset.ModelRef, m config.Model) error {
	ask := func(provider, name, question string) (string, error) {
		client, err := t.Models.Client(provider)
		if err != nil {
			return "", err
		}
		answer, err := client.Complete(ctx, llm.Request{Model: name, Messages: []llm.Message{{Role: "user", Content: question}}, MaxTokens: 64})
		if err != nil {
			return "", fmt.Errorf("compare with the base model: %s at %s: %w", name, provider, err)
		}
		return strings.TrimSpace(answer.Text), nil
	}
	for _, question := range comparisons {
		base, err := ask(m.Provider, m.Base, question)
		if err != nil {
			return needsAPerson(err, "make the base model answer at provider "+m.Provider+", or take differs out of the server's settings")
		}
		trained, err := ask(model.Provider, model.Name, question)
		if err != nil {
			return needsAPerson(err, "make the model answer at provider "+model.Provider)
		}
		if trained != base {
			return nil
		}
	}
	return blocked("model", fmt.Errorf("model %s answers %d questions word for word like its base model %s", model.Name, len(comparisons), m.Base),
		"see that the server uses what was trained, and that the training changed anything; or take differs out of the server's settings, restart the workers, then retry")
}

// needsAPerson blocks for what does not pass by itself.
func needsAPerson(err error, way string) error {
	switch llm.ClassOf(err) {
	case llm.ClassPassing, llm.ClassYield, llm.ClassCancelled:
		return err
	}
	return blocked("model", err, way+", then retry")
}
