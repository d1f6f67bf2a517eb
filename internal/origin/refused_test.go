package origin_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/internal/origin"
)

// listOf is a site with a paths list of n files, each a line of JSON.
func listOf(t *testing.T, n int) (s *site, list string) {
	t.Helper()
	files := map[string][]byte{}
	var lines strings.Builder
	for i := range n {
		files[fmt.Sprintf("/base/crawl/%04d.jsonl", i)] = []byte(`{"instruction":"a","output":"b"}`)
		fmt.Fprintf(&lines, "crawl/%04d.jsonl\n", i)
	}
	files["/lists/x.paths"] = []byte(lines.String())
	s = newSite(t, files)
	return s, s.URL + "/lists/x.paths"
}

// answers has the site give a status for the paths that are chosen.
func (s *site) answers(status int, chosen func(path string) bool) {
	s.set(func() {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !chosen(r.URL.Path) {
				return false
			}
			w.WriteHeader(status)
			return true
		}
	})
}

// outcome reads every file and says what became of each: kept, or the reason and detail of its reject.
func outcome(t *testing.T, p *origin.Places, files []origin.File) (map[string]int, error) {
	t.Helper()
	got := map[string]int{}
	for _, f := range files {
		for item, err := range intake.Seeds(t.Context(), p.Open(f), corpus.SeedOptions{}) {
			switch {
			case err != nil:
				return got, err
			case item.Seed != nil:
				got["kept"]++
			default:
				got[item.Reject.Reason+": "+item.Reject.Detail]++
			}
		}
	}
	return got, nil
}

// One file of a list that is refused or gone is a reject, when it is listed and when it is read; the others go on.
func TestRefusedFileOfAList(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		want   string
	}{{401, "unreadable_file: HTTP 401"}, {403, "unreadable_file: HTTP 403"}, {451, "unreadable_file: HTTP 451"}, {404, "missing_file: not there"}, {410, "missing_file: not there"}} {
		for _, when := range []string{"listed", "read", "unseen"} {
			t.Run(fmt.Sprint(tt.status, " ", when), func(t *testing.T) {
				t.Parallel()
				n := 20
				if when == "unseen" {
					n = 1001 // too many to look at each
				}
				s, list := listOf(t, n)
				p := s.places()
				refuse := func() {
					s.answers(tt.status, func(path string) bool { return strings.HasSuffix(path, "5.jsonl") && len(path) > 0 })
				}
				if when == "listed" {
					refuse()
				}
				files, _, err := p.List(t.Context(), origin.Want{Path: list})
				if err != nil || len(files) != n {
					t.Fatalf("%d files, %v", len(files), err)
				}
				refuse()
				some := files[min(30, n)-20 : min(30, n)]
				got, err := outcome(t, p, some)
				if err != nil || got["kept"] != 18 || got[tt.want] != 2 {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
	}
}

// A server that refuses everything, or the list itself, is trouble that a person is told of with a way out.
func TestEverythingIsRefused(t *testing.T) {
	t.Parallel()
	all := func(string) bool { return true }
	files := func(path string) bool { return !strings.HasSuffix(path, ".paths") }
	for name, tt := range map[string]struct {
		chosen func(string) bool
		late   bool
		want   string
	}{
		"the list":                 {all, false, "cannot be read: HTTP 403"},
		"all files":                {files, false, "the server gives none of the files"},
		"all files, while reading": {files, true, "could when the run began: HTTP 403"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, list := listOf(t, 10)
			p := s.places()
			if !tt.late {
				s.answers(http.StatusForbidden, tt.chosen)
			}
			found, _, err := p.List(t.Context(), origin.Want{Path: list})
			if tt.late && err == nil {
				s.answers(http.StatusForbidden, tt.chosen)
				_, err = outcome(t, p, found)
			}
			var ours *origin.Error
			if !errors.As(err, &ours) || !strings.Contains(err.Error(), tt.want) || ours.Try == "" {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A server that has enough for now is asked again, when it said.
func TestBusyServerOfAList(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 503} {
		s, list := listOf(t, 10)
		var asked atomic.Int64
		s.before = func(w http.ResponseWriter, _ *http.Request) bool {
			if asked.Add(1)%3 != 0 {
				return false
			}
			w.Header().Set("Retry-After", "0.01")
			w.WriteHeader(status)
			return true
		}
		p := s.places()
		found, _, err := p.List(t.Context(), origin.Want{Path: list})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := outcome(t, p, found); err != nil || got["kept"] != 10 || len(got) != 1 {
			t.Errorf("%d: %v, %v", status, got, err)
		}
	}
}
