package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/llm"
)

// childEnv holds the order of a child: a process that does one piece of work and is killed at any moment.
const childEnv = "SELFALIGN_STAGE_TEST_CHILD"

type order struct {
	Blob blob.Config
	URL  string
	Name string // of the child, in a header that the referee sees
	Work Work
	Post bool // the endpoint has the Batch API
}

// What a child ends with.
const (
	exitDone = iota
	exitFailed
	exitFenced
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

func child(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	ctx := context.Background()
	st, err := blob.Open(ctx, o.Blob)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	p := provider(o.URL)
	p.Headers = map[string]string{"X-Child": o.Name}
	if o.Post {
		p = postProvider(o.URL)
	}
	r, err := Run(ctx, Deps{Store: st, Models: llm.NewPool(map[string]llm.Provider{"p": p}), BatchPoll: 100 * time.Millisecond}, o.Work, nil)
	var e *Error
	switch {
	case errors.As(err, &e) && e.Class == ClassFenced:
		return exitFenced
	case err != nil || !r.Done:
		fmt.Fprintln(os.Stderr, r, err)
		return exitFailed
	}
	return exitDone
}

// start starts a child. It is killed when the test ends, whatever becomes of it.
func (o order) start(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended already, in most cases
		_ = cmd.Wait()
	})
	return cmd
}

// crashBench is a bench whose endpoint takes some time, a store that can be reached by children, and the rows of an
// undisturbed run to compare with.
func crashBench(t *testing.T, rows int) (*bench, blob.Config, []dataset.Candidate) {
	t.Helper()
	plain := newBench(t, rows, 0)
	smooth := plain.backtranslate("out")
	plain.run(smooth)

	cfg := s3test.Config(t)
	st, err := blob.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, st: st, ref: newReferee(t)}
	b.deps = b.dependencies()
	b.in = b.segments("segments", rows, 0)
	b.ref.answer = func(q question) reply {
		time.Sleep(time.Duration(q.seed%50) * time.Millisecond)
		return reply{}
	}
	return b, cfg, rowsOf[dataset.Candidate](plain, smooth)
}

func TestKilledAnywhereNothingIsLostOrPaidTwice(t *testing.T) {
	t.Parallel()
	b, cfg, want := crashBench(t, 2500)
	b.ref.answer = func(q question) reply {
		time.Sleep(time.Duration(q.seed%100) * time.Millisecond)
		return reply{}
	}
	w := b.backtranslate("out")
	w.InFlight = 24
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	var kills []time.Time
	for len(kills) < 7 {
		cmd := order{Blob: cfg, URL: b.ref.url, Name: fmt.Sprint(len(kills)), Work: w}.start(t)
		life := 50*time.Millisecond + time.Duration(r.IntN(1500))*time.Millisecond
		if len(kills) == 0 {
			life = 4 * time.Second // longer than what may be lost
		}
		time.Sleep(life)
		if err := cmd.Process.Kill(); err != nil {
			break // it was done before
		}
		_ = cmd.Wait()
		kills = append(kills, time.Now())
		b.balanced(w)
	}
	if err := (order{Blob: cfg, URL: b.ref.url, Name: "last", Work: w}).start(t).Wait(); err != nil {
		t.Fatal(err)
	}
	spent, doubt := b.balanced(w)
	if d := cmp.Diff(want, rowsOf[dataset.Candidate](b, w)); d != "" {
		t.Fatal("rows differ from an undisturbed run")
	}
	answers, questions := b.ref.counts()
	t.Logf("%d kills, %d questions, %d answers, ledger %d, in doubt %d calls", len(kills), questions, answers, spent.Calls, doubt.Calls)
	if questions != len(want) {
		t.Fatalf("%d questions about %d rows", questions, len(want))
	}
	const slack = time.Second // scheduling of a loaded machine
	b.ref.mu.Lock()
	defer b.ref.mu.Unlock()
	for _, times := range b.ref.answered {
		for i := range times[1:] {
			lost := false
			for _, kill := range kills {
				first := times[i]
				// A request that was on its way when its sender died is received a little later.
				inFlightOrYoung := first.received.Before(kill.Add(200*time.Millisecond)) && kill.Sub(first.answered) < 2*time.Second+slack
				lost = lost || (inFlightOrYoung && !times[i+1].received.Before(kill))
			}
			if !lost {
				t.Fatalf("billed %v, asked again %v, kills at %v", times[i], times[i+1], kills)
			}
		}
	}
}

func TestAZombiePaysNothing(t *testing.T) {
	t.Parallel()
	b, cfg, want := crashBench(t, 3000)
	w := b.backtranslate("out")
	var fromZombie, afterwards atomic.Int64
	var woken atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.Header.Get("X-Child") == "zombie" {
			fromZombie.Add(1)
			if woken.Load() {
				afterwards.Add(1)
			}
		}
		b.ref.ServeHTTP(rw, req)
	}))
	defer front.Close()
	zombie := order{Blob: cfg, URL: front.URL + "/v1", Name: "zombie", Work: w}.start(t)
	for deadline := time.Now().Add(20 * time.Second); fromZombie.Load() < 300; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the first attempt does not get going")
		}
	}
	if err := zombie.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	before := b.ref.asked()
	successor := order{Blob: cfg, URL: front.URL + "/v1", Name: "successor", Work: w}.start(t)
	for deadline := time.Now().Add(20 * time.Second); b.ref.asked() < before+300; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the successor does not get going")
		}
	}
	time.Sleep(1500 * time.Millisecond) // so that the zombie's last answers are old when it wakes up
	// The zombie's last reservation is in it, and the successor's present one.
	left := b.sum(w).InDoubt.Calls
	woken.Store(true)
	if err := zombie.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	err := zombie.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFenced {
		t.Fatalf("the zombie ended with %v", err)
	}
	if err := successor.Wait(); err != nil {
		t.Fatal(err)
	}
	// Woken, it lets in at most what its last reservation allows, until the next flush finds the successor's lease.
	if n := afterwards.Load(); n > left {
		t.Fatalf("the zombie asked %d times after it was taken over, %d were reserved", n, left)
	}
	spent, doubt := b.balanced(w)
	if d := cmp.Diff(want, rowsOf[dataset.Candidate](b, w)); d != "" {
		t.Fatal("rows differ from an undisturbed run")
	}
	if doubt != (dataset.Usage{}) {
		t.Fatalf("nobody died, but in doubt is %+v (spent %+v)", doubt, spent)
	}
}

func TestTheStoreIsCutOff(t *testing.T) {
	t.Parallel()
	b, cfg, want := crashBench(t, 2000)
	target, err := url.Parse(cfg.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host // the host is signed
	}}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(rw, req)
	}))
	defer front.Close()
	cfg.Endpoint = front.URL
	if b.deps.Store, err = blob.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w := b.backtranslate("out")
	done := make(chan error)
	var waiting atomic.Value
	go func() {
		r, err := Run(context.Background(), b.deps, w, func(p Progress) {
			if p.Waiting != "" {
				waiting.Store(p.Waiting)
			}
		})
		if err == nil && !r.Done {
			err = fmt.Errorf("not done: %+v", r)
		}
		done <- err
	}()
	for b.ref.asked() < 50 { // however slow the machine, some are asked and some are not
		time.Sleep(5 * time.Millisecond)
	}
	away.Store(true)
	time.Sleep(3500 * time.Millisecond)
	before := b.ref.asked()
	time.Sleep(500 * time.Millisecond)
	if more := b.ref.asked() - before; more != 0 || before == 0 || before == len(want) {
		t.Errorf("asked %d times while nothing could be written, after %d", more, before)
	}
	away.Store(false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if text, _ := waiting.Load().(string); !strings.Contains(text, "the ledger") {
		t.Errorf("progress did not say what was waited for: %q", text)
	}
	if d := cmp.Diff(want, rowsOf[dataset.Candidate](b, w)); d != "" {
		t.Fatal("rows differ from an undisturbed run")
	}
	if answers, questions := b.ref.counts(); answers != questions || questions != len(want) {
		t.Fatalf("%d answers to %d questions", answers, questions)
	}
	if _, doubt := b.balanced(w); doubt != (dataset.Usage{}) {
		t.Fatalf("in doubt: %+v", doubt)
	}
}
