package config

import (
	"fmt"
	"strings"
)

// trainer checks one trainer's settings.
func (ps *problems) trainer(at string, t Trainer, w Worker) {
	missing := func(field, value, try string) {
		if strings.TrimSpace(value) == "" {
			ps.add(at+"."+field, "is missing", "", try)
		}
	}
	switch t.Backend {
	case BackendOpenAI, BackendTogether:
		ps.reference(at+".provider", t.Provider, "provider", w.Providers)
		ps.addressed(at+".provider", t.Provider, w)
	case BackendHTTP:
		missing("url", t.URL, "https://host/jobs")
		missing("secret_env", t.SecretEnv, "the environment variable with the secret that both sides sign with")
		ps.address(at+".url", t.URL)
	case BackendKubernetes:
		missing("template", t.Template, "the manifest of a Job: apiVersion: batch/v1, kind: Job, spec: …")
	case BackendSageMaker:
		missing("template", t.Template, "a CreateTrainingJob request: AlgorithmSpecification, RoleArn, ResourceConfig, StoppingCondition")
		if t.URL != "" {
			ps.address(at+".url", t.URL)
		}
	case BackendCommand:
		if len(t.Command) == 0 {
			ps.add(at+".command", "is missing", "", "[python3, train.py]")
		}
		missing("dir", t.Dir, "a folder on the worker's machine that outlives the worker")
	case BackendSlurm:
		missing("template", t.Template, "a batch script: #SBATCH lines, then the commands that train")
		missing("dir", t.Dir, "a folder that this machine and the nodes see under the same path")
	}
	if t.LoRA > 0 && t.Backend != BackendTogether {
		ps.add(at+".lora", "is for backend together", fmt.Sprint(t.LoRA), "give it to the program that trains")
	}
}
