package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/folder"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/internal/devstack/programs"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

const superviseDir = "SELFALIGN_TEST_SUPERVISE_DIR"

// TestMain lets the test binary be a supervisor that can be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(superviseDir); dir != "" {
		supervise(dir)
	}
	for _, name := range []string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"} {
		_ = os.Unsetenv(name)
	}
	for _, p := range []gobuild.Program{programs.Temporald, programs.Localstack} {
		if _, err := gobuild.CachedPatiently(context.Background(), p); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func supervise(dir string) {
	s, err := Start(context.Background(), Options{Dir: dir, NoUI: true, Embedded: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode([]int{s.Service(ServiceTemporal).Pid(), s.Service(ServiceLocal).Pid()})
	select {}
}

func start(t *testing.T, o Options) *Stack {
	t.Helper()
	o.Embedded = true
	o.Notify = func(message string) { t.Log(message) }
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

// leave writes something into each service.
func leave(t *testing.T, s *Stack, name string) {
	t.Helper()
	store := open(t, s)
	require.NoError(t, store.Put(t.Context(), "some/"+name, []byte("body of "+name)))
	c := dial(t, s)
	_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: name, TaskQueue: "nobody"}, "Nothing")
	require.NoError(t, err)
	ask(t, s, name)
}

// found checks that what leave wrote is there.
func found(t *testing.T, s *Stack, name string) {
	t.Helper()
	store := open(t, s)
	body, err := store.Get(t.Context(), "some/"+name)
	require.NoError(t, err)
	require.Equal(t, "body of "+name, string(body))
	c := dial(t, s)
	require.Eventually(t, func() bool {
		_, err := c.DescribeWorkflowExecution(t.Context(), name, "")
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	counts, err := pocketlm.ReadJournal(s.PocketDir)
	require.NoError(t, err)
	require.Positive(t, counts.Answered)
}

// open returns the bucket. The keys go through the environment, which parallel tests share, so each folder has names of its own.
func open(t *testing.T, s *Stack) *blob.Store {
	t.Helper()
	cfg := s.S3
	tag := filepath.Base(filepath.Dir(s.options.Dir)) + filepath.Base(s.options.Dir)
	cfg.AccessKeyEnv, cfg.SecretKeyEnv = "TEST_ACCESS_"+tag, "TEST_SECRET_"+tag
	require.NoError(t, os.Setenv(cfg.AccessKeyEnv, s.keys.Access))
	require.NoError(t, os.Setenv(cfg.SecretKeyEnv, s.keys.Secret))
	store, err := blob.Open(t.Context(), cfg)
	require.NoError(t, err)
	return store
}

func dial(t *testing.T, s *Stack) client.Client {
	t.Helper()
	c, err := s.client()
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func ask(t *testing.T, s *Stack, question string) {
	t.Helper()
	body := fmt.Sprintf(`{"model":"pocketlm-base","messages":[{"role":"user","content":%q}]}`, question)
	var last string
	require.Eventually(t, func() bool {
		response, err := http.Post(s.PocketURL+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			last = err.Error()
			return false
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		last = fmt.Sprint(response.Status, string(text), err)
		return response.StatusCode == http.StatusOK
	}, 20*time.Second, 50*time.Millisecond, last)
}

func TestStackSurvivesKillOfEachPart(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: t.TempDir(), NoUI: true})
	leave(t, s, "first")
	for i, parts := range [][]string{{ServiceLocal}, {ServiceTemporal}, {ServiceLocal, ServiceTemporal}} {
		for _, part := range parts {
			before := s.Service(part)
			require.NoError(t, before.Kill())
			require.Eventually(t, func() bool { return s.Service(part).Pid() != before.Pid() }, 30*time.Second, 20*time.Millisecond)
		}
		found(t, s, "first")
		leave(t, s, fmt.Sprintf("after-%d", i))
	}
	found(t, s, "after-1")
}

func TestNothingIsLeftBehindByAKilledSupervisor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, NoUI: true})
	leave(t, s, "before")
	s.Stop()

	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), superviseDir+"="+dir)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var pids []int
		require.NoError(t, json.NewDecoder(out).Decode(&pids), &said)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		t.Cleanup(func() {
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL) // only after a failure
			}
		})
		require.Eventually(t, func() bool {
			for _, pid := range pids {
				if alive(pid) {
					return false
				}
			}
			return true
		}, 20*time.Second, 20*time.Millisecond, "children outlived their supervisor")
	}

	s = start(t, Options{Dir: dir, NoUI: true}) // on other ports, as it happens
	found(t, s, "before")
}

// alive reports whether a process runs; one that waits to be collected does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err != nil && !os.IsNotExist(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestRestartAtOnceAfterKillWaitsForTheOldParts(t *testing.T) {
	t.Parallel()
	dir, base := t.TempDir(), freePorts(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), superviseDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pids []int
	require.NoError(t, json.NewDecoder(out).Decode(&pids))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	start(t, Options{Dir: dir, Ports: base})
}

func TestStackServesTheWebUI(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: t.TempDir(), Ports: freePorts(t)})
	for _, path := range []string{"/", "/api/v1/namespaces/default"} {
		response, err := http.Get(s.UIURL + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode, path)
	}
	for _, url := range []string{s.UIURL, s.S3.Endpoint, s.PocketURL, "//" + s.TemporalAddress} {
		require.Contains(t, url, "//127.0.0.1:")
	}
}

func freePorts(t *testing.T) Ports {
	t.Helper()
	var p Ports
	for _, port := range []*int{&p.Temporal, &p.UI, &p.S3, &p.Model} {
		var err error
		*port, err = loopback.Free()
		require.NoError(t, err)
	}
	return p
}

func TestTakenPortIsNamed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	port := listener.Addr().(*net.TCPAddr).Port
	for part, ports := range map[string]Ports{
		"S3": {S3: port}, "model server": {Model: port}, "Temporal": {Temporal: port}, "Temporal Web UI": {UI: port},
	} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			_, err := Start(t.Context(), Options{Dir: t.TempDir(), Ports: ports, Embedded: true})
			require.ErrorIs(t, err, loopback.ErrTaken)
			require.ErrorContains(t, err, part+": port is taken: 127.0.0.1:")
		})
	}
}

// A port that was drawn may be taken before the service listens there: then others are drawn. One that was asked for is not replaced.
func TestTakenPortIsDrawnAgain(t *testing.T) {
	t.Parallel()
	taken := &child.ExitError{Name: "Temporal", Code: child.Refused, Last: "temporald: Temporal: port is taken: 127.0.0.1:20000."}
	for name, c := range map[string]struct {
		ports []int
		errs  []error // of the starts, in turn
		tries int
		want  error
	}{
		"once":      {[]int{0, 0}, []error{taken, nil}, 2, nil},
		"always":    {[]int{0}, []error{taken, taken, taken, nil}, 3, taken},
		"asked for": {[]int{0, 7}, []error{taken, nil}, 1, taken},
		"other":     {[]int{0, 0}, []error{folder.ErrLocked, nil}, 1, folder.ErrLocked},
	} {
		s, tries := &Stack{options: Options{Notify: func(string) {}}}, 0
		err := s.drawing(t.Context(), func(context.Context) error { tries++; return c.errs[tries-1] }, c.ports...)
		require.ErrorIs(t, err, c.want, name)
		require.Equal(t, c.tries, tries, name)
	}
}

func TestLockedFolderNamesTheHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := folder.Acquire(dir, "devstack")
	require.NoError(t, err)
	_, err = Start(t.Context(), Options{Dir: dir, Embedded: true})
	require.ErrorIs(t, err, folder.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("process %d", os.Getpid()))
	require.NoError(t, lock.Release())
}

func TestKeysStayAndAreTheOwnersAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), KeysFile)
	made, err := loadKeys(path)
	require.NoError(t, err)
	again, err := loadKeys(path)
	require.NoError(t, err)
	require.Equal(t, made, again)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	require.NoError(t, os.WriteFile(path, []byte("nothing\n"), 0o600))
	_, err = loadKeys(path)
	require.ErrorContains(t, err, "Try:")
}

// A stand-in for the temporal command checks what it is asked for and serves with our own Temporal.
const fakeCLI = `#!/bin/sh
[ "$1 $2" = "server start-dev" ] || { echo "unexpected: $*" >&2; exit 1; }
shift 2
while [ $# -gt 0 ]; do
  case "$1" in
    --db-filename) dir=$(dirname "$2"); shift 2;;
    --port) port=$2; shift 2;;
    --ip|--ui-ip) [ "$2" = 127.0.0.1 ] || { echo "not on loopback: $2" >&2; exit 1; }; shift 2;;
    --headless) shift;;
    *) shift 2;;
  esac
done
echo $$ > "$PIDFILE"
# Unlike temporald, the command does not care for its standard input.
mkfifo "$PIDFILE.fifo"
exec 3<>"$PIDFILE.fifo"
exec "$TEMPORALD" -dir "$dir/cli" -port "$port" <&3
`

func TestTemporalCommandIsUsedAndEnded(t *testing.T) {
	temporald, err := gobuild.CachedPatiently(t.Context(), programs.Temporald)
	require.NoError(t, err)
	bin, pidfile := t.TempDir(), filepath.Join(t.TempDir(), "pid")
	require.NoError(t, os.WriteFile(filepath.Join(bin, "temporal"), []byte(fakeCLI), 0o755))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("TEMPORALD", temporald)
	t.Setenv("PIDFILE", pidfile)

	dir := t.TempDir()
	require.Len(t, Programs(Options{}), 1, "our own Temporal need not be built")
	s, err := Start(t.Context(), Options{Dir: dir, NoUI: true})
	require.NoError(t, err)
	require.Contains(t, s.TemporalKind, filepath.Join(bin, "temporal"))
	found := dial(t, s)
	_, err = found.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "w", TaskQueue: "nobody"}, "Nothing")
	require.NoError(t, err)
	pid := readPid(t, pidfile)
	guard := s.Service(ServiceTemporal).Pid()
	s.Stop()
	require.Eventually(t, func() bool { return !alive(pid) && !alive(guard) }, 20*time.Second, 20*time.Millisecond)

	require.NoError(t, os.Remove(pidfile+".fifo"))
	s, err = Start(t.Context(), Options{Dir: dir, NoUI: true})
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	_, err = dial(t, s).DescribeWorkflowExecution(t.Context(), "w", "")
	require.NoError(t, err)
	pid = readPid(t, pidfile)
	require.NoError(t, os.Remove(pidfile+".fifo"))
	require.NoError(t, s.Service(ServiceTemporal).Kill())
	require.Eventually(t, func() bool { return !alive(pid) }, 20*time.Second, 20*time.Millisecond, "a killed guard takes the command with it")
}

func TestGivenTemporalIsUsedAndLeftAlone(t *testing.T) {
	t.Parallel()
	first := start(t, Options{Dir: t.TempDir(), NoUI: true})
	require.Len(t, Programs(Options{TemporalAddress: first.TemporalAddress}), 1)
	second, err := Start(t.Context(), Options{Dir: t.TempDir(), TemporalAddress: first.TemporalAddress})
	require.NoError(t, err)
	require.True(t, second.TemporalGiven)
	require.Equal(t, first.TemporalAddress, second.TemporalAddress)
	second.Stop()
	leave(t, first, "still-there")

	nowhere, err := loopback.Free()
	require.NoError(t, err)
	_, err = Start(t.Context(), Options{Dir: t.TempDir(), TemporalAddress: loopback.Address(nowhere)})
	require.ErrorContains(t, err, "unset TEMPORAL_ADDRESS")
}

func readPid(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return pid
}
