package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Register serves every workflow of this package under its type name.
func Register(w worker.WorkflowRegistry) {
	for name, f := range map[string]any{
		TypeSelfTrain: SelfTrain,
		TypeIngest:    Ingest,
		TypeStage:     Stage,
		TypeRange:     Range,
		TypeFinetune:  Finetune,
		TypeEvaluate:  Evaluate,

		TypeNearDuplicates: NearDuplicates,
		TypeScore:          Score,
	} {
		w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
}
