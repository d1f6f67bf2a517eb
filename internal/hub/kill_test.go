package hub_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
)

const killFiles = 8

// killPush is the push that a killed process and its successor make.
func killPush() (hub.Push, error) {
	p := hub.Push{Repo: repo, Key: "killed", Files: []hub.Upload{hub.FromBytes("README.md", []byte("# card\n"))}}
	for i := range killFiles {
		b, err := pairsFile(20+40*i, uint64(i))
		if err != nil {
			return p, err
		}
		p.Files = append(p.Files, hub.FromBytes(hub.ShardPath("default", "train", i, killFiles), b))
	}
	return p, nil
}

func pushChild(endpoint string) int {
	p, err := killPush()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := hub.New(hub.Options{Endpoint: endpoint, Token: func() string { return secret }, Parallel: 2})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := c.Push(context.Background(), p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKill kills a pushing process (SIGKILL) at its n-th request, before or after the server did what was asked, and
// lets another one make the same push: one commit with everything in it, and nothing sent twice that had arrived.
func TestKill(t *testing.T) {
	t.Parallel()
	p, err := killPush()
	if err != nil {
		t.Fatal(err)
	}
	for at := 1; ; at += 2 {
		s := server(t, hubtest.Options{PartSize: 6000})
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), "HUB_TEST_CHILD=push", "HUB_TEST_ENDPOINT="+s.URL())
		var mu sync.Mutex
		n, killed := 0, false
		s.SetFault(func(*http.Request) hubtest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if n++; n < at {
				return hubtest.Fault{}
			}
			if !killed {
				killed = true
				_ = child.Process.Kill()
			}
			return hubtest.Fault{Lose: at%4 == 1, Drop: at%4 != 1} // the last request is done, or is not
		})
		mu.Lock() // the process exists before its first request is looked at
		err := child.Start()
		mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		ended := child.Wait()
		s.SetFault(nil)
		mu.Lock()
		was := killed
		mu.Unlock()
		if was == (ended == nil) {
			t.Fatalf("killed: %t, ended with %v", was, ended)
		}
		arrived := map[string]bool{} // whole files; parts have other names each time
		before := s.Requests()
		for _, r := range before {
			arrived[r.Path] = arrived[r.Path] || r.Storage && r.Status == 200 && len(r.Path) > 64
		}
		if _, err := client(t, s, secret).Push(context.Background(), p); err != nil {
			t.Fatalf("after a kill at request %d: %v", at, err)
		}
		checkPushed(t, s, p, 1)
		for _, r := range s.Requests()[len(before):] {
			if arrived[r.Path] {
				t.Errorf("kill at %d: %s had arrived and was sent again", at, r.Path)
			}
		}
		s.Close()
		if !was {
			if at < 15 {
				t.Errorf("the push took %d requests only: not much was killed", at)
			}
			return
		}
	}
}
