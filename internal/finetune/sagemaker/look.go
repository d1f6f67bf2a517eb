package sagemaker

import (
	"context"
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
)

// description is what DescribeTrainingJob tells, as far as it is read.
type description struct {
	TrainingJobName   string
	TrainingJobStatus string // InProgress, Completed, Failed, Stopping or Stopped
	SecondaryStatus   string
	FailureReason     string
	HyperParameters   map[string]string
	ModelArtifacts    struct{ S3ModelArtifacts string }
	ResourceConfig    struct {
		InstanceCount  int
		InstanceGroups []struct{ InstanceCount int }
	}
	BillableTimeInSeconds *int64 // of one instance
	FinalMetricDataList   []struct {
		MetricName string
		Value      float64
	}
	SecondaryStatusTransitions []struct{ StatusMessage string }
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

// Poll implements finetune.Backend.
func (b *Backend) Poll(ctx context.Context, id string) (finetune.Status, error) {
	d, err := b.describe(ctx, id)
	if err != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %.100q: %w", id, err)
	}
	return b.statusOf(d), nil
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
		case "Pending", "Starting", "LaunchingMLInstances", "PreparingTrainingStack", "PreparingTraining", "Downloading", "DownloadingTrainingImage":
			st.State = finetune.StateQueued
		}
	case "Stopping":
	case "Completed":
		st.State, st.Model = finetune.StateSucceeded, d.TrainingJobName
		key, ours := strings.CutPrefix(d.ModelArtifacts.S3ModelArtifacts, b.store.URI(""))
		if ours && !strings.Contains("/"+key+"/", "/../") && strings.Contains(key, "/") {
			st.Artifact = path.Dir(key)
		}
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
			st.Message = finetune.Clip("SageMaker stopped the job: " + d.SecondaryStatus + " (Try: a longer StoppingCondition in the trainer's template). " + st.Message)
		}
	default:
		st.UnknownState = finetune.Clip(d.TrainingJobStatus)
	}
	b.price(d, &st)
	return st
}

// price sets what has been billed, where the settings say what an instance costs.
func (b *Backend) price(d description, st *finetune.Status) {
	instances := d.ResourceConfig.InstanceCount
	for _, g := range d.ResourceConfig.InstanceGroups {
		instances += g.InstanceCount
	}
	if d.BillableTimeInSeconds == nil || b.cfg.InstanceHour <= 0 || instances < 1 {
		return
	}
	usd := float64(max(*d.BillableTimeInSeconds, 0)) * float64(instances) * b.cfg.InstanceHour / 3600
	if usd < 1e9 {
		st.CostMicroUSD, st.CostKnown = int64(math.Round(usd*1e6)), true
	}
}
