package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/devstack"
)

const settingsText = `# Settings of the worker, as quickstart wrote them. They may serve as a pattern for your own.
# The keys that the names stand for are in %[1]s.
temporal:
  address: %[2]q
  namespace: %[3]q
  ui: %[4]q

store:
  bucket: %[5]q
  endpoint: %[6]q
  region: us-east-1
  path_style: true
  access_key_env: %[7]s
  secret_key_env: %[8]s

providers:
  pocketlm:
    url: %[9]q
    limits:
      in_flight: 64
    prices: # it runs on this machine
      "*": {input: 0, output: 0}

trainers:
  pocketlm:
    backend: openai
    provider: pocketlm
    poll: 200ms

servers:
  pocketlm:
    backend: openai
    provider: pocketlm
`

// writeSettings writes the worker's settings for a stack and reads them as the worker will.
func writeSettings(dir string, s *devstack.Stack) (string, config.Worker, error) {
	text := fmt.Sprintf(settingsText, filepath.Join(dir, devstack.KeysFile), s.TemporalAddress, s.Namespace, s.UIURL,
		s.S3.Bucket, s.S3.Endpoint, s.S3.AccessKeyEnv, s.S3.SecretKeyEnv, s.PocketURL+"/v1")
	path := filepath.Join(dir, "worker.yaml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return "", config.Worker{}, fmt.Errorf("write settings: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", config.Worker{}, fmt.Errorf("write settings: %w", err)
	}
	worker, err := config.LoadWorker(path)
	if err != nil {
		return "", config.Worker{}, fmt.Errorf("settings: %w", err)
	}
	return path, worker, nil
}

// onlyOurTemporal keeps the user's settings of another Temporal away from ours: a profile or variable with a certificate or
// an API key would make every client here ask for an encrypted connection. A Temporal that is given keeps them all.
func onlyOurTemporal(dir string) error {
	if os.Getenv("TEMPORAL_ADDRESS") != "" {
		return nil
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "TEMPORAL_") {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("unset %s: %w", name, err)
			}
		}
	}
	path := filepath.Join(dir, "temporal.toml")
	if err := os.WriteFile(path, []byte("# no profiles: the address is in worker.yaml\n"), 0o600); err != nil {
		return fmt.Errorf("write Temporal's profile: %w", err)
	}
	return os.Setenv("TEMPORAL_CONFIG_FILE", path)
}

// loadSpec reads the example's spec.
func loadSpec(root, name string) (config.Run, string, error) {
	path := filepath.Join(root, "examples", "quickstart", "run.yaml")
	var overrides []string
	if name != "" {
		overrides = append(overrides, "name="+name)
	}
	spec, err := config.LoadRun(path, overrides...)
	if err != nil {
		return config.Run{}, "", err
	}
	return spec, filepath.Dir(path), nil
}

// shown is a path as the user would type it: relative where that is shorter.
func shown(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && !strings.HasPrefix(rel, "..") {
			return cmp.Or(rel, path)
		}
	}
	return path
}
