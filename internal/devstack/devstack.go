// Package devstack gives a run all the services it needs on this machine alone, on loopback, in one data folder from which it
// goes on after any kill: Temporal with its Web UI, an S3 server and pocketlm.
//
// Each service is a child process that is started again when it dies and that leaves when this process does, however that
// ends. It is for quickstart, tests and benchmarks; worker and starter never link it.
package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/folder"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/internal/devstack/programs"
)

// Names of the environment variables that hold the keys of the S3 server. The keys are random for each data folder.
const (
	AccessKeyEnv = "SELFALIGN_S3_ACCESS_KEY"
	SecretKeyEnv = "SELFALIGN_S3_SECRET_KEY"
)

// Bucket is the one that is made.
const Bucket = "selfalign"

// Ports of the services; 0 is a free one.
type Ports struct{ Temporal, UI, S3, Model int }

// PortsFrom returns four ports in a row.
func PortsFrom(base int) Ports { return Ports{base, base + 1, base + 2, base + 3} }

// Options say where and how to serve.
type Options struct {
	// Dir holds everything. One stack at a time may use it.
	Dir string
	// Ports of the services.
	Ports Ports
	// NoUI leaves the Web UI out.
	NoUI bool
	// TemporalAddress is a Temporal service to use; "": TEMPORAL_ADDRESS, else the temporal command on PATH, else our own.
	TemporalAddress string
	// Embedded uses our own Temporal even where the temporal command is on PATH.
	Embedded bool
	// Building tells how far the building of a service's program is; may be nil.
	Building func(program string, p gobuild.Progress)
	// Notify tells what a person should know: a service died and is started again; may be nil.
	Notify func(message string)
}

// Programs lists what Start will run and may have to build, for those who want to build it beforehand with something else.
func Programs(o Options) []gobuild.Program {
	if temporalGiven(o) != "" || !o.Embedded && temporalCommand() != "" {
		return []gobuild.Program{programs.Localstack}
	}
	return []gobuild.Program{programs.Localstack, programs.Temporald}
}

// Stack is a set of running services.
type Stack struct {
	// TemporalAddress and Namespace say where workflows run.
	TemporalAddress, Namespace string
	// TemporalGiven says that Temporal was there before and stays: its address comes from the environment.
	TemporalGiven bool
	// TemporalKind says in words which Temporal it is.
	TemporalKind string
	// UIURL is the address of the Web UI; "" if there is none.
	UIURL string
	// S3 is the bucket. Its keys are in the environment variables that Env sets.
	S3 blob.Config
	// S3Dir is the local folder with the bucket's objects.
	S3Dir string
	// PocketURL is the base address of the model server, without /v1.
	PocketURL string
	// PocketDir holds the model server's journal.
	PocketDir string

	options Options
	keys    keys
	lock    *folder.Lock
	bin     string

	mu     sync.Mutex
	keeper map[string]*child.Keeper
}

// Names of the services, for Service.
const (
	ServiceTemporal = "temporal"
	ServiceLocal    = "localstack"
)

// Start starts the services and returns when all of them serve. Programs that are missing are built into the user's cache
// folder first, which for our own Temporal takes minutes on a fresh machine: Building tells. Errors that a person can do
// something about: folder.ErrLocked, loopback.ErrTaken.
func Start(ctx context.Context, o Options) (_ *Stack, err error) {
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	s := &Stack{options: o, Namespace: namespace, keeper: map[string]*child.Keeper{}}
	if s.lock, err = folder.Acquire(o.Dir, "devstack"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if s.keys, err = loadKeys(filepath.Join(o.Dir, KeysFile)); err != nil {
		return nil, err
	}
	if s.bin, err = gobuild.Dir(); err != nil {
		return nil, err
	}
	// Children of a stack that was killed leave within seconds; until then they hold their folders and ports.
	if err := awaitFolders(ctx, o, []string{filepath.Join(o.Dir, "temporal"), o.Dir}, []string{"temporal", "localstack"}); err != nil {
		return nil, err
	}
	if err := s.drawing(ctx, s.startLocal, o.Ports.S3, o.Ports.Model); err != nil {
		return nil, err
	}
	if err := s.drawing(ctx, s.startTemporal, o.Ports.Temporal, o.Ports.UI); err != nil {
		return nil, err
	}
	return s, nil
}

// Env returns the environment variables, as NAME=value, that programs need which use the bucket.
func (s *Stack) Env() []string {
	return []string{AccessKeyEnv + "=" + s.keys.Access, SecretKeyEnv + "=" + s.keys.Secret}
}

// Setenv puts the keys into this process's environment, for those who open the bucket in it.
func (s *Stack) Setenv() error {
	return errors.Join(os.Setenv(AccessKeyEnv, s.keys.Access), os.Setenv(SecretKeyEnv, s.keys.Secret))
}

// Service returns the process that serves a part, to be killed in tests; nil for a Temporal that was given.
func (s *Stack) Service(name string) *child.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keeper[name]; k != nil {
		return k.Process()
	}
	return nil
}

// Failed returns a channel that is closed when one of the services is given up, and why. Stopping is no failure.
func (s *Stack) Failed(ctx context.Context) <-chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(chan error, len(s.keeper))
	for _, k := range s.keeper {
		go func() {
			select {
			case <-k.Done():
				if err := k.Err(); err != nil {
					out <- err
				}
			case <-ctx.Done():
			}
		}()
	}
	return out
}

// Stop ends the services that Start started: Temporal first, S3 last.
func (s *Stack) Stop() {
	for _, name := range []string{ServiceTemporal, ServiceLocal} {
		s.mu.Lock()
		k := s.keeper[name]
		delete(s.keeper, name)
		s.mu.Unlock()
		if k != nil {
			k.Stop(15 * time.Second)
		}
	}
	_ = s.lock.Release()
}

// firstTries is how often a service is started the first time: Temporal chooses ports for its inner parts, and another
// program may take one at the same moment.
const firstTries = 3

// drawing starts a service once more when a port that it drew, since none was asked for, was taken by another before it
// listened there.
func (s *Stack) drawing(ctx context.Context, start func(context.Context) error, ports ...int) error {
	for try := 1; ; try++ {
		err := start(ctx)
		if err == nil || try == firstTries || slices.ContainsFunc(ports, func(asked int) bool { return asked != 0 }) || !strings.Contains(err.Error(), loopback.ErrTaken.Error()) {
			return err
		}
		s.options.Notify(fmt.Sprintf("%v; trying others", err))
	}
}

func (s *Stack) keep(ctx context.Context, name string, spec child.Spec) (*child.Keeper, error) {
	for try := 1; ; try++ {
		k, err := child.Keep(ctx, spec, func(e child.Event) { s.options.Notify(e.String()) })
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.keeper[name] = k
			return k, nil
		}
		var exit *child.ExitError
		if try == firstTries || !errors.As(err, &exit) || exit.Code == child.Refused {
			return nil, err
		}
		s.options.Notify(fmt.Sprintf("%v; trying again", err))
	}
}

// program returns the path of a program and builds it if need be.
func (s *Stack) program(ctx context.Context, p gobuild.Program) (string, error) {
	root, err := gobuild.Root()
	if err != nil {
		return "", err
	}
	return gobuild.Cached(ctx, root, s.bin, p, func(progress gobuild.Progress) {
		if s.options.Building != nil {
			s.options.Building(p.Name, progress)
		}
	})
}

func (s *Stack) startLocal(ctx context.Context) error {
	binary, err := s.program(ctx, programs.Localstack)
	if err != nil {
		return err
	}
	s3Port, err := loopback.Resolve("S3", s.options.Ports.S3)
	if err != nil {
		return err
	}
	modelPort, err := loopback.Resolve("model server", s.options.Ports.Model)
	if err != nil {
		return err
	}
	k, err := s.keep(ctx, ServiceLocal, child.Spec{
		Name: "S3 and model server",
		Command: []string{
			binary, "-dir", s.options.Dir, "-bucket", Bucket,
			"-s3-port", strconv.Itoa(s3Port), "-model-port", strconv.Itoa(modelPort),
			"-access-key-env", AccessKeyEnv, "-secret-key-env", SecretKeyEnv,
		},
		Env: s.Env(), Log: filepath.Join(s.options.Dir, "logs", "localstack.log"), Ready: 60 * time.Second,
	})
	if err != nil {
		return err
	}
	var ready struct{ S3, Model string }
	if err := json.Unmarshal(k.Process().Ready(), &ready); err != nil {
		return fmt.Errorf("read ready line of localstack: %w", err)
	}
	s.S3 = blob.Config{Bucket: Bucket, Endpoint: ready.S3, Region: "us-east-1", PathStyle: true, AccessKeyEnv: AccessKeyEnv, SecretKeyEnv: SecretKeyEnv}
	s.S3Dir = filepath.Join(s.options.Dir, "s3", Bucket)
	s.PocketURL, s.PocketDir = ready.Model, filepath.Join(s.options.Dir, "pocketlm")
	return nil
}

// leaving is how long the children of a killed stack are waited for.
const leaving = 20 * time.Second

// awaitFolders waits until no part of an earlier stack works in its folder any more.
func awaitFolders(ctx context.Context, o Options, dirs, names []string) error {
	deadline, said := time.Now().Add(leaving), false
	for i, dir := range dirs {
		for {
			lock, err := folder.Acquire(dir, names[i])
			if err == nil {
				if err := lock.Release(); err != nil {
					return err
				}
				break
			}
			if !errors.Is(err, folder.ErrLocked) || time.Now().After(deadline) {
				return err
			}
			if !said {
				o.Notify("waiting for parts of an earlier start to end")
				said = true
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}
