package s3d_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d"
)

const childEnv = "SELFALIGN_S3D_TEST_DIR"

// TestMain serves the folder in childEnv when it is set: the process that TestKillNine kills.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"S3D_TEST_ACCESS": "access", "S3D_TEST_SECRET": "secret-secret"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	if dir := os.Getenv(childEnv); dir != "" {
		s, err := s3d.Start(context.Background(), options(dir))
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(s.Addr())
		select {}
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // the package's clock
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // ends within 10 s of a stop
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),                      // the stores' idle connections
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("github.com/gofiber/utils/v2.StartTimeStampUpdater.func1.1"),
	)
}

func options(dir string) s3d.Options {
	return s3d.Options{Dir: dir, AccessKey: "access", SecretKey: "secret-secret"}
}

func store(t *testing.T, url, bucket string) *blob.Store {
	t.Helper()
	st, err := blob.Open(t.Context(), blob.Config{
		Bucket: bucket, Endpoint: url, Region: s3d.Region, PathStyle: true,
		AccessKeyEnv: "S3D_TEST_ACCESS", SecretKeyEnv: "S3D_TEST_SECRET",
	})
	require.NoError(t, err)
	return st
}

func TestRestartOnTheSameFolder(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	before, err := os.Getwd()
	require.NoError(t, err)
	s, err := s3d.Start(ctx, options(dir))
	require.NoError(t, err)
	require.NoError(t, s.CreateBucket(ctx, "runs"))
	require.NoError(t, s.CreateBucket(ctx, "runs"), "again is fine")
	require.Error(t, s.CreateBucket(ctx, "../runs"))
	st := store(t, s.URL(), "runs")
	require.NoError(t, st.Check(ctx))
	require.NoError(t, st.Put(ctx, "a/b", []byte("kept")))
	now, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, before, now, "the process stays in its folder")

	began := time.Now()
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop(), "again is fine")
	require.Less(t, time.Since(began), 10*time.Second)
	_, err = net.DialTimeout("tcp", s.Addr(), time.Second)
	require.Error(t, err)

	o := options(dir)
	o.Addr = s.Addr()
	s, err = s3d.Start(ctx, o)
	require.NoError(t, err)
	defer s.Stop()
	got, err := store(t, s.URL(), "runs").Get(ctx, "a/b")
	require.NoError(t, err)
	require.Equal(t, "kept", string(got))
}

func TestSeveralServersInOneProcess(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for i := range 3 {
		s, err := s3d.Start(ctx, options(t.TempDir()))
		require.NoError(t, err)
		defer s.Stop()
		require.NoError(t, s.CreateBucket(ctx, "same-name"))
		st := store(t, s.URL(), "same-name")
		var keys int
		require.NoError(t, st.List(ctx, "", func(blob.Info) error { keys++; return nil }))
		require.Zero(t, keys)
		require.NoError(t, st.Put(ctx, fmt.Sprint("k", i), nil))
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s, err := s3d.Start(ctx, options(dir))
	require.NoError(t, err)
	defer s.Stop()

	_, err = s3d.Start(ctx, options(dir))
	require.ErrorContains(t, err, "served by another process")

	o := options(t.TempDir())
	o.Addr = s.Addr()
	_, err = s3d.Start(ctx, o)
	require.ErrorContains(t, err, "is taken by another program. Try:")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = s3d.Start(ctx, options(file))
	require.Error(t, err)
	_, err = s3d.Start(ctx, options(""))
	require.ErrorContains(t, err, "no folder")
	_, err = s3d.Start(ctx, s3d.Options{Dir: dir})
	require.ErrorContains(t, err, "access key")
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := s3d.Start(ctx, s3d.Options{Dir: t.TempDir(), AccessKey: "access", SecretKey: "another secret"})
	require.NoError(t, err)
	defer s.Stop()
	require.NoError(t, s.CreateBucket(ctx, "runs"))
	st := store(t, s.URL(), "runs")
	err = st.Check(ctx)
	require.ErrorContains(t, err, "Try:")
	require.NotContains(t, err.Error(), "secret-secret")
	resp, err := http.Get(s.URL() + "/runs/a")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}

// TestKillNine writes to a server in another process, kills it in the middle of things and finds every object
// that was acknowledged, whole.
func TestKillNine(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	body := func(i int) []byte { return []byte(strings.Repeat(fmt.Sprintf("%08d", i), 20_000)) }
	acknowledged := -1
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line := make([]byte, 200)
		n, err := out.Read(line)
		require.NoError(t, err)
		addr := strings.TrimSpace(string(line[:n]))
		url := "http://" + addr
		if round == 0 {
			put(t, url)
		}
		st := store(t, url, "runs")
		for i := range acknowledged + 1 {
			got, err := st.Get(ctx, fmt.Sprintf("k/%d", i))
			require.NoError(t, err)
			require.True(t, string(body(i)) == string(got), "object %d", i)
		}
		kctx, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
		time.AfterFunc(300*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for i := acknowledged + 1; kctx.Err() == nil; i++ {
			if st.PutIfAbsent(kctx, fmt.Sprintf("k/%d", i), body(i)) != nil {
				break
			}
			acknowledged = i
		}
		cancel()
		_ = cmd.Wait() // it was killed
	}
	require.Greater(t, acknowledged, 3)
}

// put makes the bucket through the protocol, as the server lives elsewhere.
func put(t *testing.T, url string) {
	t.Helper()
	require.NoError(t, createOverHTTP(t.Context(), url, "runs"))
}
