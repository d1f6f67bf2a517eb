package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/temporal"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

func sentencesFrom(from, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "The word number %d of this text stands between %d others that nobody counted before it did. ", from+i, (from+i)*(from+i)+7)
	}
	return b.String()
}

// TestDecontaminate ingests documents of two sources against evaluation sets and seeds, and reads the funnel: which set, which
// row, which n-gram stands in the rejected rows, and all counts add up to the manifest's.
func TestDecontaminate(t *testing.T) {
	t.Parallel()
	s := newShuffle(t, dataset.KindSegments)
	st := s.sources.Store
	doc := func(i int, more string) string {
		return fmt.Sprintf(`{"text":"# Number %d\n\n%s%s"}`, i, sentencesFrom(100*i, 8), more) + "\n"
	}
	leak := "Which of the seven old bridges over the river was built first, and by whom was it paid for in the end?"
	one := putAt(t, st, "in/one.jsonl", doc(1, "")+doc(2, leak)+doc(2, leak)+"broken\n")
	two := putAt(t, st, "in/two.jsonl", doc(3, "He said: name a colour that nobody wears to weddings in the north.")+doc(1, "")+`{"text":"# a\n\nshort"}`+"\n")
	seeds := putAt(t, st, "in/seeds.jsonl", `{"instruction":"Name a colour that nobody wears to weddings in the North!","output":"Red."}`+"\n")
	putAt(t, st, "eval/a/x.jsonl", `{"question":"Short one?","answer":"none"}`+"\n"+`{"question":`+fmt.Sprintf("%q", strings.ToUpper(leak))+`,"choices":["a","b"]}`+"\n")
	s.decontaminate = config.Decontaminate{NGram: 13, Seeds: true, Sets: []config.EvalSet{{Name: "bridges", Path: st.URI("eval/a") + "/", Format: "auto"}}}
	s.seeds = []config.Source{seeds}
	s.segments = config.DefaultRun().Segments
	s.segments.RepeatJaccard = 1
	ref, err := s.run(one, two)
	if err != nil {
		t.Fatal(err)
	}
	funnel, err := dataset.ReadFunnel(t.Context(), st, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	want := dataset.Tally{
		Documents: 7, Pieces: 6, Segments: 2, Whole: map[string]int64{"bad_record": 1}, Rejected: map[string]int64{"contaminated": 3, "too_short": 1},
		Contaminated: map[string]int64{"bridges": 2, "seeds": 1}, Chars: funnel.Total.Chars,
	}
	if diff := cmp.Diff(want, funnel.Total); diff != "" {
		t.Errorf("total (-want +got):\n%s", diff)
	}
	if len(funnel.Sources) != 2 || funnel.Sources[0].Documents != 4 || funnel.Sources[1].Contaminated["seeds"] != 1 {
		t.Errorf("sources %+v", funnel.Sources)
	}
	m, _, err := dataset.Open(t.Context(), st, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Input != funnel.Total.Pieces+1 || ref.Rows != 1 || m.Reasons["duplicate"] != 1 || m.Reasons["contaminated"] != 3 || funnel.Total.Chars.N != 2 {
		t.Errorf("manifest %+v", m)
	}
	examples := funnel.Examples["contaminated"] // equal texts show once
	if len(examples) != 2 {
		t.Fatalf("examples %+v", examples)
	}
	for _, e := range examples {
		if e.Detail != `bridges row 2: "which of the seven old bridges over the river was built first and"` &&
			e.Detail != `seeds row 1: "name a colour that nobody wears to weddings in the north"` {
			t.Errorf("detail %s", e.Detail)
		}
	}
}

// TestBrokenEvaluationSet wants a person told of a set that cannot be read whole, of a field that it lacks, and of one that is
// not there.
func TestBrokenEvaluationSet(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]struct {
		body   string
		fields []string
		want   string
	}{
		"broken":  {`{"a":"b"}` + "\nbroken\n", nil, "line 2"},
		"field":   {`{"a":"b"}` + "\n", []string{"question"}, `no field "question"`},
		"missing": {"", nil, "nothing at"},
	} {
		s := newShuffle(t, dataset.KindSegments)
		st := s.sources.Store
		if set.body != "" {
			putAt(t, st, "eval/x.jsonl", set.body)
		}
		s.segments = config.DefaultRun().Segments
		s.decontaminate = config.Decontaminate{NGram: 13, Sets: []config.EvalSet{{Name: "x", Path: st.URI("eval/x.jsonl"), Format: "auto", Fields: set.fields}}}
		_, err := s.run(putAt(t, st, "in/one.jsonl", `{"text":"x"}`+"\n"))
		var app *temporal.ApplicationError
		if !errors.As(err, &app) || !app.NonRetryable() || !strings.Contains(err.Error(), set.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOneIndex has many map tasks ask for the index at once: it is built once, and a builder that was cancelled is followed by
// another.
func TestOneIndex(t *testing.T) {
	t.Parallel()
	s := newShuffle(t, dataset.KindSegments)
	st := s.sources.Store
	set := putAt(t, st, "eval/x.jsonl", `{"a":"one two three four five six seven eight nine"}`+"\n")
	in := ListInput{Dir: s.dir, Decontaminate: config.Decontaminate{NGram: 13, Sets: []config.EvalSet{{Name: "x", Path: set.Path, Format: "auto"}}}}
	if err := s.sources.listEvaluation(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	task := MapInput{Dir: s.dir, Decontaminate: true}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.sources.evaluationIndex(gone, task); err == nil {
		t.Error("an index without a context")
	}
	var wg sync.WaitGroup
	found := make([]any, 8)
	for i := range found {
		wg.Go(func() {
			index, err := s.sources.evaluationIndex(t.Context(), task)
			if err != nil || len(index.Find("One, two, three, four, five, six, seven, eight, nine!")) != 1 {
				t.Errorf("index %v: %v", index, err)
			}
			found[i] = index
		})
	}
	wg.Wait()
	for _, index := range found {
		if index != found[0] {
			t.Error("several indexes of one dataset")
		}
	}
	if index, err := s.sources.evaluationIndex(t.Context(), MapInput{Dir: s.dir}); index != nil || err != nil {
		t.Errorf("nothing to keep out: %v %v", index, err)
	}
}

// TestIndexNobodyAsksFor is let go after a while, and built again for who comes later; one in use stays.
func TestIndexNobodyAsksFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var x indexes
		left := func() int {
			x.mu.Lock()
			defer x.mu.Unlock()
			return len(x.all)
		}
		first, mine := x.take("a")
		for range 3 {
			time.Sleep(indexIdle - time.Second)
			if again, built := x.take("a"); !mine || built || again != first {
				t.Fatal("an index in use was let go")
			}
		}
		time.Sleep(indexIdle + time.Second)
		if left() != 0 {
			t.Error("an index that nobody asked for was kept")
		}
		if second, mine := x.take("a"); !mine || second == first {
			t.Error("it is not built again")
		}
		for _, key := range []string{"b", "c", "d"} {
			x.take(key)
		}
		time.Sleep(indexIdle + time.Second)
		if n := left(); n != 0 {
			t.Errorf("%d indexes left", n)
		}
	})
}
