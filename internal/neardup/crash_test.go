package neardup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// dying returns two stores over one bucket: the first refuses all puts of keys with word from the nth on, as if the process
// had died before it.
func dying(t *testing.T, word string, nth int64) (broken, whole *blob.Store) {
	t.Helper()
	cfg := s3test.Config(t)
	whole, err := blob.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(cfg.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed; the server checks it as it was sent
	}}
	var seen atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, word) && seen.Add(1) >= nth {
			http.Error(w, "gone", http.StatusTeapot)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	cfg.Endpoint = srv.URL
	if broken, err = blob.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return broken, whole
}

// Wherever a process dies, the next one goes on and ends with the same rows.
func TestDiesAnywhere(t *testing.T) {
	t.Parallel()
	texts := families(5, 90, 5)
	want, wantDropped := found(t, rules, texts)
	for _, word := range []string{
		"/sign-00001-00001.run", "/sign-00001.json", "/sign.json", "/pair-00000-00000.run", "/pair-00001.json", "/pair.json", "/attach-00001-00000.run",
		"/attach-00000.json", "/attach.json", "/compare-00000-00000.run", "/compare-00001.json", "/compare.json", "/decide-00000-00000.run",
		"/decide-00000.json", "/decide.json", "/rejected/part-00001", "/part-00002.parquet", "out/_ranges/", "out/manifest.json",
	} {
		t.Run(strings.Trim(strings.ReplaceAll(word, "/", " "), " "), func(t *testing.T) {
			t.Parallel()
			broken, st := dying(t, word, 1)
			job := NewJob(rules, write(t, st, "in", 2, texts), "work")
			job.Groups, job.Buckets, job.Budget = 2, 2, 20<<10
			if _, err := All(t.Context(), broken, job, "out", 2, func(Step, Counts) {}); err == nil {
				t.Fatal("nothing died")
			}
			_, kept, dropped := all(t, st, job, "out")
			if d := cmp.Diff(want, kept); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(wantDropped, dropped); d != "" {
				t.Error(d)
			}
		})
	}
}

// Attempts that cross, and steps done again, write the same; a dataset that stands is returned when the runs are gone.
func TestCrossingAttempts(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	texts := families(6, 100, 5)
	want, _ := found(t, rules, texts)
	job := NewJob(rules, write(t, st, "in", 2, texts), "work")
	job.Groups, job.Buckets, job.Budget = 4, 2, 20<<10
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			_, err := All(context.Background(), st, job, "out", 2, func(Step, Counts) {})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	ref, kept, _ := all(t, st, job, "out")
	if d := cmp.Diff(want, kept); d != "" {
		t.Error(d)
	}
	var keys []string
	if err := st.List(t.Context(), "work/", func(i blob.Info) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	receipt, err := DropPartition(t.Context(), st, job, ref.Dir, 1)
	if err != nil || receipt.Input == 0 {
		t.Errorf("a late attempt: %+v, %v", receipt, err)
	}
}

// A run with one byte changed is noticed, not believed.
func TestDamagedRuns(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	s := &sorter{st: st, name: "r", sections: 2, budget: 1 << 20, section: func(k uint64) int { return int(k >> 8) }}
	for i := range 16 {
		if err := s.add(t.Context(), record{Key: uint64(i * 30), Ref: uint64(i), Data: []byte{byte(i), 7}}); err != nil {
			t.Fatal(err)
		}
	}
	refs, err := s.close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	body, err := st.Get(t.Context(), refs[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	readAll := func() (n int, err error) {
		for section := range 2 {
			m, err := openMerge(t.Context(), st, Runs{Sections: 2, Runs: refs}, section)
			if err != nil {
				return n, err
			}
			for {
				r, err := m.next()
				if err != nil {
					return n, err
				}
				if r == nil {
					break
				}
				n++
			}
		}
		return n, nil
	}
	if n, err := readAll(); n != 16 || err != nil {
		t.Fatalf("%d records, %v", n, err)
	}
	for i := range body {
		bad := append([]byte(nil), body...)
		bad[i] ^= 0x21
		if err := st.Put(t.Context(), refs[0].Key, bad); err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(); !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

// What goes into runs comes out in order, once, section by section, however small the budget and the chunks.
func TestSortAndMerge(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		type pair struct{ Key, Ref uint64 }
		sizes := rapid.IntRange(0, 300)
		in := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pair {
			return pair{rapid.Uint64Range(0, 1<<12-1).Draw(t, "key"), rapid.Uint64Range(0, 5).Draw(t, "ref")}
		}), 0, 40).Draw(rt, "records")
		shift := rapid.IntRange(9, 12).Draw(rt, "shift")
		sections := 1 << (12 - shift)
		var refs []RunRef
		for w := range 2 {
			s := &sorter{
				st: st, name: fmt.Sprintf("runs/%d-%d", n, w), sections: sections, budget: rapid.SampledFrom([]int{1, 150, 700, 3000}).Draw(rt, "budget"),
				section: func(k uint64) int { return int(k >> shift) },
			}
			for _, p := range in {
				data := make([]byte, (p.Key*7+p.Ref)%uint64(sizes.Draw(rt, "size")+1)%40)
				if err := s.add(t.Context(), record{p.Key, p.Ref, data}); err != nil {
					rt.Fatal(err)
				}
			}
			written, err := s.close(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			refs = append(refs, written...)
		}
		want := map[pair]bool{}
		for _, p := range in {
			want[p] = true
		}
		last := pair{}
		for section := range sections {
			m, err := openMerge(t.Context(), st, Runs{Sections: sections, Runs: refs}, section)
			if err != nil {
				rt.Fatal(err)
			}
			for {
				r, err := m.next()
				if err != nil {
					rt.Fatal(err)
				}
				if r == nil {
					break
				}
				p := pair{r.Key, r.Ref}
				if !want[p] || int(p.Key>>shift) != section || p.Key < last.Key || (p.Key == last.Key && p.Ref < last.Ref) {
					rt.Fatalf("%v after %v in section %d", p, last, section)
				}
				delete(want, p)
				last = p
			}
		}
		if len(want) > 0 {
			rt.Fatalf("%v are missing", want)
		}
	})
}
