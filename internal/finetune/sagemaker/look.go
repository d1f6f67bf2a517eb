package sagemaker

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
)

// description is what DescribeTrainingJob tells, as far as it is read.
type description struct {
	TrainingJobName   string
	TrainingJobStatus string // InProgress, Completed, Failed, Stopping, Stopped or Deleting
	SecondaryStatus   string
	FailureReason     string
	HyperParameters   map[string]string
	ModelArtifacts    struct{ S3ModelArtifacts string }
	ResourceConfig    resources
	StoppingCondition struct{ MaxRuntimeInSeconds int64 }
	// BillableTimeInSeconds is that of one instance. It is absent until there is something to bill.
	BillableTimeInSeconds *int64
	// FinalMetricDataList has the last value of each of the template's metrics.
	FinalMetricDataList []struct {
		MetricName string
		Value      float64
	}
	SecondaryStatusTransitions []struct{ StatusMessage string }
}

// resources are the instances of a job.
type resources struct {
	InstanceCount         int
	InstanceGroups        []struct{ InstanceCount int }
	SelectedInstanceCount int // where the template gives several types of instances to choose from
}

func (r resources) instances() int {
	n := r.InstanceCount
	for _, g := range r.InstanceGroups {
		n += g.InstanceCount
	}
	return max(n, r.SelectedInstanceCount)
}

func (b *Backend) describe(ctx context.Context, id string) (description, error) {
	var d description
	if id == "" || len(id) > 63 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return d, &finetune.Error{Class: finetune.ClassNotFound, Message: "no job has such an id"}
	}
	err := b.call(ctx, "DescribeTrainingJob", map[string]string{"TrainingJobName": id}, &d)
	if err == nil && d.TrainingJobName != id {
		err = &finetune.Error{Class: finetune.ClassPassing, Message: "SageMaker answered with something else than the job"}
	}
	return d, err
}

// told is what the program was told of the job; false where the job is not ours.
func (d description) told() (Spec, bool) {
	var s Spec
	err := json.Unmarshal([]byte(d.HyperParameters[hyperJob]), &s)
	return s, err == nil && s.Key != ""
}

// Poll implements finetune.Backend. Progress is read from the end of the first container's log, in the lines that
// command.Line describes; metrics of the template tell it where there are none.
func (b *Backend) Poll(ctx context.Context, id string) (finetune.Status, error) {
	d, err := b.describe(ctx, id)
	if err != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %.100q: %w", id, err)
	}
	st := b.statusOf(d)
	if st.State == finetune.StateQueued {
		return st, nil
	}
	log := b.logOf(ctx, id)
	if ctx.Err() != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %.100q: %w", id, ctx.Err())
	}
	b.read(log, d, &st)
	return st, nil
}

// read adds what the program itself tells.
func (b *Backend) read(log string, d description, st *finetune.Status) {
	said := *st
	named := command.ReadProgress(strings.NewReader(log), &said)
	said.State, said.UnknownState, said.Artifact = st.State, st.UnknownState, st.Artifact
	switch st.State {
	case finetune.StateFailed:
		tail := log[max(0, len(log)-maxTail):]
		said.Message = finetune.Clip(strings.TrimSpace(st.Message + "\n" + strings.TrimSpace(tail+"\n"+named)))
	case finetune.StateCancelled:
		said.Message = st.Message
	case finetune.StateSucceeded:
	default:
		said.Model = ""
	}
	*st = said
	b.price(d, st) // AWS's word on costs goes before the program's
}

func (b *Backend) statusOf(d description) finetune.Status {
	st := finetune.Status{State: finetune.StateRunning}
	if n := len(d.SecondaryStatusTransitions); n > 0 {
		st.Message = finetune.Clip(d.SecondaryStatusTransitions[n-1].StatusMessage)
	}
	for _, m := range d.FinalMetricDataList {
		count := int(min(max(m.Value, 0), math.MaxInt32))
		switch m.MetricName {
		case "loss":
			if m.Value > 0 {
				st.Loss = m.Value
			}
		case "step":
			st.Step = count
		case "steps":
			st.Steps = count
		}
	}
	switch d.TrainingJobStatus {
	case "InProgress":
		switch d.SecondaryStatus {
		// Interrupted: a spot instance was taken away, another one is waited for.
		case "Pending", "Starting", "LaunchingMLInstances", "PreparingTrainingStack", "Downloading", "DownloadingTrainingImage", "Interrupted":
			st.State = finetune.StateQueued
		}
	case "Stopping":
	case "Completed":
		st.State, st.Model, st.Artifact = finetune.StateSucceeded, d.TrainingJobName, b.results(d)
	case "Failed":
		st.State, st.Message = finetune.StateFailed, finetune.Clip(d.FailureReason)
		if st.Message == "" {
			st.Message = "SageMaker gave no reason"
		}
	case "Stopped":
		st.State = finetune.StateCancelled
		switch d.SecondaryStatus {
		case "MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Interrupted": // nobody wanted that
			st.State = finetune.StateFailed
			try := "a longer StoppingCondition in the trainer's template"
			if limit := d.StoppingCondition.MaxRuntimeInSeconds; limit > 0 && limit < b.runtime() {
				try = fmt.Sprintf("a larger budget: it left %d s for this job", limit)
			}
			st.Message = finetune.Clip(fmt.Sprintf("SageMaker stopped the job: %s (Try: %s). %s", d.SecondaryStatus, try, st.Message))
		}
	default:
		st.UnknownState = finetune.Clip(d.TrainingJobStatus)
	}
	b.price(d, &st)
	return st
}

// results returns the prefix under which the job's results lie in the store, "" where they lie elsewhere.
func (b *Backend) results(d description) string {
	key, ours := b.keyOf(d.ModelArtifacts.S3ModelArtifacts)
	if strings.HasSuffix(key, ".tar.gz") { // where the template asks for an archive
		key = path.Dir(key)
	}
	if !ours || key == "." {
		return ""
	}
	return key
}

// keyOf returns the blob key that an s3:// address names, without a slash at its end; false where it is not in the store.
func (b *Backend) keyOf(address string) (string, bool) {
	key, ours := strings.CutPrefix(address, b.store.URI(""))
	key = strings.TrimRight(key, "/")
	return key, ours && key != "" && !strings.Contains("/"+key+"/", "/../")
}

// price sets what has been billed, where the settings say what an instance costs.
func (b *Backend) price(d description, st *finetune.Status) {
	instances := d.ResourceConfig.instances()
	if d.BillableTimeInSeconds == nil || b.cfg.InstanceHour <= 0 || instances < 1 {
		return
	}
	usd := float64(max(*d.BillableTimeInSeconds, 0)) * float64(instances) * b.cfg.InstanceHour / 3600
	if usd < 1e9 {
		st.CostMicroUSD, st.CostKnown = int64(math.Round(usd*1e6)), true
	}
}
