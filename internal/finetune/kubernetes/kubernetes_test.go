package kubernetes

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/rest"
)

var templates = map[string]string{
	"Job": `
apiVersion: batch/v1
kind: Job
metadata: {generateName: x-, labels: {team: a}}
spec:
  backoffLimit: 2
  template:
    spec:
      restartPolicy: Never
      containers:
        - {name: train, image: "registry.example/trl:1", env: [{name: A, value: b}], resources: {limits: {nvidia.com/gpu: 1}}}
        - {name: sidecar, image: "registry.example/s:1"}
`,
	"TrainJob": `
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
spec: {runtimeRef: {name: torch-distributed}, trainer: {numNodes: 1}}
`,
}

func kubeconfigFor(t *testing.T, srv *httptest.Server, user string) string {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: here
contexts: [{name: other, context: {cluster: none, user: none}}, {name: here, context: {cluster: c, user: u, namespace: train}}]
clusters: [{name: c, cluster: {server: "%s", certificate-authority-data: %s}}]
users: [{name: u, user: %s}]
`, srv.URL, base64.StdEncoding.EncodeToString(ca), user)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func setup(t *testing.T, kind string) (*cluster, func(t *testing.T) finetune.Backend, *blob.Store) {
	t.Helper()
	c := &cluster{jobs: map[string]*running{}, kind: kind}
	srv := httptest.NewTLSServer(c)
	t.Cleanup(srv.Close)
	st := s3test.Store(t)
	path := kubeconfigFor(t, srv, "{token: "+testToken+"}")
	return c, func(t *testing.T) finetune.Backend {
		b, err := New(Config{
			Template: templates[kind], Kubeconfig: path, Rate: finetune.Rate{USDPerHour: 36}, Retry: rest.Config{Attempts: 3, Backoff: 5 * time.Millisecond, MaxBackoff: time.Second},
		}, st)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, st
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for kind := range templates {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
				c, fresh, st := setup(t, kind)
				return finetunetest.World{
					Store: st, Backend: fresh, Quick: "quick", Endless: "endless", Broken: "broken", LastWords: "exploded",
					Secrets: []string{testToken}, NotExpressed: true, Estimates: true,
					Started: func(_ *testing.T, key string) (n int) {
						c.mu.Lock()
						defer c.mu.Unlock()
						for _, k := range c.made {
							if k == key {
								n++
							}
						}
						return n
					},
					Left: func(_ *testing.T, key string) (left []string) {
						c.mu.Lock()
						defer c.mu.Unlock()
						for name, j := range c.jobs {
							if j.told.Key == key {
								left = append(left, name)
							}
						}
						return left
					},
				}
			})
		})
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	c, fresh, st := setup(t, "Job")
	c.loseCreate = true
	job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "run/01/m1", "quick", 12)
	job.Validation = job.Training
	b := fresh(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil || len(c.made) != 1 {
		t.Fatalf("%v, %v", c.made, err)
	}
	made := c.jobs[id]
	meta := made.body["metadata"].(map[string]any)
	labels := meta["labels"].(map[string]any)
	spec := made.body["spec"].(map[string]any)
	if meta["name"] != id || meta["namespace"] != "train" || meta["generateName"] != nil || labels["team"] != "a" || labels[labelManaged] != "selfalign" ||
		spec["ttlSecondsAfterFinished"] != float64(7*24*3600) || spec["backoffLimit"] != float64(2) {
		t.Errorf("%v", made.body)
	}
	for _, container := range containersOfJob(spec) {
		env := container["env"].([]any)
		if last := env[len(env)-1].(map[string]any); last["name"] != "SELFALIGN_JOB" {
			t.Errorf("%v", container)
		}
	}
	if made.told.TrainingURL == "" || made.told.ValidationFile != st.URI(job.Validation) || made.told.Hyper != job.Hyper || made.told.Artifacts != st.URI(job.Artifacts) {
		t.Errorf("%+v", made.told)
	}
	if err := st.Put(t.Context(), job.Artifacts+"/adapter.safetensors", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if end := finetunetest.Await(t, b, id, finetunetest.Ended); end.Artifact != job.Artifacts || end.Model != id {
		t.Errorf("%+v", end)
	}
	// The name of a job that somebody else made is not taken over.
	other := job
	other.Key = "other"
	meta["annotations"].(map[string]any)[annotationKey] = "somebody's"
	if _, err := b.Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassPermanent {
		t.Error(err)
	}
}

// What keeps a pod from starting, and what ended it, is told; addresses with signatures are not.
func TestWords(t *testing.T) {
	t.Parallel()
	_, fresh, st := setup(t, "Job")
	b := fresh(t)
	id, err := b.Submit(t.Context(), finetunetest.NewJob(t, finetunetest.World{Store: st}, "words", "broken", 12))
	if err != nil {
		t.Fatal(err)
	}
	end := finetunetest.Await(t, b, id, finetunetest.Ended)
	for _, want := range []string{"BackoffLimitExceeded", "exit code 137 (OOMKilled)", "Traceback", "X-Amz-Signature=***"} {
		if !strings.Contains(end.Message, want) {
			t.Errorf("%q is not in %q", want, end.Message)
		}
	}
	pending := pod{}
	pending.Status.Conditions = []condition{{Type: "PodScheduled", Status: "False", Reason: "Unschedulable", Message: "no GPU"}}
	if pending.words() != "Unschedulable: no GPU" {
		t.Error(pending.words())
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	srv := httptest.NewTLSServer(&cluster{jobs: map[string]*running{}, kind: "Job"})
	t.Cleanup(srv.Close)
	st := s3test.Store(t)
	ask := func(path string) error {
		b, err := New(Config{Template: templates["Job"], Kubeconfig: path, Retry: rest.Config{Attempts: 1}}, st)
		if err == nil {
			_, err = b.Poll(t.Context(), "job-1")
		}
		return err
	}
	path := kubeconfigFor(t, srv, "{tokenFile: "+token+"}")
	if err := ask(path); finetune.ClassOf(err) != finetune.ClassAuth {
		t.Error(err)
	}
	if err := os.WriteFile(token, []byte(testToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ask(path); finetune.ClassOf(err) != finetune.ClassNotFound {
		t.Error(err)
	}
	for about, c := range map[string]struct{ user, want string }{
		"exec":    {"{exec: {command: aws}}", "exec are not supported"},
		"no pair": {"{client-certificate-data: AAAA}", "do not make a pair"},
	} {
		if err := ask(kubeconfigFor(t, srv, c.user)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", about, err)
		}
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	for name, body := range map[string]string{"ca.crt": string(ca), "namespace": "train\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := inCluster(dir, srv.URL); err != nil || a.namespace != "train" || a.server != srv.URL {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	for text, want := range map[string]string{
		"kind: Pod\napiVersion: v1":                  "batch/v1 and Job",
		"kind: Job\napiVersion: batch/v1beta1":       "batch/v1 and Job",
		"kind: Job\napiVersion: batch/v1":            "no spec",
		"kind: Job\napiVersion: batch/v1\nspec: {}":  "no containers",
		"kind: Job\napiVersion: batch/v1\nspec: [1]": "no spec",
		"{{":   "template",
		"a: b": "batch/v1 and Job",
	} {
		if _, err := New(Config{Template: text, Kubeconfig: "/none"}, st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: x}}]"))
	for _, raw := range []string{
		"current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u, namespace: n}}]\nclusters: [{name: c, cluster: {server: x, certificate-authority-data: AAAA}}]\nusers: [{name: u, user: {token: t, exec: {a: [b]}}}]",
		"a: &a [x, x, x, x, x, x, x, x, x]\n" + laughs(8) + "\nusers: [{name: u, user: {exec: *h}}]", // aliases that grow as they are followed
		"a: &a [*a]", "users: &u\n  - *u", "clusters: " + strings.Repeat("[", 3000), strings.Repeat("a:\n ", 500), "\xff\xfe", "current-context: !!binary x\n---\n...", "? [a]\n: {<<: [*x]}",
		"clusters: [{name: '', cluster: {server: x, certificate-authority: ../../x}}]",
	} {
		f.Add([]byte(raw))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if a, err := fromKubeconfig(raw, dir); err == nil && (a.server == "" || a.client == nil || a.namespace == "") {
			t.Fatalf("%+v", a)
		}
	})
}

// laughs is YAML of a few lines whose last stands for 9 to the power of n values.
func laughs(n int) string {
	var b strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "%c: &%c [%s]\n", 'a'+i, 'a'+i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", 'a'+i-1), 9), ", "))
	}
	return b.String()
}
