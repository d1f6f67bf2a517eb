package hub_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
)

const readme = `---
license: apache-2.0
configs:
- config_name: first
  data_files:
  - split: train
    path: first/*.parquet
  - split: test
    path:
    - held/b.parquet
    - held/a.parquet
- config_name: second
  default: true
  data_files: second/x.parquet
- config_name: texts
  data_files: texts/*.jsonl
---
# Card
`

// TestFind looks for the files of configs and splits in repositories of several layouts.
func TestFind(t *testing.T) {
	t.Parallel()
	p := []byte("PAR1")
	carded := map[string][]byte{
		"README.md": []byte(readme), "first/1.parquet": p, "first/0.parquet": p, "held/a.parquet": p, "held/b.parquet": p, "second/x.parquet": p, "texts/a.jsonl": p, "stray.parquet": p,
	}
	sharded := map[string][]byte{
		"data/train-00000-of-00002.parquet": p, "data/train-00001-of-00002.parquet": p, "data/extra_part-00000-of-00001-abc.parquet": p,
		"other/test.parquet": p,
	}
	copied := map[string][]byte{"default/train/0000.parquet": p, "default/train/0001.parquet": p, "en/partial-train/0000.parquet": p}
	cases := []struct {
		name  string
		files map[string][]byte
		copy  map[string][]byte
		src   string // after hf://ann/pairs
		want  string // config split files
		says  string
	}{
		{"by card, default", carded, nil, "", "second train second/x.parquet", ""},
		{"by card, config", carded, nil, "?config=first", "first train first/0.parquet first/1.parquet", ""},
		{"by card, order of patterns", carded, nil, "?config=first&split=test", "first test held/b.parquet held/a.parquet", ""},
		{"by card, no such config", carded, nil, "?config=third", "", `no config "third"; there are first, second, texts`},
		{"by card, no such split", carded, nil, "?split=test", "", `config "second" has no split "test" in Parquet; there are train`},
		{"by card, config in another format", carded, map[string][]byte{"texts/train/0000.parquet": p}, "?config=texts", "texts train texts/train/0000.parquet copy", ""},
		{"by path", carded, nil, "/held/*.parquet", "  held/a.parquet held/b.parquet", ""},
		{"by one path", carded, nil, "/stray.parquet", "  stray.parquet", ""},
		{"by wrong path", carded, nil, "/held/c.parquet", "", "no file has that path"},
		{"shards", sharded, nil, "", "default train data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet", ""},
		{"shards, other split", sharded, nil, "?split=extra_part", "default extra_part data/extra_part-00000-of-00001-abc.parquet", ""},
		{"folders", map[string][]byte{"train/a.parquet": p, "dev/b.parquet": p, "README.md": []byte("hello")}, nil, "?split=validation", "default validation dev/b.parquet", ""},
		{"names", map[string][]byte{"my-training.parquet": p, "x_test.parquet": p, "trained.parquet": p}, nil, "?split=train", "default train my-training.parquet", ""},
		{"anything", map[string][]byte{"a.parquet": p, "b/c.parquet": p, ".hidden/d.parquet": p}, nil, "", "default train a.parquet b/c.parquet", ""},
		{"only a test split", map[string][]byte{"data/test-00000-of-00001.parquet": p}, nil, "", "default test data/test-00000-of-00001.parquet", ""},
		{"two splits, neither train", map[string][]byte{"data/test-00000-of-00001.parquet": p, "data/val-00000-of-00001.parquet": p}, nil, "", "", "has to be chosen of test, val"},
		{"copy", map[string][]byte{"a.jsonl": p}, copied, "", "default train default/train/0000.parquet default/train/0001.parquet copy", ""},
		{"copy, partial", map[string][]byte{"a.jsonl": p}, copied, "?config=en", "en train en/partial-train/0000.parquet copy partial", ""},
		{"copy, no such config", map[string][]byte{"a.jsonl": p}, copied, "?config=de", "", `no config "de"; there are default, en`},
		{"copy's own branch", map[string][]byte{"a.jsonl": p}, copied, "@refs/convert/parquet?config=en", "en train en/partial-train/0000.parquet partial", ""},
		{"copy of another revision", map[string][]byte{"a.jsonl": p}, copied, "@old", "", "of another one"},
		{"nothing", map[string][]byte{"a.jsonl": p}, nil, "", "", "no Parquet copy of it"},
		{"no such revision", carded, nil, "@nothing", "", "check the revision's name"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := server(t, hubtest.Options{PageSize: 2})
			s.AddRepo("ann/pairs", false, false)
			s.Put("ann/pairs", "old", map[string][]byte{"old.jsonl": p})
			head := s.Put("ann/pairs", "main", tc.files)
			if tc.copy != nil {
				s.Put("ann/pairs", "refs/convert/parquet", tc.copy)
			}
			src, err := hub.ParseSource("hf://ann/pairs" + tc.src)
			if err != nil {
				t.Fatal(err)
			}
			got, err := client(t, s, "").Find(context.Background(), src)
			if tc.says != "" {
				if err == nil || !strings.Contains(err.Error(), tc.says) || !errors.Is(err, hub.ErrNotFound) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			parts := []string{got.Config, got.Split}
			for _, f := range got.Files {
				parts = append(parts, f.Path)
			}
			if got.Converted {
				parts = append(parts, "copy")
			}
			if got.Partial {
				parts = append(parts, "partial")
			}
			if diff := cmp.Diff(tc.want, strings.Join(parts, " ")); diff != "" {
				t.Error(diff)
			}
			if src.Revision == "" && (got.Source != head || (got.Commit == head) == got.Converted) {
				t.Errorf("pinned to %s and %s, expected %s", got.Commit, got.Source, head)
			}
		})
	}
}

// TestRead pins a private dataset, reads it by ranges through the storage host, and goes on reading the same rows
// after the branch moved.
func TestRead(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	s.AddRepo("ann/pairs", true, false)
	s.Put("ann/pairs", "main", map[string][]byte{"data/train-00000-of-00002.parquet": pairs(t, 500, 1), "data/train-00001-of-00002.parquet": pairs(t, 300, 2)})
	ctx := context.Background()
	c := client(t, s, secret)
	src := hub.Source{Repo: repo}
	table, err := c.Find(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	s.Put("ann/pairs", "main", map[string][]byte{"data/train-00000-of-00002.parquet": pairs(t, 5, 9), "data/train-00001-of-00002.parquet": nil})
	rows := collect(t, c, table, hub.Columns{"instruction": "prompt"})
	if len(rows) != 800 || rows[500].Index != 0 || rows[799].File != "data/train-00001-of-00002.parquet" || !strings.HasPrefix(rows[499].Values["instruction"], "prompt 499 of 1") {
		t.Fatalf("%d rows, the last %+v", len(rows), rows[len(rows)-1])
	}
	src.Revision = table.Commit
	again, err := c.Find(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, collect(t, c, again, hub.Columns{"instruction": "prompt"})); diff != "" {
		t.Error(diff)
	}
	resolves := 0
	for _, r := range s.Requests() {
		if r.Storage && r.Token != "" {
			t.Error("the token went to the storage host")
		}
		if strings.Contains(r.Path, "/resolve/") {
			resolves++
		}
	}
	if resolves != 4 { // once a file and reader
		t.Errorf("asked %d times where a file lies", resolves)
	}
	f, commit, err := c.Head(ctx, repo, table.Commit, "data/train-00000-of-00002.parquet")
	if err != nil || f.SHA256 != table.Files[0].SHA256 || f.Size != table.Files[0].Size || commit != table.Commit {
		t.Errorf("head: %+v %s %v", f, commit, err)
	}
	if f, _, err := c.Head(ctx, repo, "main", ".gitattributes"); err != nil || f.Size == 0 || len(f.OID) != 40 {
		t.Errorf("head: %+v %v", f, err)
	}
}

func TestReadRefused(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	s.AddRepo("ann/private", true, false)
	s.AddRepo("ann/gated", false, true)
	s.Put("ann/gated", "main", map[string][]byte{"a.parquet": pairs(t, 3, 1)})
	cases := []struct {
		token, repo string
		kind        error
		says        string
	}{
		{"", "ann/private", hub.ErrUnauthorized, "HF_TOKEN"},
		{reader, "ann/private", hub.ErrNotFound, "may not read it"},
		{"hf_wrong", "ann/private", hub.ErrUnauthorized, "make a new token"},
		{"", "ann/absent", hub.ErrUnauthorized, "check owner and name"},
		{reader, "ann/absent", hub.ErrNotFound, "check owner and name"},
		{"", "ann/gated", hub.ErrGated, "no token was given"},
		{reader, "ann/gated", hub.ErrGated, "accept the conditions"},
		{secret, "ann/gated", nil, ""},
		{secret, "ann/private", hub.ErrNotFound, "no Parquet"},
	}
	for _, tc := range cases {
		src, err := hub.ParseSource("hf://" + tc.repo)
		if err != nil {
			t.Fatal(err)
		}
		c := client(t, s, tc.token)
		table, err := c.Find(context.Background(), src)
		if err == nil {
			for _, err = range c.Rows(context.Background(), table, nil) {
				if err != nil {
					break
				}
			}
		}
		if !errors.Is(err, tc.kind) || (err != nil && !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%q %s: %v", tc.token, tc.repo, err)
		}
	}
}

func TestRenamed(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{PageSize: 1})
	s.AddRepo("ann/before", true, false)
	s.Put("ann/before", "main", map[string][]byte{"a.parquet": pairs(t, 3, 1), "b.parquet": pairs(t, 3, 2)})
	s.Rename("ann/before", "ann/after")
	c := client(t, s, secret)
	table, err := c.Find(context.Background(), hub.Source{Repo: hub.Repo{Owner: "ann", Name: "before"}})
	if err != nil {
		t.Fatal(err)
	}
	if rows := collect(t, c, table, nil); len(rows) != 6 {
		t.Errorf("%d rows", len(rows))
	}
}
