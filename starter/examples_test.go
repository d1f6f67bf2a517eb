package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/config"
)

// Every example is a spec and settings that go together, and a plan can be made of it without any service.
func TestExamples(t *testing.T) {
	t.Parallel()
	specs, err := filepath.Glob("../examples/*/run.yaml")
	if err != nil || len(specs) < 5 {
		t.Fatalf("%v, %v", specs, err)
	}
	for _, spec := range specs {
		t.Run(filepath.Base(filepath.Dir(spec)), func(t *testing.T) {
			t.Parallel()
			run, err := config.LoadRun(spec)
			if err != nil {
				t.Fatal(err)
			}
			settings := filepath.Join(filepath.Dir(spec), "worker.yaml")
			if _, err := os.Stat(settings); err != nil {
				return // the quickstart makes its settings itself
			}
			worker, err := config.LoadWorker(settings)
			if err != nil {
				t.Fatal(err)
			}
			if err := config.CheckTogether(run, worker); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			if code := runStarter(t, &out, &errs, "plan", "-f", spec, "-w", settings); code != exitOK || !strings.Contains(out.String(), "calls") {
				t.Errorf("plan: exit code %d\n%s%s", code, out.String(), errs.String())
			}
		})
	}
}

func runStarter(t *testing.T, out, errs *bytes.Buffer, args ...string) int {
	t.Helper()
	return run(t.Context(), args, strings.NewReader(""), out, errs)
}

// object is what the manifests have in common, and what is checked of them.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	StringData map[string]string `yaml:"stringData"`
	Resources  []string
	Generators []struct {
		Name  string
		Files []string
	} `yaml:"configMapGenerator"`
	Images []struct {
		Name    string
		NewName string `yaml:"newName"`
		NewTag  string `yaml:"newTag"`
	}
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Image   string
					Args    []string
					EnvFrom []struct {
						SecretRef struct{ Name string } `yaml:"secretRef"`
					} `yaml:"envFrom"`
					VolumeMounts []struct {
						Name      string
						MountPath string `yaml:"mountPath"`
					} `yaml:"volumeMounts"`
				}
				Volumes []map[string]any
			}
		}
	}
}

func manifest(t *testing.T, name string) []object {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../examples/kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []object
	for _, doc := range strings.Split("\n"+string(raw), "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, o)
	}
	return out
}

// The manifests hold together: kinds and versions are real ones, selectors match, volumes are there, every role is served,
// pods get the time that workers take to stop, and the keys that the settings name.
func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	worker, err := config.LoadWorker("../examples/kubernetes/worker.yaml")
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{
		"Namespace": "v1", "Secret": "v1", "Service": "v1", "PersistentVolumeClaim": "v1", "Deployment": "apps/v1", "StatefulSet": "apps/v1",
		"NetworkPolicy": "networking.k8s.io/v1", "Kustomization": "kustomize.config.k8s.io/v1beta1",
	}
	whole := manifest(t, "kustomization.yaml")[0]
	objects := []object{whole}
	for _, name := range whole.Resources {
		objects = append(objects, manifest(t, name)...)
	}
	if len(whole.Generators) != 1 || !slices.Equal(whole.Generators[0].Files, []string{"worker.yaml"}) {
		t.Errorf("settings: %+v", whole.Generators)
	}
	keys := manifest(t, "secrets.example.yaml")[0]
	for _, env := range []string{worker.Store.AccessKeyEnv, worker.Store.SecretKeyEnv, worker.Providers["vllm"].KeyEnv} {
		if _, ok := keys.StringData[env]; !ok {
			t.Errorf("secret %s has no %s", keys.Metadata.Name, env)
		}
	}
	// An image without a registry is one of ours, and kustomize gives it its own.
	images, used := map[string]bool{}, map[string]bool{}
	for _, i := range whole.Images {
		images[i.Name] = true
		if i.NewName == "" || i.NewTag == "" {
			t.Errorf("image %s becomes %q with tag %q", i.Name, i.NewName, i.NewTag)
		}
	}
	var roles []string
	for _, o := range append(objects, keys) {
		if versions[o.Kind] == "" || versions[o.Kind] != o.APIVersion || o.Kind != "Kustomization" && o.Metadata.Name == "" {
			t.Errorf("%s %s is of %s", o.Kind, o.Metadata.Name, o.APIVersion)
		}
		pod := o.Spec.Template
		for _, c := range pod.Spec.Containers {
			used[c.Image] = true
			if !strings.Contains(c.Image, "/") && !images[c.Image] {
				t.Errorf("%s: kustomization names no registry for image %q", o.Metadata.Name, c.Image)
			}
			for label, value := range o.Spec.Selector.MatchLabels {
				if pod.Metadata.Labels[label] != value {
					t.Errorf("%s: its pods do not have %s=%s", o.Metadata.Name, label, value)
				}
			}
			for _, m := range c.VolumeMounts {
				if m.MountPath == "" || !slices.ContainsFunc(pod.Spec.Volumes, func(v map[string]any) bool { return v["name"] == m.Name }) {
					t.Errorf("%s: no volume %s", o.Metadata.Name, m.Name)
				}
			}
			if o.Kind != "Deployment" {
				continue
			}
			roles = append(roles, c.Args[len(c.Args)-1])
			if len(c.EnvFrom) != 1 || c.EnvFrom[0].SecretRef.Name != keys.Metadata.Name || !slices.Equal(c.Args[:3], []string{"-config", "/etc/selfalign/worker.yaml", "-queues"}) {
				t.Errorf("%s: %+v", o.Metadata.Name, c)
			}
			if grace := time.Duration(pod.Spec.Grace) * time.Second; grace <= time.Duration(worker.Process.StopTimeout) {
				t.Errorf("%s: is killed after %v, and may take %v to stop", o.Metadata.Name, grace, worker.Process.StopTimeout)
			}
		}
	}
	if want := []string{"control", "llm", "cpu", "train"}; !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v", roles, want)
	}
	for name := range images {
		if !used[name] {
			t.Errorf("kustomization renames image %q, which nothing uses", name)
		}
	}
}
