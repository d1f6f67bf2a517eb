package activities

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/internal/origin"
)

type asked struct {
	Question string `parquet:"question"`
	Answer   string `parquet:"answer"`
}

func tableOf(t *testing.T, rows ...asked) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := parquet.Write(&b, rows); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A private dataset of the Hub, files over HTTPS and a list of paths become one dataset. The commit is that of the listing,
// whatever came to the branch since, and the manifest names it.
func TestIngestFromTheHubAndTheWeb(t *testing.T) {
	t.Parallel()
	remote, err := hubtest.Start(hubtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = remote.Close() })
	remote.AddToken("hf_secret", hubtest.Account{User: "ann"})
	remote.AddRepo("ann/pairs", true, false)
	commit := remote.Put("ann/pairs", "main", map[string][]byte{"data/train-00000-of-00001.parquet": tableOf(t, asked{"Name a fish.", "A pike is one."})})

	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string]string{
			"/a.jsonl":         `{"instruction":"Name a tree.","output":"An oak is one."}` + "\n{broken\n",
			"/lists/all.paths": "crawl/1.jsonl\ncrawl/2.jsonl\ncrawl/lost.jsonl\n",
			"/crawl/1.jsonl":   `{"instruction":"Name a bird.","output":"A wren is one."}`,
			"/crawl/2.jsonl":   `{"instruction":"Name a bee.","output":"A mason is one."}`,
		}[r.URL.Path]
		if body == "" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, len(body)))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	}))
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())

	s := newShuffle(t, dataset.KindSeeds)
	if s.sources.Hub, err = hub.New(hub.Options{Endpoint: remote.URL(), Token: func() string { return "hf_secret" }}); err != nil {
		t.Fatal(err)
	}
	allowed := config.Sources{HTTPS: []string{web.URL + "/"}}
	s.sources.Web = origin.NewWeb(origin.WebOptions{Allowed: allowed.Allows, RootCAs: roots, Backoff: time.Millisecond})
	s.sources.PathsBase = web.URL + "/"
	source := func(path string) config.Source {
		return config.Source{Path: path, Format: "auto", Instruction: "instruction", Output: "output", Text: "text"}
	}
	named := source("hf://ann/pairs")
	named.Instruction, named.Output, named.Split = "question", "answer", "train"
	sources := []config.Source{named, source(web.URL + "/a.jsonl"), source(web.URL + "/lists/all.paths")}
	listing, err := do[Listing](s, "ListSources", ListInput{Kind: s.kind, Sources: sources, Dir: s.dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(listing.Origins) != 3 || listing.Origins[0].Commit != commit || listing.Origins[0].Split != "train" || listing.Origins[2].Files != 3 {
		t.Errorf("origins %+v, want commit %s", listing.Origins, commit)
	}
	remote.Put("ann/pairs", "main", map[string][]byte{"data/train-00000-of-00001.parquet": tableOf(t, asked{"Came later?", "Yes, it did."})})
	ref, err := s.run(sources...)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Name a bee.", "Name a bird.", "Name a fish.", "Name a tree."}
	if got := instructions(t, s.sources.Store, ref); !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	reasons := map[string]int{}
	for r, err := range dataset.RejectsOf(t.Context(), s.sources.Store, ref) {
		if err != nil {
			t.Fatal(err)
		}
		reasons[r.Reason]++
	}
	if reasons["missing_file"] != 1 || reasons["bad_record"] != 1 || ref.Rejected != 2 {
		t.Errorf("rejected by reason %v", reasons)
	}
	err = s.sources.Store.List(t.Context(), "", func(i blob.Info) error {
		body, err := s.sources.Store.Get(context.Background(), i.Key)
		if err == nil && bytes.Contains(body, []byte("hf_secret")) {
			err = fmt.Errorf("the token stands in %s", i.Key)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
