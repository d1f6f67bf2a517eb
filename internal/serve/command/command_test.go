package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/serve"
	"github.com/selfalign/selfalign/internal/serve/servetest"
)

// TestMain lets this binary be the program that serves a model.
func TestMain(m *testing.M) {
	switch os.Getenv("SELFALIGN_TEST_PROGRAM") {
	case "serve":
		program()
	case "fail":
		fmt.Fprintln(os.Stderr, "no GPU: token is hunter22")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// program serves what it is told of, until TERM.
func program() {
	var spec Spec
	raw, err := os.ReadFile(os.Getenv("SELFALIGN_MODEL"))
	if err == nil {
		err = json.Unmarshal(raw, &spec)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	weights, err := os.ReadFile(filepath.Join(os.Getenv("SELFALIGN_ARTIFACTS"), "weights"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		err := http.ListenAndServe(net.JoinHostPort(os.Getenv("SELFALIGN_HOST"), os.Getenv("SELFALIGN_PORT")), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "%d %s %s %s", os.Getpid(), os.Args[len(os.Args)-1], weights, os.Getenv("SECRET"))
		}))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	os.Exit(0)
}

func trained(n int) serve.Trained {
	return serve.Trained{
		Run: "demo", Iteration: n, Model: "m", Artifact: fmt.Sprintf("runs/demo/%02d/train/m", n), TrainingDigest: fmt.Sprintf("m%d-%016x", n, n+77),
	}
}

type world struct {
	store *blob.Store
	cfg   Config
}

func newWorld(t *testing.T, slots int) *world {
	t.Helper()
	w := &world{store: s3test.Store(t)}
	for n := range 3 {
		servetest.LeaveArtifact(t, w.store, trained(n).Artifact, map[string]string{"weights": fmt.Sprint("w", n)})
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{
		Name: "local", Command: []string{self, "-name", "{name}"}, Dir: t.TempDir(), Model: "{run}-{role}-{iteration}-{digest}",
		Env: []string{"SELFALIGN_TEST_PROGRAM=serve", "SERVICE_TOKEN=hunter22"}, Grace: 2 * time.Second, Health: "/health",
	}
	for range slots {
		address := freeAddress(t)
		provider := "p"
		if n := len(w.cfg.Slots); n > 0 {
			provider += strconv.Itoa(n)
		}
		w.cfg.Slots = append(w.cfg.Slots, Slot{provider, "http://" + address + "/v1"})
	}
	t.Cleanup(func() {
		s := w.server(t)
		for _, id := range s.all() {
			if svc, err := s.service(id); err == nil {
				if err := svc.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	return w
}

// freeAddress is one that the system gives to nobody who asks for any port: those begin at 32768.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(12000+rand.IntN(20000))
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

func (w *world) server(t *testing.T) *Server {
	t.Helper()
	s, err := New(w.cfg, w.store)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// said returns what the program in a slot answers; "" when nobody listens there.
func (w *world) said(t *testing.T, slot int) string {
	t.Helper()
	answer, err := http.Get(strings.TrimSuffix(w.cfg.Slots[slot].URL, "/v1"))
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	b := make([]byte, 200)
	n, _ := answer.Body.Read(b)
	return string(b[:n])
}

func TestConformance(t *testing.T) {
	t.Parallel()
	servetest.ExerciseAlone(t, "p", func(t *testing.T) func(t *testing.T) serve.Server {
		w := newWorld(t, 4)
		return func(t *testing.T) serve.Server { return w.server(t) }
	}, trained)
}

// A program is adopted by whoever comes after the worker that started it; it is stopped with its whole group at teardown.
func TestAdoptedAndStopped(t *testing.T) {
	t.Setenv("SECRET", "from the worker")
	w := newWorld(t, 1)
	ref, err := w.server(t).Deploy(t.Context(), trained(1))
	if err != nil {
		t.Fatal(err)
	}
	first := w.said(t, 0)
	if !strings.HasSuffix(first, ref.Name+" w1 ") {
		t.Errorf("it says %q, want the name %s, its weights, and nothing of the worker's environment", first, ref.Name)
	}
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err != nil || w.said(t, 0) != first {
		t.Errorf("after %q comes %q, %v", first, w.said(t, 0), err)
	}
	if _, err := w.server(t).Deploy(t.Context(), trained(2)); err == nil || errors.As(err, new(*serve.Error)) || !strings.Contains(err.Error(), ref.Name) {
		t.Errorf("the port is taken, and it says %v", err)
	}
	if err := w.server(t).Teardown(t.Context(), trained(1)); err != nil || w.said(t, 0) != "" {
		t.Errorf("still there: %q, %v", w.said(t, 0), err)
	}
	if _, err := w.server(t).Deploy(t.Context(), trained(2)); err != nil || !strings.Contains(w.said(t, 0), "w2") {
		t.Errorf("the port is free: %q, %v", w.said(t, 0), err)
	}
}

// A program that dies is started again, by whichever worker watches; one that was torn down is not.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(w.said(t, 0), " ")
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	s := w.server(t)
	go func() { defer close(done); s.Watch(ctx, 20*time.Millisecond, func(string, error) {}) }()
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for now := ""; now == "" || strings.HasPrefix(now, pid+" "); now = w.said(t, 0) {
		if time.Now().After(deadline) {
			t.Fatal("it was not started again")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := s.Teardown(t.Context(), trained(1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if w.said(t, 0) != "" {
		t.Error("it was started again after its teardown")
	}
	cancel()
	<-done
}

// A program that cannot start is told with its last words, without secrets.
func TestProgramsThatFail(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"it ends":         {func(c *Config) { c.Env[0] = "SELFALIGN_TEST_PROGRAM=fail" }, "exit code 3: no GPU: token is ***"},
		"there is none":   {func(c *Config) { c.Command = []string{"/nowhere/serve"} }, "exit code 127"},
		"it never speaks": {func(c *Config) { c.Command, c.Start = []string{"sleep", "60"}, 300*time.Millisecond }, "does not answer GET /health"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			c.spoil(&w.cfg)
			_, err := w.server(t).Deploy(t.Context(), trained(1))
			if !errors.As(err, new(*serve.Error)) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter22") {
				t.Error(err)
			}
			if err := w.server(t).Teardown(t.Context(), trained(1)); err != nil {
				t.Error(err)
			}
		})
	}
}
