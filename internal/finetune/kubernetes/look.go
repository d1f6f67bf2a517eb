package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// meta is what is read of an object's metadata.
type meta struct {
	Name        string            `json:"name"`
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Created     time.Time         `json:"creationTimestamp"`
}

// object is what is read of a Job or TrainJob.
type object struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		Suspend bool `json:"suspend"`
	} `json:"spec"`
	Status struct {
		Active     int         `json:"active"`
		Ready      int         `json:"ready"`
		Begun      time.Time   `json:"startTime"`      // of a Job
		Ended      time.Time   `json:"completionTime"` // of a Job that succeeded
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

type condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	At      time.Time `json:"lastTransitionTime"`
}

func (o object) condition(kind string) (condition, bool) {
	for _, c := range o.Status.Conditions {
		if c.Type == kind && c.Status == "True" {
			return c, true
		}
	}
	return condition{}, false
}

// state tells how far the job is, but not whether its pods run.
func (o object) state() finetune.State {
	cancelled := o.Metadata.Annotations[annotationStop] != ""
	if _, yes := o.condition("Complete"); yes {
		return finetune.StateSucceeded
	}
	if _, yes := o.condition("Failed"); yes {
		if cancelled {
			return finetune.StateCancelled
		}
		return finetune.StateFailed
	}
	if cancelled && o.Spec.Suspend && o.Status.Active == 0 {
		return finetune.StateCancelled
	}
	return finetune.StateRunning
}

// pod is what is read of a Pod.
type pod struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		Containers []struct {
			Name string `json:"name"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase      string      `json:"phase"`
		Reason     string      `json:"reason"`
		Message    string      `json:"message"`
		Conditions []condition `json:"conditions"`
		Containers []struct {
			Name  string `json:"name"`
			State struct {
				Waiting *struct {
					Reason  string `json:"reason"`
					Message string `json:"message"`
				} `json:"waiting"`
				Terminated *struct {
					ExitCode int    `json:"exitCode"`
					Reason   string `json:"reason"`
					Message  string `json:"message"`
				} `json:"terminated"`
			} `json:"state"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

// container is the one whose log counts: the first, as kubectl has it.
func (p pod) container() string {
	if len(p.Spec.Containers) == 0 {
		return ""
	}
	return p.Spec.Containers[0].Name
}

// words tells what keeps a pod from running, or what ended it.
func (p pod) words() string {
	var out []string
	for _, c := range p.Status.Containers {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" {
			out = append(out, fmt.Sprintf("container %s: %s: %s", c.Name, w.Reason, w.Message))
		}
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			out = append(out, strings.TrimSpace(fmt.Sprintf("container %s: exit code %d (%s) %s", c.Name, t.ExitCode, t.Reason, t.Message)))
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			out = append(out, c.Reason+": "+c.Message)
		}
	}
	if p.Status.Reason != "" { // Evicted, NodeLost
		out = append(out, p.Status.Reason+": "+p.Status.Message)
	}
	return strings.Join(out, "; ")
}

// labelIndex is the number of a pod among those that work on one job: the first of them tells how far it is.
const labelIndex = "batch.kubernetes.io/job-completion-index"

// newest returns the job's newest pod, of several that work together the first.
func (b *Backend) newest(ctx context.Context, id string) (pod, bool, error) {
	var list struct {
		Items []pod `json:"items"`
	}
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods", url.PathEscape(b.place))
	q := url.Values{"labelSelector": {b.kind.pods + "=" + id}, "limit": {"500"}}
	if err := b.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Query: q, Into: &list}); err != nil {
		return pod{}, false, fmt.Errorf("list pods: %w", err)
	}
	var best pod
	for _, p := range list.Items {
		first, had := p.Metadata.Labels[labelIndex] == "0", best.Metadata.Labels[labelIndex] == "0"
		if best.Metadata.Name == "" || (first && !had) || (first == had && p.Metadata.Created.After(best.Metadata.Created)) {
			best = p
		}
	}
	return best, best.Metadata.Name != "", nil
}

// maxTail is how much of a log's end a failure tells, in bytes.
const maxTail = 2048

// Poll implements finetune.Backend. Progress is read from the end of the newest pod's log, in the lines that
// command.Line describes.
func (b *Backend) Poll(ctx context.Context, id string) (finetune.Status, error) {
	st, err := b.poll(ctx, id)
	if err != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %.100q: %w", id, err)
	}
	return st, nil
}

func (b *Backend) poll(ctx context.Context, id string) (finetune.Status, error) {
	o, err := b.get(ctx, id)
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		r, err := b.recorded(ctx, id)
		return r.Status, err
	}
	if err != nil {
		return finetune.Status{}, err
	}
	return b.statusOf(ctx, o)
}

func (b *Backend) statusOf(ctx context.Context, o object) (finetune.Status, error) {
	id := o.Metadata.Name
	p, there, err := b.newest(ctx, id)
	if err != nil {
		return finetune.Status{}, err
	}
	st := finetune.Status{State: o.state()}
	named, tail := "", ""
	if there {
		log := b.logOf(ctx, p)
		named = command.ReadProgress(bytes.NewReader(log), &st)
		st.State = o.state()
		tail = string(log[max(0, len(log)-maxTail):])
	}
	switch st.State {
	case finetune.StateSucceeded:
		if st.Model == "" {
			st.Model = id
		}
		if st.Artifact, err = b.results(ctx, o); err != nil {
			return st, err
		}
	case finetune.StateFailed:
		c, _ := o.condition("Failed")
		why := []string{strings.TrimSpace(c.Reason + ": " + c.Message), p.words(), tail, named}
		st.Message = trainfile.HidePresigned(finetune.Clip(joined(why)))
	case finetune.StateCancelled:
		st.Message = "cancelled"
	case finetune.StateRunning:
		// A step says that it began between the two questions.
		if st.Step == 0 && (!there || p.Status.Phase == "Pending" || p.Status.Phase == "") {
			st.State = finetune.StateQueued
			st.Message = trainfile.HidePresigned(finetune.Clip(p.words()))
		}
	}
	b.settle(o, &st)
	return st, nil
}

// results returns the prefix of what the program left in the store, "" where it left nothing.
func (b *Backend) results(ctx context.Context, o object) (string, error) {
	prefix := strings.TrimRight(o.Metadata.Annotations[annotationFiles], "/")
	if prefix == "" {
		return "", nil
	}
	found := errors.New("found")
	err := b.store.List(ctx, prefix+"/", func(blob.Info) error { return found })
	if errors.Is(err, found) {
		return prefix, nil
	}
	if err != nil {
		return "", trainfile.StoreError("look for results", err)
	}
	return "", nil
}

func joined(words []string) string {
	var out []string
	for _, w := range words {
		if w = strings.TrimSpace(w); w != "" && w != ":" {
			out = append(out, w)
		}
	}
	return strings.Join(out, "\n")
}
