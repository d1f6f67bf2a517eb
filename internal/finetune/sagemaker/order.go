package sagemaker

import (
	"encoding/json"
	"fmt"
	"math"
	"path"

	"github.com/selfalign/selfalign/internal/finetune"
)

// hyperJob is the hyperparameter with the Spec. SageMaker takes values of maxHyper characters (HyperParameterValue).
const (
	hyperJob = "selfalign_job"
	maxHyper = 2500
)

// What a job has in the bucket, under its artefacts, besides what SageMaker writes under <name>/output.
const (
	folderInputs      = "inputs"      // lists of the channels' files
	folderCheckpoints = "checkpoints" // what the program saved on its way
)

// Time limits, in seconds. A job without one may run for a day; one that has reached its own has stopGrace until it is killed.
const (
	defaultRuntime = 24 * 3600
	stopGrace      = 120
	leastRuntime   = 60 // less is not worth starting instances for
)

// order is a job as it is made: a copy of the template with what is ours, and the objects that it names.
type order struct {
	body      map[string]any
	manifests map[string][]byte // by key
}

func (b *Backend) order(job finetune.Job) (order, error) {
	m, err := b.fresh()
	if err != nil {
		return order{}, invalid("template: %v", err)
	}
	out := order{body: m, manifests: map[string][]byte{}}
	told := Spec{
		Format: 1, Key: job.Key, Name: job.Name(), BaseModel: job.BaseModel, Suffix: job.Suffix, Examples: job.Examples, Hyper: job.Hyper,
		Seed: job.Seed, TrainingFile: b.store.URI(job.Training), Artifacts: b.store.URI(job.Artifacts),
	}
	channels, _ := m["InputDataConfig"].([]any)
	channels = append(channels, b.channel(out, job, "training", job.Training))
	if job.Validation != "" {
		told.ValidationFile = b.store.URI(job.Validation)
		channels = append(channels, b.channel(out, job, "validation", job.Validation))
	}
	// Two jobs that shared a place for checkpoints would go on from each other's.
	if spot, _ := m["EnableManagedSpotTraining"].(bool); spot || m["CheckpointConfig"] != nil {
		config := child(m, "CheckpointConfig")
		config["S3Uri"] = b.store.URI(job.Artifacts + "/" + folderCheckpoints)
		if told.Checkpoints, _ = config["LocalPath"].(string); told.Checkpoints == "" {
			told.Checkpoints = "/opt/ml/checkpoints"
		}
	}
	raw, err := json.Marshal(told)
	if err != nil {
		return order{}, invalid("%v", err)
	}
	if len(raw) > maxHyper {
		return order{}, invalid("the job's description has %d bytes, SageMaker takes %d (Try: a shorter run name or store prefix)", len(raw), maxHyper)
	}
	for _, name := range []string{"HyperParameters", "Environment"} { // SageMaker wants strings
		for k, v := range child(m, name) {
			child(m, name)[k] = fmt.Sprint(v)
		}
	}
	child(m, "HyperParameters")[hyperJob] = string(raw)
	output := child(m, "OutputDataConfig")
	output["S3OutputPath"] = told.Artifacts
	if output["CompressionType"] == nil {
		output["CompressionType"] = "NONE" // else results are packed into one archive, and servers want files
	}
	m["TrainingJobName"], m["InputDataConfig"] = job.Name(), channels
	return out, b.afford(m, job)
}

// afford lowers the job's time limit to what its money buys.
func (b *Backend) afford(m map[string]any, job finetune.Job) error {
	raw, err := json.Marshal(m["ResourceConfig"])
	var resources resources
	if err == nil {
		err = json.Unmarshal(raw, &resources)
	}
	if err != nil {
		return invalid("template: ResourceConfig: %v", err)
	}
	n := resources.instances()
	if job.MaxMicroUSD == nil || b.cfg.InstanceHour <= 0 || n < 1 {
		return nil
	}
	usd := float64(*job.MaxMicroUSD) / 1e6
	seconds := int64(min(usd*3600/(b.cfg.InstanceHour*float64(n)), math.MaxInt32)) - stopGrace
	if seconds < leastRuntime {
		return &finetune.Error{Class: finetune.ClassBudget, Message: fmt.Sprintf(
			"$%.2f are left, which is less than %d minutes of %d instances at $%g an hour", usd, (leastRuntime+stopGrace)/60, n, b.cfg.InstanceHour)}
	}
	if seconds < b.runtime() {
		child(m, "StoppingCondition")["MaxRuntimeInSeconds"] = seconds
	}
	return nil
}

// runtime is the template's time limit in seconds.
func (b *Backend) runtime() int64 {
	condition, _ := b.template["StoppingCondition"].(map[string]any)
	var n int64
	if _, err := fmt.Sscan(fmt.Sprint(condition["MaxRuntimeInSeconds"]), &n); err != nil || n < 1 {
		return defaultRuntime
	}
	return n
}

// channel has SageMaker fetch one file. A prefix would also match longer keys, so the file is listed in a manifest.
func (b *Backend) channel(out order, job finetune.Job, name, key string) map[string]any {
	list, err := json.Marshal([]any{map[string]string{"prefix": b.store.URI(path.Dir(key)) + "/"}, path.Base(key)})
	if err != nil {
		panic(err) // plain strings
	}
	manifest := job.Artifacts + "/" + folderInputs + "/" + name + ".manifest"
	out.manifests[manifest] = list
	return map[string]any{"ChannelName": name, "DataSource": map[string]any{"S3DataSource": map[string]any{
		"S3DataType": "ManifestFile", "S3Uri": b.store.URI(manifest), "S3DataDistributionType": "FullyReplicated",
	}}}
}

// fresh returns a copy of the template.
func (b *Backend) fresh() (map[string]any, error) {
	raw, err := json.Marshal(b.template)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(raw, &m)
}

// child returns the map under a name, made if it is not there.
func child(m map[string]any, name string) map[string]any {
	c, ok := m[name].(map[string]any)
	if !ok {
		c = map[string]any{}
		m[name] = c
	}
	return c
}

func invalid(format string, args ...any) error {
	return &finetune.Error{Class: finetune.ClassPermanent, Code: "invalid_job", Message: fmt.Sprintf(format, args...)}
}
