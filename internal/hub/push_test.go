package hub_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
)

// dataset is a push of a card, a small file and some Parquet files.
func dataset(t testing.TB, shards int) hub.Push {
	t.Helper()
	p := hub.Push{Repo: repo, Key: "run-1", Title: "Push run 1", Replace: []string{"data"}}
	for i := range shards {
		p.Files = append(p.Files, hub.FromBytes(hub.ShardPath("default", "train", i, shards), pairs(t, 50+i, uint64(i))))
	}
	card, err := hub.Card{Title: "Pairs", Configs: []hub.CardConfig{{Name: "default", Splits: []hub.CardSplit{{Name: "train", Rows: 50}}}}}.README()
	if err != nil {
		t.Fatal(err)
	}
	p.Files = append(p.Files, hub.FromBytes("README.md", card), hub.FromBytes("empty.txt", nil))
	return p
}

func checkPushed(t *testing.T, s *hubtest.Server, p hub.Push, commits int) {
	t.Helper()
	files := s.Files(p.Repo.String(), "main")
	delete(files, ".gitattributes")
	if got, want := len(files), len(p.Files); got != want {
		t.Errorf("%d files stand, pushed %d: %v", got, want, slices.Sorted(maps.Keys(files)))
	}
	for _, f := range p.Files {
		if again := hub.FromBytes(f.Path, files[f.Path]); again.SHA256 != f.SHA256 {
			t.Errorf("%s is not what was pushed", f.Path)
		}
	}
	if got := len(s.Commits(p.Repo.String(), "main")) - 1; got != commits {
		t.Errorf("%d commits, expected %d", got, commits)
	}
}

// puts counts the uploads that reached the storage host.
func puts(s *hubtest.Server) int {
	n := 0
	for _, r := range s.Requests() {
		if r.Storage && r.Method == http.MethodPut && r.Status/100 == 2 {
			n++
		}
	}
	return n
}

func TestPush(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{PageSize: 3, PartSize: 2000})
	c := client(t, s, secret)
	p := dataset(t, 6)
	var mu sync.Mutex
	var last hub.Progress
	p.Progress = func(now hub.Progress) { mu.Lock(); last = now; mu.Unlock() }
	p.Files = append(p.Files, hub.FromBytes("copy/same.parquet", pairs(t, 50, 0)), hub.FromBytes("data/small.parquet", pairs(t, 1, 9)))
	got, err := c.Push(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	checkPushed(t, s, p, 1)
	if !s.Private(repo.String()) {
		t.Error("the repository is public")
	}
	if got.Already || got.Commit != s.Commits(repo.String(), "main")[0].ID || !strings.HasSuffix(got.URL, "/datasets/ann/pairs/commit/"+got.Commit) {
		t.Errorf("got %+v", got)
	}
	if last.FilesDone != 7 || last.Files != 7 || last.Bytes != last.BytesDone {
		t.Errorf("progress ended at %+v", last)
	}
	if m := s.Commits(repo.String(), "main")[0]; m.Title != "Push run 1" || m.Message != "Selfalign-Push: run-1" {
		t.Errorf("commit says %q %q", m.Title, m.Message)
	}
	multi := false
	for _, r := range s.Requests() {
		multi = multi || strings.HasPrefix(r.Path, "/part/")
		if r.Storage && r.Token != "" {
			t.Errorf("the token went to the storage host: %s %s", r.Method, r.Path)
		}
	}
	if !multi {
		t.Error("nothing was uploaded in parts")
	}

	before := puts(s)
	again, err := c.Push(context.Background(), p)
	if err != nil || !again.Already || again.Commit != got.Commit {
		t.Errorf("again: %+v, %v", again, err)
	}
	if puts(s) != before {
		t.Error("content was sent again")
	}

	s.Put(repo.String(), "main", map[string][]byte{"README.md": []byte("edited by a person")})
	kept, err := c.Push(context.Background(), p)
	if err != nil || !kept.Already || kept.Commit != got.Commit {
		t.Errorf("after an edit: %+v, %v", kept, err)
	}
	if string(s.Files(repo.String(), "main")["README.md"]) != "edited by a person" {
		t.Error("the repetition undid an edit")
	}
}

func TestPushFromStore(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	ctx := context.Background()
	content := pairs(t, 3000, 5)
	if err := st.Put(ctx, "set/part-00000.parquet", content); err != nil {
		t.Fatal(err)
	}
	same := hub.FromBytes("", content)
	f := hub.Known(st, "set/part-00000.parquet", "data/train-00000-of-00001.parquet", same.Size, same.SHA256)
	s := server(t, hubtest.Options{PartSize: 30000})
	p := hub.Push{Repo: repo, Files: []hub.Upload{f}}
	if _, err := client(t, s, secret).Push(ctx, p); err != nil {
		t.Fatal(err)
	}
	checkPushed(t, s, p, 1)

	wrong := hub.Known(st, "set/part-00000.parquet", "data/other.parquet", f.Size, strings.Repeat("0", 64))
	for _, part := range []int64{1 << 30, 30000} { // in one piece, in parts
		s := server(t, hubtest.Options{PartSize: part})
		_, err := client(t, s, secret).Push(ctx, hub.Push{Repo: repo, Files: []hub.Upload{wrong}})
		if err == nil || len(s.Commits(repo.String(), "main")) != 1 {
			t.Errorf("content other than announced: %v", err)
		}
	}
}

// TestReplace checks that a dataset in fewer files leaves none of the old ones behind, and that the same content may
// come back after another push.
func TestReplace(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	c := client(t, s, secret)
	ctx := context.Background()
	for i, shards := range []int{3, 1, 3} {
		p := dataset(t, shards)
		p.Key = ""
		if i == 0 {
			s.AddRepo(repo.String(), true, false)
			s.Put(repo.String(), "main", map[string][]byte{"NOTES.md": []byte("mine"), "database/x.csv": []byte("mine")})
		}
		if got, err := c.Push(ctx, p); err != nil || got.Already {
			t.Fatalf("push %d: %+v, %v", i, got, err)
		}
		p.Files = append(p.Files, hub.FromBytes("NOTES.md", []byte("mine")), hub.FromBytes("database/x.csv", []byte("mine")))
		checkPushed(t, s, p, i+2)
	}
}
