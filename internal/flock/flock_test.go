package flock_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/flock"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("FLOCK_TEST_HOLD"); path != "" { // a process that holds the lock until it is killed
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		if got, err := flock.Try(f); !got || err != nil {
			panic(err)
		}
		os.Stdout.WriteString("held\n")
		time.Sleep(time.Hour) // select {} would be a deadlock, which ends the process
		f.Close()
	}
	os.Exit(m.Run())
}

func TestLocks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	want := func(f *os.File, want bool) {
		t.Helper()
		if got, err := flock.Try(f); got != want || err != nil {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
	}
	one, other := open(), open()
	want(one, true)
	want(other, false)
	if _, err := one.WriteString("held\n"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "held\n" { // what it locks can be read
		t.Fatalf("%q, %v", text, err)
	}
	flock.Free(one)
	want(other, true)
	other.Close()
	want(one, true)
	one.Close()

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FLOCK_TEST_HOLD="+path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	last := open()
	want(last, false)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	want(last, true)
}
