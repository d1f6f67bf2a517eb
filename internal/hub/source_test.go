package hub_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/hub"
)

func TestParseSource(t *testing.T) {
	t.Parallel()
	r := func(owner, name string) hub.Repo { return hub.Repo{Owner: owner, Name: name} }
	cases := map[string]hub.Source{
		"hf://datasets/HuggingFaceH4/instruction-dataset": {Repo: r("HuggingFaceH4", "instruction-dataset")},
		"hf://ann/pairs":                                      {Repo: r("ann", "pairs")},
		"hf://ann/pairs/":                                     {Repo: r("ann", "pairs")},
		"hf://squad":                                          {Repo: r("", "squad")},
		"hf://datasets/squad@v1.0":                            {Repo: r("", "squad"), Revision: "v1.0"},
		"hf://ann/pairs@main":                                 {Repo: r("ann", "pairs"), Revision: "main"},
		"hf://ann/pairs@refs%2Fconvert%2Fparquet":             {Repo: r("ann", "pairs"), Revision: "refs/convert/parquet"},
		"hf://ann/pairs@refs/convert/parquet/default":         {Repo: r("ann", "pairs"), Revision: "refs/convert/parquet", Path: "default"},
		"hf://ann/pairs@refs/pr/3/a/b.parquet":                {Repo: r("ann", "pairs"), Revision: "refs/pr/3", Path: "a/b.parquet"},
		"hf://ann/pairs/data/*.parquet":                       {Repo: r("ann", "pairs"), Path: "data/*.parquet"},
		"hf://ann/pairs@dev?config=en&split=test":             {Repo: r("ann", "pairs"), Revision: "dev", Config: "en", Split: "test"},
		"hf://datasets/ann/pairs?split=validation":            {Repo: r("ann", "pairs"), Split: "validation"},
		"hf://ann/a.b_c-d@0123456789abcdef0123456789abcdef01": {Repo: r("ann", "a.b_c-d"), Revision: "0123456789abcdef0123456789abcdef01"},
	}
	for in, want := range cases {
		got, err := hub.ParseSource(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	for in, says := range map[string]string{
		"https://huggingface.co/datasets/a/b":   "expected hf://",
		"hf://":                                 "owner/name",
		"hf://datasets":                         "owner/name",
		"hf://models/a/b":                       "only datasets",
		"hf://spaces/a/b":                       "only datasets",
		"hf://a/b@":                             "no revision",
		"hf://a/b@x y":                          "no revision",
		"hf://a/b@..":                           "no revision",
		"hf://a/b@%zz":                          "no revision",
		"hf://a/b/../c":                         "no path",
		"hf://a/b/x//y":                         "no path",
		"hf://-a/b":                             "letters",
		"hf://a/b--c":                           "letters",
		"hf://a/b.git":                          "letters",
		"hf://a/b?revision=x":                   "expected ?config",
		"hf://a/b?split=a-b":                    "expected ?config",
		"hf://a/b?config=../x":                  "expected ?config",
		"hf://user:key@a/b":                     "letters",
		"hf://a/b?split=%":                      "expected ?config",
		"hf://a/b/" + strings.Repeat("x", 2000): "no path",
	} {
		if _, err := hub.ParseSource(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func FuzzSource(f *testing.F) {
	f.Add("hf://datasets/ann/pairs@refs/convert/parquet/a/b?config=c&split=d")
	f.Add("hf://squad@a%2Fb")
	f.Fuzz(func(t *testing.T, s string) {
		src, err := hub.ParseSource(s)
		if err != nil {
			return
		}
		again, err := hub.ParseSource(src.String())
		if err != nil || again != src {
			t.Errorf("%q → %+v → %q → %+v, %v", s, src, src.String(), again, err)
		}
	})
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"ftp://x", "huggingface.co", "https://user:secret@x", "https://", "http://x?y=z", "http://[::1"} {
		if _, err := hub.New(hub.Options{Endpoint: bad}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	c, err := hub.New(hub.Options{})
	if err != nil || c.Page(repo) != "https://huggingface.co/datasets/ann/pairs" {
		t.Errorf("%v %v", c, err)
	}
}
