//go:build extra

package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/rest"
)

// node plays the machine of a real cluster, whose API server and controllers .ci/extra.d/kubernetes starts: it runs no containers,
// but tells of pods what their base model asks for, and gives their logs. KUBECONFIG names the cluster.
type node struct {
	name  string
	place string // namespace
	api   *rest.Client
	mu    sync.Mutex
	pods  map[string]*worked // by name
	// trainer says whether it also does for TrainJobs what the operator of Kubeflow would.
	trainer bool
}

type worked struct {
	told  Spec
	begun time.Time
	ended bool
}

func (w *worked) fate() string {
	since := time.Since(w.begun)
	switch {
	case w.told.BaseModel == "quick" && since > 300*time.Millisecond:
		return "Succeeded"
	case w.told.BaseModel == "broken" && since > 300*time.Millisecond:
		return "Failed"
	}
	return "Running"
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) { // /containerLogs/NAMESPACE/POD/CONTAINER, as kubelets have it
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(parts) != 4 || parts[0] != "containerLogs" || n.pods[parts[2]] == nil {
		http.NotFound(w, r)
		return
	}
	pod := n.pods[parts[2]]
	step := int(time.Since(pod.begun).Milliseconds()/10) + 1
	fmt.Fprintf(w, "loading\n"+`{"step": %d, "steps": 100000, "loss": %g, "not_expressed": ["dropout"]}`+"\n", step, 2/float64(step))
	if pod.fate() == "Failed" {
		fmt.Fprintln(w, `{"error": "RuntimeError: the loss exploded"}`)
	}
}

type listed struct {
	Items []struct {
		Metadata struct {
			Name, UID         string
			DeletionTimestamp *time.Time
			Labels            map[string]string
		}
		Spec struct {
			NodeName   string
			Suspend    bool
			Containers []struct {
				Env []struct{ Name, Value string }
			}
			Trainer struct {
				Env []struct{ Name, Value string }
			}
		}
		Status struct {
			Phase      string
			Conditions []condition
		}
	}
}

func (n *node) do(t *testing.T, method, path string, body, into any) error {
	r := rest.Request{Method: method, Path: path, Body: body, Into: into}
	if method == http.MethodPatch {
		r.Headers = map[string]string{"Content-Type": "application/merge-patch+json"}
	}
	return n.api.Do(t.Context(), r)
}

// look does one round of what a node does for its pods.
func (n *node) look(t *testing.T) error {
	var list listed
	pods := "/api/v1/namespaces/" + n.place + "/pods"
	if err := n.do(t, http.MethodGet, pods, nil, &list); err != nil {
		return err
	}
	for _, p := range list.Items {
		at := pods + "/" + p.Metadata.Name
		if p.Metadata.DeletionTimestamp != nil { // its containers have ended at once
			if err := n.do(t, http.MethodDelete, at, map[string]any{"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}, nil); err != nil && finetune.ClassOf(err) != finetune.ClassNotFound {
				return err
			}
			continue
		}
		if p.Spec.NodeName == "" {
			bind := map[string]any{"kind": "Binding", "apiVersion": "v1", "metadata": map[string]any{"name": p.Metadata.Name}, "target": map[string]any{"kind": "Node", "name": n.name}}
			if err := n.do(t, http.MethodPost, at+"/binding", bind, nil); err != nil && finetune.ClassOf(err) == finetune.ClassAuth {
				return err
			}
			continue
		}
		n.mu.Lock()
		w := n.pods[p.Metadata.Name]
		if w == nil {
			w = &worked{begun: time.Now()}
			for _, e := range p.Spec.Containers[0].Env {
				if e.Name == "SELFALIGN_JOB" {
					_ = json.Unmarshal([]byte(e.Value), &w.told)
				}
			}
			n.pods[p.Metadata.Name] = w
		}
		fate, ended := w.fate(), w.ended
		w.ended = fate != "Running"
		n.mu.Unlock()
		if ended || fate == p.Status.Phase {
			continue
		}
		state := map[string]any{"running": map[string]any{"startedAt": w.begun.UTC().Format(time.RFC3339)}}
		if fate != "Running" {
			code := map[string]int{"Succeeded": 0, "Failed": 3}[fate]
			state = map[string]any{"terminated": map[string]any{"exitCode": code, "reason": "Error", "startedAt": w.begun.UTC().Format(time.RFC3339), "finishedAt": time.Now().UTC().Format(time.RFC3339)}}
		}
		status := map[string]any{"status": map[string]any{"phase": fate, "startTime": w.begun.UTC().Format(time.RFC3339), "containerStatuses": []any{
			map[string]any{"name": "train", "image": "x", "imageID": "x", "ready": fate == "Running", "restartCount": 0, "state": state},
		}}}
		if err := n.do(t, http.MethodPatch, at+"/status", status, nil); err != nil && finetune.ClassOf(err) != finetune.ClassNotFound {
			return err
		}
	}
	if n.trainer {
		return n.operate(t, list)
	}
	return nil
}

// operate does one round of what Kubeflow's operator does: a pod for each TrainJob that is not suspended, and its end as the job's.
func (n *node) operate(t *testing.T, pods listed) error {
	var jobs listed
	at := fmt.Sprintf(kinds["TrainJob"].path, n.place)
	if err := n.do(t, http.MethodGet, at, nil, &jobs); err != nil {
		return err
	}
	for _, j := range jobs.Items {
		name, phase := j.Metadata.Name, ""
		for _, p := range pods.Items {
			if p.Metadata.Labels[kinds["TrainJob"].pods] == name {
				phase = p.Status.Phase
			}
		}
		end := map[string]string{"Succeeded": "Complete", "Failed": "Failed"}[phase]
		switch {
		case len(j.Status.Conditions) > 0:
		case j.Spec.Suspend:
			end = "Suspended"
			_ = n.do(t, http.MethodDelete, "/api/v1/namespaces/"+n.place+"/pods/"+name+"-node-0-0-abcde", nil, nil)
		case phase == "":
			var env []any
			for _, e := range j.Spec.Trainer.Env {
				env = append(env, map[string]any{"name": e.Name, "value": e.Value})
			}
			pod := map[string]any{
				"kind": "Pod", "apiVersion": "v1",
				"metadata": map[string]any{
					"name": name + "-node-0-0-abcde", "labels": map[string]any{kinds["TrainJob"].pods: name, labelIndex: "0"},
					"ownerReferences": []any{map[string]any{"apiVersion": kinds["TrainJob"].version, "kind": "TrainJob", "name": name, "uid": j.Metadata.UID}},
				},
				"spec": map[string]any{"restartPolicy": "Never", "containers": []any{map[string]any{"name": "train", "image": "x", "env": env}}},
			}
			if err := n.do(t, http.MethodPost, "/api/v1/namespaces/"+n.place+"/pods", pod, nil); err != nil {
				return err
			}
		}
		if end == "" || len(j.Status.Conditions) > 0 {
			continue
		}
		c := map[string]any{"type": end, "status": "True", "reason": "Told", "message": "told by the test", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)}
		if err := n.do(t, http.MethodPatch, at+"/"+name+"/status", map[string]any{"status": map[string]any{"conditions": []any{c}}}, nil); err != nil && finetune.ClassOf(err) != finetune.ClassNotFound {
			return err
		}
	}
	return nil
}

// realWorld makes a namespace and a node of its own.
func realWorld(t *testing.T, kind string) finetunetest.World {
	path := os.Getenv("KUBECONFIG")
	a, err := accessOf(path)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{name: finetune.NameOf(t.Name() + time.Now().String()), pods: map[string]*worked{}, trainer: kind == "TrainJob"}
	n.place = n.name
	if n.api, err = rest.New(rest.Config{URL: a.server, HTTP: a.client, Sign: a.sign}); err != nil {
		t.Fatal(err)
	}
	kubelet := httptest.NewTLSServer(n)
	t.Cleanup(kubelet.Close)
	u, _ := url.Parse(kubelet.URL)
	port, _ := strconv.Atoi(u.Port())
	named := map[string]any{"name": n.name}
	for _, made := range []struct{ method, path, body string }{
		{http.MethodPost, "/api/v1/namespaces", "Namespace"},
		{http.MethodPost, "/api/v1/nodes", "Node"},
	} {
		if err := n.do(t, made.method, made.path, map[string]any{"kind": made.body, "apiVersion": "v1", "metadata": named}, nil); err != nil {
			t.Fatal(err)
		}
	}
	status := map[string]any{"status": map[string]any{
		"addresses":       []any{map[string]any{"type": "InternalIP", "address": u.Hostname()}},
		"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": port}},
	}}
	if err := n.do(t, http.MethodPatch, "/api/v1/nodes/"+n.name+"/status", status, nil); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-t.Context().Done():
				return
			case <-time.After(100 * time.Millisecond):
				if err := n.look(t); err != nil && t.Context().Err() == nil {
					t.Logf("node: %v", err)
				}
			}
		}
	})
	t.Cleanup(func() { close(over); working.Wait() })
	st := s3test.Store(t)
	return finetunetest.World{
		Store: st, Quick: "quick", Endless: "endless", Broken: "broken", LastWords: "exploded", NotExpressed: true, Estimates: true,
		Backend: func(t *testing.T) finetune.Backend {
			b, err := New(Config{Template: strings.Replace(templates[kind], "backoffLimit: 2", "backoffLimit: 0", 1), Kubeconfig: path, Namespace: n.place, Rate: finetune.Rate{USDPerHour: 36}}, st)
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Started: func(_ *testing.T, key string) (count int) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, w := range n.pods {
				if w.told.Key == key {
					count++
				}
			}
			return count
		},
		Left: func(t *testing.T, key string) (left []string) {
			name := kinds[kind].name(key)
			// What a job owned goes when the collector has seen that its owner is gone.
			for range 100 {
				left = nil
				var pods listed
				if err := n.do(t, http.MethodGet, "/api/v1/namespaces/"+n.place+"/pods", nil, &pods); err != nil {
					t.Fatal(err)
				}
				for _, p := range pods.Items {
					if p.Metadata.Labels[kinds[kind].pods] == name {
						left = append(left, "pod "+p.Metadata.Name)
					}
				}
				err := n.do(t, http.MethodGet, fmt.Sprintf(kinds[kind].path, n.place)+"/"+name, nil, nil)
				if err == nil {
					left = append(left, "job "+name)
				}
				if len(left) == 0 || err == nil {
					return left
				}
				time.Sleep(200 * time.Millisecond)
			}
			return left
		},
	}
}

func TestRealConformance(t *testing.T) {
	t.Parallel()
	for kind := range templates {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			finetunetest.Exercise(t, func(t *testing.T) finetunetest.World { return realWorld(t, kind) })
		})
	}
}
