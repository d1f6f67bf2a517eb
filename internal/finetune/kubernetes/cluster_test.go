package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
)

const testToken = "eyJhbGciOiJSUzI1NiJ9.test"

// cluster is the part of an API server that the backend uses, with a job controller behind it: names are unique, errors are
// Status objects, PATCH merges, finished jobs have conditions, pods have logs. The base model says how training goes.
type cluster struct {
	mu    sync.Mutex
	jobs  map[string]*running
	made  []string // keys of jobs that were created
	kind  string
	patch []string
	// loseCreate has the reply to the next create be lost, loseDelete that to the next delete.
	loseCreate, loseDelete bool
	// denyDelete refuses to delete, as where the role lacks the verb.
	denyDelete bool
}

type running struct {
	body  map[string]any
	told  Spec
	begun time.Time
	ended time.Time // when a patch ended it
	fate  string
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fail := func(code int, reason, message string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code})
	}
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		fail(http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return
	}
	jobs := map[string]string{"Job": "/apis/batch/v1/namespaces/train/jobs", "TrainJob": "/apis/trainer.kubeflow.org/v1alpha1/namespaces/train/trainjobs"}[c.kind]
	pods := "/api/v1/namespaces/train/pods"
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, jobs), "/")
	switch {
	case r.URL.Path == jobs && r.Method == http.MethodPost:
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body["kind"] != c.kind {
			fail(http.StatusBadRequest, "BadRequest", fmt.Sprint(err))
			return
		}
		meta := body["metadata"].(map[string]any)
		name := meta["name"].(string)
		if c.jobs[name] != nil {
			fail(http.StatusConflict, "AlreadyExists", fmt.Sprintf("jobs.batch %q already exists", name))
			return
		}
		j := &running{body: body, begun: time.Now()}
		if err := json.Unmarshal([]byte(toldIn(body, c.kind)), &j.told); err != nil {
			fail(http.StatusUnprocessableEntity, "Invalid", err.Error())
			return
		}
		j.fate = j.told.BaseModel
		c.jobs[name] = j
		c.made = append(c.made, j.told.Key)
		meta["uid"] = fmt.Sprintf("uid-%d", len(c.made))
		if c.loseCreate {
			c.loseCreate = false
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(j.object(c.kind))
	case strings.HasPrefix(r.URL.Path, jobs+"/") && c.jobs[name] == nil:
		fail(http.StatusNotFound, "NotFound", fmt.Sprintf("jobs.batch %q not found", name))
	case strings.HasPrefix(r.URL.Path, jobs+"/") && r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(c.jobs[name].object(c.kind))
	case strings.HasPrefix(r.URL.Path, jobs+"/") && r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/merge-patch+json":
		j := c.jobs[name]
		var patch map[string]any
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			fail(http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		merge(j.body, patch)
		if j.ended.IsZero() {
			j.ended = time.Now()
		}
		c.patch = append(c.patch, name)
		_ = json.NewEncoder(w).Encode(j.object(c.kind))
	case strings.HasPrefix(r.URL.Path, jobs+"/") && r.Method == http.MethodDelete:
		var options struct {
			Kind, APIVersion, PropagationPolicy string
			Preconditions                       struct{ UID string }
		}
		if err := json.NewDecoder(r.Body).Decode(&options); err != nil || options.Kind != "DeleteOptions" || options.PropagationPolicy != "Background" {
			fail(http.StatusBadRequest, "BadRequest", fmt.Sprint(options, err))
			return
		}
		if uid := c.jobs[name].body["metadata"].(map[string]any)["uid"]; options.Preconditions.UID != uid {
			fail(http.StatusConflict, "Conflict", fmt.Sprintf("the UID in the precondition (%s) does not match the UID in record (%s)", options.Preconditions.UID, uid))
			return
		}
		if c.denyDelete {
			fail(http.StatusForbidden, "Forbidden", `jobs.batch is forbidden: User "w" cannot delete resource "jobs"`)
			return
		}
		delete(c.jobs, name)
		if c.loseDelete {
			c.loseDelete = false
			panic(http.ErrAbortHandler)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case r.URL.Path == pods && r.Method == http.MethodGet:
		_, name, _ := strings.Cut(r.URL.Query().Get("labelSelector"), "=")
		items := []any{}
		if j := c.jobs[name]; j != nil && time.Since(j.begun) > 10*time.Millisecond {
			items = append(items, j.pod(name+"-old", -time.Hour), j.pod(name+"-new", 0))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "PodList", "items": items})
	case strings.HasPrefix(r.URL.Path, pods+"/") && strings.HasSuffix(r.URL.Path, "-new/log"):
		if r.URL.Query().Get("container") != "train" || r.URL.Query().Get("limitBytes") == "" {
			fail(http.StatusBadRequest, "BadRequest", "a container name must be specified")
			return
		}
		name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, pods+"/"), "-new/log")
		fmt.Fprint(w, c.jobs[name].log())
	default:
		fail(http.StatusNotFound, "NotFound", "the server could not find the requested resource: "+r.Method+" "+r.URL.Path)
	}
}

func toldIn(body map[string]any, kind string) string {
	spec := body["spec"].(map[string]any)
	for _, c := range kinds[kind].containers(spec) {
		for _, e := range c["env"].([]any) {
			if e := e.(map[string]any); e["name"] == "SELFALIGN_JOB" {
				return e["value"].(string)
			}
		}
	}
	return ""
}

func merge(into, patch map[string]any) {
	for k, v := range patch {
		if m, ok := v.(map[string]any); ok {
			merge(child(into, k), m)
		} else {
			into[k] = v
		}
	}
}

func (j *running) state() finetune.State {
	since := time.Since(j.begun)
	switch {
	case !j.ended.IsZero() && time.Since(j.ended) > 20*time.Millisecond:
		return finetune.StateCancelled
	case j.fate == "quick" && since > 80*time.Millisecond:
		return finetune.StateSucceeded
	case j.late():
		return finetune.StateFailed
	case j.fate == "broken" && since > 30*time.Millisecond:
		return finetune.StateFailed
	}
	return finetune.StateRunning
}

// late reports whether the job has been active for longer than it may, as far as the fake keeps to that.
func (j *running) late() bool {
	deadline, _ := j.body["spec"].(map[string]any)["activeDeadlineSeconds"].(float64)
	return deadline > 0 && time.Since(j.begun).Seconds() > deadline
}

func (j *running) object(kind string) map[string]any {
	status := map[string]any{}
	if kind == "Job" {
		status["startTime"] = j.begun
	}
	j.body["metadata"].(map[string]any)["creationTimestamp"] = j.begun
	is := func(kind, reason, message string) []any {
		return []any{map[string]any{"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": time.Now()}}
	}
	switch j.state() {
	case finetune.StateSucceeded:
		status["conditions"] = is("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
	case finetune.StateFailed:
		status["conditions"] = is("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
		if j.late() {
			status["conditions"] = is("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
		}
	case finetune.StateCancelled:
		if kind == "Job" {
			status["conditions"] = is("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
		} else {
			status["conditions"] = is("Suspended", "Suspended", "TrainJob is suspended")
		}
	default:
		status["active"], status["ready"] = 1, 1
	}
	return map[string]any{"apiVersion": j.body["apiVersion"], "kind": kind, "metadata": j.body["metadata"], "spec": j.body["spec"], "status": status}
}

func (j *running) pod(name string, age time.Duration) map[string]any {
	status := map[string]any{"phase": "Running"}
	if time.Since(j.begun) < 20*time.Millisecond {
		status = map[string]any{"phase": "Pending", "conditions": []any{map[string]any{
			"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
		}}}
	}
	if j.state() == finetune.StateFailed {
		status = map[string]any{"phase": "Failed", "containerStatuses": []any{map[string]any{
			"name": "train", "state": map[string]any{"terminated": map[string]any{"exitCode": 137, "reason": "OOMKilled"}},
		}}}
	}
	return map[string]any{
		"metadata": map[string]any{"name": name, "creationTimestamp": j.begun.Add(age).UTC().Format(time.RFC3339)},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": "train"}, map[string]any{"name": "sidecar"}}}, "status": status,
	}
}

func (j *running) log() string {
	step := int(time.Since(j.begun).Milliseconds() / 10)
	out := "loading " + j.told.TrainingURL + "\n" + fmt.Sprintf(`{"step": %d, "steps": 100000, "loss": %g, "not_expressed": ["dropout"]}`+"\n", step, 2/float64(step+1))
	if j.state() == finetune.StateFailed {
		out += `{"error": "RuntimeError: the loss exploded"}` + "\nTraceback …\n"
	}
	return out
}
