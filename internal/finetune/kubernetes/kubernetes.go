// Package kubernetes trains with a Job of a cluster, or a TrainJob of Kubeflow, made of a template that only the worker's
// settings define. It speaks to the API server over plain HTTP: client-go would add 234 packages and 70 s of processor time
// to a cold build, for five requests.
//
// Wire reference: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/ and
// https://www.kubeflow.org/docs/components/trainer/.
package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// Config says what to run and where.
type Config struct {
	// Template is the manifest of a Job (batch/v1) or a TrainJob (trainer.kubeflow.org/v1alpha1). Name and namespace are set
	// here, and the environment variable SELFALIGN_JOB in every container.
	Template string
	// Kubeconfig is a file; "" is the cluster that the worker runs in.
	Kubeconfig string
	// Namespace of jobs; "" is the kubeconfig's, or the worker's own.
	Namespace string
	// Keep leaves ended jobs in the cluster, until their ttl is over.
	Keep bool
	// Rate is what a job's machines cost, from its beginning to its end.
	Rate finetune.Rate
	// Retry changes how patiently the API server is asked, for tests.
	Retry rest.Config
}

// Keys of what is written into a job's metadata.
const (
	labelManaged    = "app.kubernetes.io/managed-by"
	annotationKey   = "selfalign.github.io/key"
	annotationFiles = "selfalign.github.io/artifacts"
	annotationStop  = "selfalign.github.io/cancelled"
	annotationLimit = "selfalign.github.io/paid-seconds" // what the budget left for the job
)

// ended is how long a job stands after its end where the template says nothing: longer than any wait for the next look.
const ended = 7 * 24 * time.Hour

// Backend implements finetune.Backend. A job's id is its name in the cluster, which follows from its key.
type Backend struct {
	kind     kind
	template map[string]any
	place    string // namespace
	api      *rest.Client
	store    *blob.Store
	keep     bool
	rate     finetune.Rate
}

var _ finetune.Backend = (*Backend)(nil)

// New returns a backend. It makes no request.
func New(cfg Config, store *blob.Store) (*Backend, error) {
	if store == nil {
		return nil, errors.New("kubernetes: no store")
	}
	b := &Backend{store: store, keep: cfg.Keep, rate: cfg.Rate}
	if err := yaml.Unmarshal([]byte(cfg.Template), &b.template); err != nil {
		return nil, fmt.Errorf("kubernetes: template: %w", err)
	}
	version, name := text(b.template, "apiVersion"), text(b.template, "kind")
	b.kind = kinds[name]
	if b.kind.version == "" || b.kind.version != version {
		return nil, fmt.Errorf("kubernetes: template: apiVersion %q and kind %q (Try: batch/v1 and Job, or %s and TrainJob)", version, name, kinds["TrainJob"].version)
	}
	if _, err := b.manifest(finetune.Job{Key: "check"}, "{}", 0); err != nil {
		return nil, err
	}
	access, err := accessOf(cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if b.place = cfg.Namespace; b.place == "" {
		b.place = access.namespace
	}
	over := cfg.Retry
	over.URL, over.HTTP, over.Sign = access.server, access.client, access.sign
	b.api, err = rest.New(over)
	return b, err
}

// kind is what differs between the kinds of jobs.
type kind struct {
	version, path string
	// env is where containers, or what has an env of its own, lie below spec.
	containers func(spec map[string]any) []map[string]any
	stop       map[string]any // merged into spec to end a job
	pods       string         // label whose value is the job's name
	name       func(key string) string
	ttl        bool
}

var kinds = map[string]kind{
	"Job": {
		version: "batch/v1", path: "/apis/batch/v1/namespaces/%s/jobs", containers: containersOfJob,
		// A deadline that has passed ends the pods, and the job counts as failed, so that its ttl runs.
		stop: map[string]any{"activeDeadlineSeconds": 1}, pods: "batch.kubernetes.io/job-name", name: finetune.NameOf, ttl: true,
	},
	"TrainJob": {
		version: "trainer.kubeflow.org/v1alpha1", path: "/apis/trainer.kubeflow.org/v1alpha1/namespaces/%s/trainjobs",
		containers: func(spec map[string]any) []map[string]any {
			trainer, ok := spec["trainer"].(map[string]any)
			if !ok {
				trainer = map[string]any{}
				spec["trainer"] = trainer
			}
			return []map[string]any{trainer}
		},
		stop: map[string]any{"suspend": true}, pods: "jobset.sigs.k8s.io/jobset-name", name: shortName,
	},
}

// shortName begins with a letter and has at most 33 characters: a TrainJob's name is a DNS label of RFC 1035, and JobSet takes none
// whose pods, NAME-dataset-initializer-0-0-abcde at the longest, would have names of more than 63.
func shortName(key string) string {
	const digest, slug = 12, 20
	name := finetune.NameOf(key)
	words, sum := strings.TrimSuffix(name[:len(name)-digest], "-"), name[len(name)-digest:]
	if words == "" || words[0] < 'a' {
		words = strings.TrimSuffix("t-"+words, "-")
	}
	return strings.TrimSuffix(words[:min(len(words), slug)], "-") + "-" + sum
}

func containersOfJob(spec map[string]any) (out []map[string]any) {
	template, _ := spec["template"].(map[string]any)
	pod, _ := template["spec"].(map[string]any)
	for _, group := range []string{"initContainers", "containers"} {
		list, _ := pod[group].([]any)
		for _, c := range list {
			if m, ok := c.(map[string]any); ok {
				out = append(out, m)
			}
		}
	}
	return out
}

// Spec is the environment variable SELFALIGN_JOB: what the program is told.
type Spec struct {
	Format         int            `json:"format"` // 1
	Key            string         `json:"key"`
	Name           string         `json:"name"`
	BaseModel      string         `json:"base_model"`
	Suffix         string         `json:"suffix"`
	TrainingFile   string         `json:"training_file"` // s3:// address
	TrainingURL    string         `json:"training_url"`  // reads it without credentials for seven days at most
	Examples       int64          `json:"examples"`
	ValidationFile string         `json:"validation_file,omitempty"`
	ValidationURL  string         `json:"validation_url,omitempty"`
	Hyper          finetune.Hyper `json:"hyperparameters"`
	Seed           int64          `json:"seed"`
	Artifacts      string         `json:"artifacts"` // s3:// address for results
}

// manifest returns the job as it is made: a copy of the template with what is ours.
func (b *Backend) manifest(job finetune.Job, told string, limit time.Duration) (map[string]any, error) {
	raw, err := json.Marshal(b.template)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: template: %w", err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("kubernetes: template: %w", err)
	}
	spec, ok := m["spec"].(map[string]any)
	if !ok {
		return nil, errors.New("kubernetes: template: no spec")
	}
	meta := child(m, "metadata")
	meta["name"], meta["namespace"] = b.kind.name(job.Key), b.place
	delete(meta, "generateName")
	child(meta, "labels")[labelManaged] = "selfalign"
	maps.Copy(child(meta, "annotations"), map[string]any{annotationKey: job.Key, annotationFiles: job.Artifacts})
	containers := b.kind.containers(spec)
	if len(containers) == 0 {
		return nil, errors.New("kubernetes: template: no containers")
	}
	for _, c := range containers {
		env, _ := c["env"].([]any)
		c["env"] = append(env, map[string]any{"name": "SELFALIGN_JOB", "value": told})
	}
	if b.kind.ttl && spec["ttlSecondsAfterFinished"] == nil {
		spec["ttlSecondsAfterFinished"] = int64(ended.Seconds())
	}
	b.hold(spec, meta, limit)
	return m, nil
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

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// Submit implements finetune.Backend: the cluster refuses a second job of one name.
func (b *Backend) Submit(ctx context.Context, job finetune.Job) (string, error) {
	if err := b.submit(ctx, job); err != nil {
		var e *finetune.Error
		if errors.As(err, &e) && e.Class == finetune.ClassNotFound {
			e.Class = finetune.ClassPermanent // the namespace or the kind is not there
		}
		return "", fmt.Errorf("submit fine-tuning job %s: %w", b.kind.name(job.Key), err)
	}
	return b.kind.name(job.Key), nil
}

func (b *Backend) submit(ctx context.Context, job finetune.Job) error {
	if err := job.Validate(); err != nil {
		return err
	}
	if err := b.stands(ctx, job); finetune.ClassOf(err) != finetune.ClassNotFound {
		return err
	}
	training, _, err := trainfile.Inspect(ctx, b.store, job, 0)
	if err != nil {
		return err
	}
	limit, err := b.rate.Limit(job, training.TokensOf(job))
	if err != nil {
		return err
	}
	told := Spec{
		Format: 1, Key: job.Key, Name: b.kind.name(job.Key), BaseModel: job.BaseModel, Suffix: job.Suffix, Examples: job.Examples, Hyper: job.Hyper,
		Seed: job.Seed, TrainingFile: b.store.URI(job.Training), Artifacts: b.store.URI(job.Artifacts),
	}
	if told.TrainingURL, err = b.store.Presign(ctx, job.Training, blob.MaxPresign); err != nil {
		return trainfile.StoreError("address of the training file", err)
	}
	if job.Validation != "" {
		told.ValidationFile = b.store.URI(job.Validation)
		if told.ValidationURL, err = b.store.Presign(ctx, job.Validation, blob.MaxPresign); err != nil {
			return trainfile.StoreError("address of the validation file", err)
		}
	}
	raw, err := json.Marshal(told)
	if err != nil {
		return &finetune.Error{Class: finetune.ClassPermanent, Message: "encode job", Err: err}
	}
	body, err := b.manifest(job, string(raw), limit)
	if err != nil {
		return &finetune.Error{Class: finetune.ClassPermanent, Message: err.Error()}
	}
	err = b.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: b.path(""), Body: body})
	var e *finetune.Error
	if errors.As(err, &e) && e.Status == http.StatusConflict {
		return b.stands(ctx, job) // an earlier request made it, or another worker
	}
	return err
}

// stands returns nil where the job is there and is the key's, or was and is written down. The cluster is asked first: who
// removes a job writes the record before.
func (b *Backend) stands(ctx context.Context, job finetune.Job) error {
	id := b.kind.name(job.Key)
	o, err := b.get(ctx, id)
	key := o.Metadata.Annotations[annotationKey]
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		var r record
		r, err = b.recorded(ctx, id)
		key = r.Key
	}
	if err == nil && key != job.Key {
		err = &finetune.Error{Class: finetune.ClassPermanent, Code: "key_taken", Message: "a job named " + id + " is there and belongs to somebody else"}
	}
	return err
}

// Cancel implements finetune.Backend. The job stays, marked.
func (b *Backend) Cancel(ctx context.Context, id string) error {
	o, err := b.get(ctx, id)
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		_, err = b.recorded(ctx, id)
	} else if err == nil && !o.state().Terminal() {
		raw, marshalErr := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotationStop: "true"}}, "spec": b.kind.stop})
		if marshalErr != nil {
			return &finetune.Error{Class: finetune.ClassPermanent, Message: "encode patch", Err: marshalErr}
		}
		err = b.api.Do(ctx, rest.Request{
			Method: http.MethodPatch, Path: b.path(id), Body: json.RawMessage(raw), Headers: map[string]string{"Content-Type": "application/merge-patch+json"},
		})
	}
	if err != nil {
		return fmt.Errorf("cancel fine-tuning job %.100q: %w", id, err)
	}
	return nil
}

func (b *Backend) path(id string) string {
	path := fmt.Sprintf(b.kind.path, url.PathEscape(b.place))
	if id != "" {
		path += "/" + id
	}
	return path
}

var errNoSuchID = &finetune.Error{Class: finetune.ClassNotFound, Message: "no job has such an id"}

func validID(id string) bool {
	return id != "" && len(id) <= 63 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (b *Backend) get(ctx context.Context, id string) (object, error) {
	var o object
	if !validID(id) {
		return o, errNoSuchID
	}
	err := b.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: b.path(id), Into: &o})
	if err == nil && o.Metadata.Name != id {
		err = &finetune.Error{Class: finetune.ClassPassing, Message: "the API server answered with something else than the job"}
	}
	return o, err
}

// maxLog bounds what is read of a log, in bytes: 200 lines of 16 KiB, at which runtimes cut them. The kubelet counts it from the
// first of the lines asked for, so that a lower bound would lose the newest.
const maxLog = 4 << 20

// logOf returns the end of a pod's log; nothing where it cannot be had.
func (b *Backend) logOf(ctx context.Context, p pod) []byte {
	var raw []byte
	q := url.Values{"tailLines": {"200"}, "limitBytes": {strconv.Itoa(maxLog)}}
	if name := p.container(); name != "" {
		q.Set("container", name)
	}
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/log", url.PathEscape(b.place), url.PathEscape(p.Metadata.Name))
	if b.api.Once(ctx, rest.Request{Method: http.MethodGet, Path: path, Query: q, Headers: map[string]string{"Accept": "*/*"}, Into: &raw}) != nil {
		return nil
	}
	return bytes.TrimSpace(raw)
}
