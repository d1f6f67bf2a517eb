package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
)

// TrainedModel is the manifest of a trained model, beside its training file: what it was made of, and what of the recipe its
// trainer could not express.
type TrainedModel struct {
	Run            string         `json:"run"`
	Name           string         `json:"name"` // m0, m1 … or myx
	Iteration      int            `json:"iteration"`
	Attempt        int            `json:"attempt"` // jobs before it that failed
	Revision       string         `json:"revision"`
	Trainer        string         `json:"trainer"`
	BaseModel      string         `json:"base_model"`
	TrainingFile   string         `json:"training_file"`
	SHA256         string         `json:"sha256"` // of the training file
	Examples       int64          `json:"examples"`
	ValidationFile string         `json:"validation_file,omitempty"`
	Hyper          finetune.Hyper `json:"hyperparameters"` // as asked for
	NotExpressed   []string       `json:"not_expressed"`   // of these, in the trainer's words
	Seed           int64          `json:"seed"`
	Model          string         `json:"model"` // at the trainer
	Artifacts      string         `json:"artifacts,omitempty"`
	Steps          int            `json:"steps,omitempty"`
	Loss           float64        `json:"loss,omitempty"`
	TrainedTokens  int64          `json:"trained_tokens,omitempty"`
	USD            *float64       `json:"usd"` // null: nobody told
}

// record writes the manifest of a trained model. The same model has the same manifest.
func (t *Trainers) record(ctx context.Context, in DeployInput) error {
	file, isFile := strings.CutSuffix(in.Submit.Exported.Key, ".jsonl")
	if t.Store == nil || !isFile {
		return nil
	}
	st := in.Status
	m := TrainedModel{
		Run: in.Submit.Run, Name: in.Submit.Name, Iteration: in.Submit.Iteration, Attempt: in.Submit.Attempt, Revision: revision(in.Submit),
		Trainer: in.Submit.Model.Trainer, BaseModel: in.Submit.Model.Base, TrainingFile: t.Store.URI(in.Submit.Exported.Key),
		SHA256: in.Submit.Exported.Digest, Examples: in.Submit.Exported.Examples, Hyper: hyper(in.Submit.Model.Hyper, in.Submit.Exported.Examples),
		NotExpressed: append([]string{}, st.NotExpressed...), Seed: in.Submit.Model.Hyper.Seed, Model: st.Model, Steps: st.Steps, Loss: st.Loss, TrainedTokens: st.TrainedTokens,
	}
	if in.Submit.Exported.Validation != "" {
		m.ValidationFile = t.Store.URI(in.Submit.Exported.Validation)
	}
	if st.Artifact != "" {
		m.Artifacts = t.Store.URI(st.Artifact)
	}
	if st.CostKnown {
		usd := float64(st.CostMicroUSD) / 1e6
		m.USD = &usd
	}
	body, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = t.Store.Put(ctx, file+".json", body)
	}
	if err != nil {
		return fmt.Errorf("write the manifest of model %s: %w", m.Name, err)
	}
	return nil
}
