// Package s3test gives every test a bucket of its own on a real S3 server inside the test binary.
package s3test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d"
)

// The variables that hold the server's credentials while a test runs, as blob.Config names them.
const (
	AccessKeyEnv = "SELFALIGN_S3TEST_ACCESS_KEY"
	SecretKeyEnv = "SELFALIGN_S3TEST_SECRET_KEY" //nolint:gosec // a name
)

// shared is the server of this test binary. It runs while a test uses it.
var shared struct {
	sync.Mutex
	users  int
	server *s3d.Server
	dir    string
}

// Store returns a store over a fresh, empty bucket that is gone after the test.
func Store(t testing.TB) *blob.Store {
	t.Helper()
	st, err := blob.Open(context.Background(), Config(t))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Config returns the address of a fresh, empty bucket that is gone after the test.
func Config(t testing.TB) blob.Config {
	t.Helper()
	server := use(t)
	bucket := "test-" + strings.ToLower(rand.Text())
	if err := server.CreateBucket(context.Background(), bucket); err != nil {
		t.Fatal(err)
	}
	return blob.Config{
		Bucket: bucket, Endpoint: server.URL(), Region: s3d.Region, PathStyle: true,
		AccessKeyEnv: AccessKeyEnv, SecretKeyEnv: SecretKeyEnv,
	}
}

// use starts the server for the first test that wants it and stops it after the last that runs.
func use(t testing.TB) *s3d.Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.users == 0 {
		start(t)
	}
	shared.users++
	t.Cleanup(release)
	return shared.server
}

func start(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "selfalign-s3test-")
	if err != nil {
		t.Fatal(err)
	}
	access, secret := rand.Text(), rand.Text()
	server, err := s3d.Start(context.Background(), s3d.Options{Dir: dir, AccessKey: access, SecretKey: secret, NoSync: true})
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	for name, value := range map[string]string{AccessKeyEnv: access, SecretKeyEnv: secret} {
		if err := os.Setenv(name, value); err != nil {
			t.Fatal(err)
		}
	}
	shared.server, shared.dir = server, dir
}

func release() {
	shared.Lock()
	defer shared.Unlock()
	if shared.users--; shared.users > 0 {
		return
	}
	_ = shared.server.Stop() // the tests are over; nothing is lost with it
	os.RemoveAll(shared.dir)
	shared.server = nil
}
