package activities

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/serve/servetest"
	"github.com/selfalign/selfalign/internal/serve/vllm"
)

// withVLLM returns trainers whose models are loaded into a vLLM, and a trained model.
func withVLLM(t *testing.T) (*Trainers, *servetest.VLLM, DeployInput) {
	t.Helper()
	store, v := s3test.Store(t), servetest.NewVLLM(t, "base", "")
	servetest.LeaveArtifact(t, store, "runs/r/01/train/m1-0", map[string]string{"adapter_config.json": "{}"})
	s, err := vllm.New(vllm.Config{Provider: "p", URLs: []string{v.URL}, Model: "{run}-{role}-{iteration}-{digest}", Dir: t.TempDir()}, store)
	if err != nil {
		t.Fatal(err)
	}
	trainers := &Trainers{
		Trainers: map[string]Trainer{"t": {Backend: &backend{}, Queue: "q-train"}},
		Servers:  map[string]Server{"t": {Server: s, Queue: "q-control", Differs: true}},
		Store:    store,
		Models:   llm.NewPool(map[string]llm.Provider{"p": {URL: v.URL}}),
	}
	in := DeployInput{Submit: submission()}
	in.Submit.Model.Provider = "p"
	in.Status = TrainingStatus{Done: true, Status: finetune.Status{State: finetune.StateSucceeded, Model: "m", Artifact: "runs/r/01/train/m1-0", NotExpressed: []string{"dropout"}}}
	in.Submit.Exported.Key = "runs/r/01/train/m1.jsonl"
	return trainers, v, in
}

// A trained adapter is loaded, tried, compared with its base, and taken out again; a submission tells who can do that.
func TestDeployIntoVLLM(t *testing.T) {
	t.Parallel()
	trainers, v, in := withVLLM(t)
	env := activityEnv(t, trainers)
	var job TrainingJob
	if value, err := env.ExecuteActivity("SubmitFinetune", in.Submit); err != nil || value.Get(&job) != nil || job.ServeQueue != "q-control" {
		t.Fatalf("%+v, %v", job, err)
	}
	var ref dataset.ModelRef
	for range 2 {
		value, err := env.ExecuteActivity("DeployModel", in)
		if err != nil || value.Get(&ref) != nil {
			t.Fatal(err)
		}
	}
	if v.Adapters()[ref.Name] != 1 || ref.Revision != revision(in.Submit) || !strings.HasPrefix(ref.Name, "r-forward-1-m1-") {
		t.Errorf("%+v, loaded %v", ref, v.Adapters())
	}
	var made TrainedModel
	if raw, err := trainers.Store.Get(t.Context(), "runs/r/01/train/m1.json"); err != nil || json.Unmarshal(raw, &made) != nil {
		t.Fatalf("manifest %s, %v", raw, err)
	}
	if made.Revision != ref.Revision || made.Hyper != finetune.PaperHyper(made.Examples) || len(made.NotExpressed) != 1 || made.USD != nil || made.Artifacts != trainers.Store.URI("runs/r/01/train/m1-0") {
		t.Errorf("manifest %+v", made)
	}
	for range 2 {
		if _, err := env.ExecuteActivity("TeardownModel", in); err != nil || len(v.Adapters()) != 0 {
			t.Errorf("%v, %v", v.Adapters(), err)
		}
	}
}

// What a server wants a person to mend blocks the run with the way out, and so does a model that is its base in disguise.
func TestDeploymentsThatBlock(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		spoil func(tr *Trainers, v *servetest.VLLM, in *DeployInput)
		want  string
		way   string
	}{
		"the server refuses": {func(_ *Trainers, v *servetest.VLLM, _ *DeployInput) { v.SwitchOff() }, "does not load adapters", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"},
		"nothing differs":    {func(_ *Trainers, v *servetest.VLLM, _ *DeployInput) { v.Parrot() }, "word for word", "differs"},
		"no base model":      {func(_ *Trainers, _ *servetest.VLLM, in *DeployInput) { in.Submit.Model.Base = "other" }, "compare with the base model", "model answer"},
		"no such provider": {func(_ *Trainers, _ *servetest.VLLM, in *DeployInput) {
			in.Submit.Model.Provider = "nowhere"
		}, "nowhere", "model answer"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			trainers, v, in := withVLLM(t)
			c.spoil(trainers, v, &in)
			_, err := activityEnv(t, trainers).ExecuteActivity("DeployModel", in)
			if trouble, known := TroubleOf(err); !known || !strings.Contains(trouble.Message, c.want) || !strings.Contains(trouble.Way, c.way) {
				t.Errorf("%+v, %v", trouble, err)
			}
		})
	}
	trainers, _, _ := withVLLM(t)
	if _, err := activityEnv(t, trainers).ExecuteActivity("TeardownModel", DeployInput{Submit: SubmitInput{Model: config.Model{Trainer: "none"}}}); err == nil {
		t.Error("a server that nobody knows was torn down")
	}
}
