package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/prompt"
)

// bench is what a test works with: a store with segments in it, and an endpoint.
type bench struct {
	t    testing.TB
	st   *blob.Store
	ref  *referee
	deps Deps
	in   dataset.Ref
}

const price = 2.0 // USD per million tokens of prompt and answer alike

func provider(url string) llm.Provider {
	return llm.Provider{
		URL: url, Prices: map[string]llm.Price{"m": {Input: price, Output: price}}, Limits: llm.Limits{InFlight: 256},
		Timeout: 20 * time.Second,
	}
}

func newBench(t testing.TB, rows, bits int) *bench {
	t.Helper()
	b := &bench{t: t, st: s3test.Store(t), ref: newReferee(t)}
	b.deps = b.dependencies(llm.WithMaxWait(500 * time.Millisecond))
	b.in = b.segments("segments", rows, bits)
	return b
}

func (b *bench) dependencies(opts ...llm.Option) Deps {
	return Deps{Store: b.st, Models: llm.NewPool(map[string]llm.Provider{"p": provider(b.ref.url)}, opts...)}
}

func segments(rows int) (out []dataset.Segment) {
	for i := range rows {
		text := fmt.Sprintf("Segment %d tells about matter %d. ", i, i*i) + strings.Repeat("It has some length. ", 30)
		out = append(out, dataset.Segment{ID: dataset.SegmentID(text), Text: text, Source: "test", Document: fmt.Sprint(i), Offset: int64(i)})
	}
	return out
}

func (b *bench) segments(dir string, rows, bits int) dataset.Ref {
	b.t.Helper()
	parts := make([][]dataset.Segment, 1<<bits)
	for _, s := range segments(rows) {
		p := dataset.PartitionOf(s.ID, bits)
		parts[p] = append(parts[p], s)
	}
	for p, rows := range parts {
		_, err := dataset.WritePartition(b.t.Context(), b.st, dir, bits, p, rows, nil, dataset.Receipt{Input: int64(len(rows))})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return dataset.Ref{Kind: dataset.KindSegments, Dir: dir, Bits: bits, Rows: int64(rows), Digest: "x"}
}

func (b *bench) backtranslate(output string) Work {
	return Work{
		Task: TaskBacktranslate, Run: "run", Input: b.in, Output: output, Model: dataset.ModelRef{Provider: "p", Name: "m", Revision: "r1"},
		Sampling: Sampling{Temperature: 0.7, TopP: 0.9, MaxTokens: 50}, Attempts: 3, InFlight: 16, Budget: Unlimited(),
	}
}

func (b *bench) rate(input, output string) Work {
	w := b.backtranslate(output)
	w.Task, w.Input.Dir, w.Input.Kind, w.Iteration = TaskRate, input, dataset.KindCandidates, 1
	return w
}

// run does the work over all partitions and wants it done.
func (b *bench) run(w Work) (results []Result) {
	b.t.Helper()
	for p := range w.Input.Partitions() {
		w.Partition = p
		r, err := Run(b.t.Context(), b.deps, w, nil)
		if err != nil || !r.Done {
			b.t.Fatalf("partition %d: %+v, %v", p, r, err)
		}
		results = append(results, r)
	}
	return results
}

func rowsOf[T dataset.Row](b *bench, w Work) (rows []T) {
	b.t.Helper()
	for p := range w.Input.Partitions() {
		more, err := dataset.ReadPartition[T](b.t.Context(), b.st, w.Output, p)
		if err != nil {
			b.t.Fatal(err)
		}
		rows = append(rows, more...)
	}
	return rows
}

func (b *bench) rejects(w Work) (out []dataset.Reject) {
	b.t.Helper()
	for r, err := range dataset.PartitionRejects(b.t.Context(), b.st, w.Output, w.Partition) {
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func (b *bench) sum(w Work) ledger.Totals {
	b.t.Helper()
	total, err := ledger.Sum(b.t.Context(), b.st, Scope(w))
	if err != nil {
		b.t.Fatal(err)
	}
	return total
}

// balanced checks ledger ≤ billed ≤ ledger + in doubt over the scopes of some works.
func (b *bench) balanced(works ...Work) (spent, doubt dataset.Usage) {
	b.t.Helper()
	seen := map[string]bool{}
	for _, w := range works {
		if s := Scope(w); !seen[s] {
			seen[s] = true
			total := b.sum(w)
			spent, doubt = spent.Add(total.Spent), doubt.Add(total.InDoubt)
		}
	}
	calls, _ := b.ref.counts()
	b.ref.mu.Lock()
	tokens := b.ref.tokens
	b.ref.mu.Unlock()
	check := func(what string, ledger, billed, doubt int64) {
		if ledger > billed || billed > ledger+doubt {
			b.t.Fatalf("%s: ledger %d, billed %d, in doubt %d", what, ledger, billed, doubt)
		}
	}
	check("calls", spent.Calls, int64(calls), doubt.Calls)
	check("tokens", spent.PromptTokens+spent.CompletionTokens, tokens, doubt.PromptTokens+doubt.CompletionTokens)
	return spent, doubt
}

func TestBothTasks(t *testing.T) {
	t.Parallel()
	b := newBench(t, 200, 2)
	write := b.backtranslate("candidates")
	b.run(write)
	candidates := rowsOf[dataset.Candidate](b, write)
	if len(candidates) != 200 || candidates[0].Generator != "r1" || !strings.HasPrefix(candidates[0].Instruction, "Explain item") ||
		!strings.HasPrefix(candidates[0].Prompt, "backtranslate@") {
		t.Fatalf("%d candidates, the first is %+v", len(candidates), candidates[0])
	}
	judge := b.rate("candidates", "ratings")
	judge.Samples = 3
	results := b.run(judge)
	ratings := rowsOf[dataset.Rating](b, judge)
	if len(ratings) != 200 || len(ratings[0].Scores) != 3 || ratings[0].Score < 1 || ratings[0].Score > 5 || ratings[0].Iteration != 1 {
		t.Fatalf("%d ratings, the first is %+v", len(ratings), ratings[0])
	}
	var total, histogram int64
	for _, r := range results {
		total += r.Receipt.Usage.Calls
		for _, n := range r.Receipt.Histogram {
			histogram += n
		}
		if r.Spent != r.Receipt.Usage || r.InDoubt != (dataset.Usage{}) || r.Spent.MicroUSD == 0 {
			t.Fatalf("result is %+v", r)
		}
	}
	if total != 600 || histogram != 200 {
		t.Fatalf("%d calls paid for, histogram of %d rows", total, histogram)
	}
	if _, doubt := b.balanced(write, judge); doubt != (dataset.Usage{}) {
		t.Fatalf("in doubt without a crash: %+v", doubt)
	}
}

func TestNothingIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 300, 1)
	first := b.backtranslate("first")
	b.run(first)
	before := b.ref.asked()
	if before != 300 {
		t.Fatalf("asked %d times", before)
	}
	b.run(first) // the output stands
	second := b.backtranslate("second")
	for _, r := range b.run(second) {
		if r.Receipt.Usage != (dataset.Usage{}) || r.Receipt.Reused != r.Receipt.Rows {
			t.Fatalf("second run paid: %+v", r.Receipt)
		}
	}
	b.in = b.segments("appended", 320, 3) // other bits, and 20 rows more
	for _, r := range b.run(b.backtranslate("third")) {
		if r.Receipt.Usage.Calls != r.Receipt.Rows-r.Receipt.Reused {
			t.Fatalf("third run: %+v", r.Receipt)
		}
	}
	if asked := b.ref.asked() - before; asked != 20 {
		t.Fatalf("asked %d times about 20 new rows", asked)
	}
	if d := cmp.Diff(rowsOf[dataset.Candidate](b, first), rowsOf[dataset.Candidate](b, second)); d != "" {
		t.Fatal(d)
	}
}

func TestAnotherWayOfAskingAsksAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 20, 0)
	b.run(b.backtranslate("base"))
	for name, c := range map[string]struct {
		change func(*Work)
		asked  int
	}{
		"prompt":      {func(w *Work) { w.Prompt = "What does this answer?\n{{.Output}}" }, 20},
		"revision":    {func(w *Work) { w.Model.Revision = "r2" }, 20},
		"temperature": {func(w *Work) { w.Sampling.Temperature = 0 }, 20},
		"in flight":   {func(w *Work) { w.InFlight = 3 }, 0},
		"attempts":    {func(w *Work) { w.Attempts = 5 }, 0},
		"name":        {func(w *Work) { w.Model.Name = "other" }, 0}, // the revision says what the model is
	} {
		w := b.backtranslate("after " + name)
		c.change(&w)
		before := b.ref.asked()
		b.run(w)
		if asked := b.ref.asked() - before; asked != c.asked {
			t.Errorf("%s: asked %d times, want %d", name, asked, c.asked)
		}
		if same := Scope(w) == Scope(b.backtranslate("base")); same != (c.asked == 0) {
			t.Errorf("%s: same scope is %t", name, same)
		}
	}
	if Fingerprint(b.backtranslate("a")) != Fingerprint(b.backtranslate("b")) {
		t.Error("the fingerprint depends on where the output goes")
	}
}

func TestABetterParserAsksNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, 30, 0)
	b.run(b.backtranslate("old"))
	before := b.ref.asked()
	better := *backtranslate
	better.read = func(_ *Work, e *ledger.Entry) (string, error) { return strings.ToUpper(e.Text), nil }
	w := b.backtranslate("new")
	w.Samples = 1
	if r, err := better.run(t.Context(), b.deps, w, func(Progress) {}); err != nil || !r.Done {
		t.Fatalf("%+v, %v", r, err)
	}
	if b.ref.asked() != before {
		t.Fatalf("asked %d times more", b.ref.asked()-before)
	}
	for _, c := range rowsOf[dataset.Candidate](b, w) {
		if !strings.HasPrefix(c.Instruction, "EXPLAIN ITEM") {
			t.Fatalf("instruction is %q", c.Instruction)
		}
	}
}

func TestUnreadableAnswersAreAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 40, 0)
	seeds := map[int64]bool{}
	b.ref.answer = func(q question) reply {
		b.ref.mu.Lock()
		defer b.ref.mu.Unlock()
		seeds[q.seed] = true
		switch {
		case strings.Contains(q.text, "Segment 7 ") || q.seed%2 == 1: // half of the first attempts
			return reply{text: "I'm sorry, but I can't help with that."}
		case strings.Contains(q.text, "Segment 8 "):
			return reply{text: "Cut in the mid", finish: "length"}
		}
		return reply{}
	}
	w := b.backtranslate("out")
	w.Attempts = 12
	r := b.run(w)[0]
	if r.Receipt.Rows+r.Receipt.Rejected != 40 || r.Receipt.Rejected != 2 {
		t.Fatalf("receipt is %+v", r.Receipt)
	}
	if r.Receipt.Reasons["refusal"]+r.Receipt.Reasons["answer_cut"] != 2 || r.Receipt.Reasons["refusal"] < 1 {
		t.Fatalf("reasons are %v", r.Receipt.Reasons)
	}
	if int64(len(seeds)) != r.Spent.Calls || r.Spent.Calls <= 40 {
		t.Fatalf("%d seeds in %d calls", len(seeds), r.Spent.Calls)
	}
	b.balanced(w)
	before := b.ref.asked()
	b.run(b.backtranslateWith("again", w))
	if b.ref.asked() != before {
		t.Fatal("a second run asked again")
	}
}

func (b *bench) backtranslateWith(output string, like Work) Work {
	like.Output = output
	return like
}

func TestRefusedRowsAreRejectedWithTheReason(t *testing.T) {
	t.Parallel()
	b := newBench(t, 40, 0)
	b.ref.answer = func(q question) reply {
		if strings.Contains(q.text, "Segment 3 ") {
			return reply{status: 400, body: `{"error":{"message":"This model's maximum context length is 10 tokens","code":"context_length_exceeded"}}`}
		}
		return reply{}
	}
	w := b.backtranslate("out")
	r := b.run(w)[0]
	rejects := b.rejects(w)
	if len(rejects) != 1 || rejects[0].Reason != llm.CodeContextLength || rejects[0].Stage != TaskBacktranslate ||
		!strings.Contains(rejects[0].Text, "Segment 3 ") || rejects[0].Document != "3" || r.Spent.Calls != 39 {
		t.Fatalf("rejects are %+v, spent %+v", rejects, r.Spent)
	}
	b.ref.answer = nil
	if r := b.run(b.backtranslate("mended"))[0]; r.Receipt.Rows != 40 || r.Spent.Calls != 1 {
		t.Fatalf("another run after the endpoint was mended: %+v", r)
	}
}

func TestHalfOfTheSamplesMakeARow(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10, 0)
	b.run(b.backtranslate("candidates"))
	var n atomic.Int64
	b.ref.answer = func(q question) reply {
		if n.Add(1)%3 == 0 {
			return reply{text: "no verdict"}
		}
		return reply{text: fmt.Sprintf("Fine.\nScore: %d", 4+n.Load()%2)}
	}
	w := b.rate("candidates", "ratings")
	w.Samples, w.Attempts, w.InFlight = 3, 1, 1
	b.run(w)
	for _, r := range rowsOf[dataset.Rating](b, w) {
		if len(r.Scores) != 2 || r.Score != (r.Scores[0]+r.Scores[1])/2 {
			t.Fatalf("rating is %+v", r)
		}
	}
}

func TestErrorsThatNeedAPersonStopAtOnce(t *testing.T) {
	t.Parallel()
	for class, body := range map[llm.Class]reply{
		llm.ClassAuth:     {status: 401, body: `{"error":{"message":"bad key"}}`},
		llm.ClassQuota:    {status: 429, body: `{"error":{"message":"no money","code":"insufficient_quota","type":"insufficient_quota"}}`},
		llm.ClassNotFound: {status: 404, body: `{"error":{"message":"no such model","code":"model_not_found"}}`},
	} {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 400, 0)
			var n atomic.Int64
			b.ref.answer = func(question) reply {
				if n.Add(1) > 100 {
					return body
				}
				return reply{}
			}
			w := b.backtranslate("out")
			r, err := Run(t.Context(), b.deps, w, nil)
			var e *Error
			if !errors.As(err, &e) || e.Class != class || e.Way == "" || e.Retryable() || r.Done {
				t.Fatalf("%+v, error is %v", r, err)
			}
			if r.Spent.Calls != 100 || b.ref.asked() > 100+w.InFlight {
				t.Fatalf("spent %+v, asked %d times", r.Spent, b.ref.asked())
			}
			b.ref.answer = nil
			b.run(w)
			if answers, questions := b.ref.counts(); answers != 400 || questions != 400 {
				t.Fatalf("%d answers to %d questions", answers, questions)
			}
			if _, doubt := b.balanced(w); doubt != (dataset.Usage{}) {
				t.Fatalf("in doubt: %+v", doubt)
			}
		})
	}
}

func TestAnEndpointThatIsAwayRejectsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, 100, 0)
	var away atomic.Bool
	away.Store(true)
	b.ref.answer = func(question) reply {
		if away.Load() {
			return reply{status: 503, body: `{}`, header: map[string]string{"Retry-After": "7"}}
		}
		return reply{}
	}
	w := b.backtranslate("out")
	_, err := Run(t.Context(), b.deps, w, nil)
	var e *Error
	if !errors.As(err, &e) || e.Class != llm.ClassYield || e.RetryAfter < time.Second || !e.Retryable() {
		t.Fatalf("error is %v", err)
	}
	away.Store(false)
	b.deps = b.dependencies()
	if r := b.run(w)[0]; r.Receipt.Rejected != 0 {
		t.Fatalf("receipt is %+v", r.Receipt)
	}
}

func TestAQuestionThatFailsInPassingIsNotRejected(t *testing.T) {
	t.Parallel()
	b := newBench(t, 30, 0)
	var broken atomic.Bool
	broken.Store(true)
	b.ref.answer = func(q question) reply {
		if broken.Load() && strings.Contains(q.text, "Segment 5 ") {
			return reply{status: 500, body: `{}`}
		}
		return reply{}
	}
	b.deps = b.dependencies(llm.WithMaxAttempts(2))
	w := b.backtranslate("out")
	r, err := Run(t.Context(), b.deps, w, nil)
	var e *Error
	if !errors.As(err, &e) || e.Class != llm.ClassPassing || e.RetryAfter <= 0 || !e.Retryable() {
		t.Fatalf("error is %v", err)
	}
	if r.Spent.Calls != 29 {
		t.Fatalf("the others are not answered: %+v", r)
	}
	broken.Store(false)
	if r := b.run(w)[0]; r.Receipt.Rejected != 0 || r.Spent.Calls != 30 {
		t.Fatalf("result is %+v", r)
	}
	plain := newBench(t, 30, 0)
	smooth := plain.backtranslate("out")
	plain.run(smooth)
	if d := cmp.Diff(rowsOf[dataset.Candidate](plain, smooth), rowsOf[dataset.Candidate](b, w)); d != "" {
		t.Fatal(d)
	}
}

func TestBudgetIsNeverCrossed(t *testing.T) {
	t.Parallel()
	for name, budget := range map[string]Budget{
		"calls":  {Calls: 37, Tokens: NoCap, MicroUSD: NoCap},
		"tokens": {Calls: NoCap, Tokens: 20_000, MicroUSD: NoCap},
		"money":  {Calls: NoCap, Tokens: NoCap, MicroUSD: 30_000},
		"zero":   {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 150, 0)
			w := b.backtranslate("out")
			w.Budget = budget
			for range 3 { // asking again does not help
				r, err := Run(t.Context(), b.deps, w, nil)
				if err != nil || r.Done || r.Stop != StopBudget {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			spent, doubt := b.balanced(w)
			all := spent.Add(doubt)
			if (budget.Calls >= 0 && all.Calls > budget.Calls) || (budget.Tokens >= 0 && all.PromptTokens+all.CompletionTokens > budget.Tokens) ||
				(budget.MicroUSD >= 0 && all.MicroUSD > budget.MicroUSD) {
				t.Fatalf("spent %+v and %+v in doubt of %+v", spent, doubt, budget)
			}
			if name != "zero" && spent.Calls < 20 {
				t.Fatalf("%d calls only", spent.Calls)
			}
			w.Budget = Unlimited()
			b.run(w)
			if answers, _ := b.ref.counts(); answers != 150 {
				t.Fatalf("%d answers", answers)
			}
		})
	}
}

func TestUnknownPricesAreRefusedWhereTheyMatter(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10, 0)
	w := b.backtranslate("out")
	w.Model.Name = "unpriced"
	for _, budget := range []Budget{{NoCap, NoCap, 1000, false}, {NoCap, NoCap, NoCap, true}} {
		w.Budget = budget
		var e *Error
		if _, err := Run(t.Context(), b.deps, w, nil); !errors.As(err, &e) || e.Class != ClassPrice {
			t.Fatalf("error is %v", err)
		}
	}
	if b.ref.asked() != 0 {
		t.Fatal("asked")
	}
	w.Budget = Budget{Calls: 100, Tokens: NoCap, MicroUSD: NoCap}
	if r := b.run(w)[0]; r.Spent.UnknownPrice != 10 || r.Spent.MicroUSD != 0 {
		t.Fatalf("spent %+v", r.Spent)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 0)
	for name, change := range map[string]func(*Work){
		"task":      func(w *Work) { w.Task = "guess" },
		"provider":  func(w *Work) { w.Model.Provider = "nobody" },
		"template":  func(w *Work) { w.Prompt = "{{.Secret}}" },
		"tokens":    func(w *Work) { w.Sampling.MaxTokens = 0 },
		"partition": func(w *Work) { w.Partition = 1 },
		"input":     func(w *Work) { w.Input = dataset.Ref{} },
		"model":     func(w *Work) { w.Model.Name = "" },
		"samples":   func(w *Work) { w.Samples = -1 },
	} {
		w := b.backtranslate("out")
		change(&w)
		var e *Error
		if _, err := Run(t.Context(), b.deps, w, nil); !errors.As(err, &e) || e.Class != ClassSetting || e.Retryable() {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestAStopFinishesCallsInFlight(t *testing.T) {
	t.Parallel()
	b := newBench(t, 400, 0)
	b.ref.delay = 200 * time.Millisecond
	w := b.backtranslate("out")
	ctx, cancel := context.WithCancel(t.Context())
	b.ref.answer = func(question) reply { cancel(); return reply{} } // the others are in flight
	r, err := Run(ctx, b.deps, w, nil)
	if err != nil || r.Done || r.Stop != StopCancelled {
		t.Fatalf("%+v, %v", r, err)
	}
	answers, _ := b.ref.counts()
	if r.Spent.Calls != int64(answers) || answers != b.ref.asked() || r.InDoubt != (dataset.Usage{}) || answers == 0 || answers > 300 {
		t.Fatalf("%d answers, result is %+v", answers, r)
	}
	b.ref.delay, b.ref.answer = 0, nil
	b.run(w)
	if answers, questions := b.ref.counts(); answers != 400 || questions != 400 {
		t.Fatalf("%d answers to %d questions", answers, questions)
	}
}

func TestProgressIsToldAndSmall(t *testing.T) {
	t.Parallel()
	b := newBench(t, 200, 0)
	b.ref.delay = 100 * time.Millisecond
	b.run(b.backtranslate("candidates"))
	var told []Progress
	w := b.rate("candidates", "ratings")
	if _, err := Run(t.Context(), b.deps, w, func(p Progress) { told = append(told, p) }); err != nil {
		t.Fatal(err)
	}
	if len(told) < 2 {
		t.Fatalf("told %d times", len(told))
	}
	last := told[len(told)-1]
	var histogram int64
	for _, n := range last.Histogram {
		histogram += n
	}
	if last.Rows != 200 || last.Total != 200 || last.Asked != 200 || last.InFlight != 0 || histogram != 200 || last.Paid.Spent.Calls != 200 {
		t.Fatalf("the last is %+v", last)
	}
}

func TestLimitsAreUsedInFull(t *testing.T) {
	t.Parallel()
	const limit = 25
	b := newBench(t, 8*limit, 0)
	var meeting sync.Mutex
	came, full := 0, make(chan struct{})
	b.ref.answer = func(question) reply { // nobody is answered before all that may be in flight are
		meeting.Lock()
		mine := full
		if came++; came%limit == 0 {
			close(full)
			full = make(chan struct{})
		}
		meeting.Unlock()
		select {
		case <-mine:
		case <-time.After(time.Minute):
			t.Errorf("fewer than %d calls in flight", limit)
		}
		return reply{}
	}
	w := b.backtranslate("out")
	w.InFlight = limit
	b.run(w)
	if b.ref.most != limit {
		t.Fatalf("%d calls in flight at most", b.ref.most)
	}
}

func TestLostRepliesAreInDoubt(t *testing.T) {
	t.Parallel()
	b := newBench(t, 100, 0)
	b.ref.answer = func(q question) reply {
		return reply{hangUp: q.n == 1 && q.seed%4 == 0, text: fair(q)}
	}
	w := b.backtranslate("out")
	r := b.run(w)[0]
	answers, questions := b.ref.counts()
	if questions != 100 || answers <= 100 || r.Spent.Calls != 100 {
		t.Fatalf("%d answers to %d questions, spent %+v", answers, questions, r.Spent)
	}
	if _, doubt := b.balanced(w); doubt.Calls != int64(answers-questions) {
		t.Fatalf("%d replies were lost, in doubt is %+v", answers-questions, doubt)
	}
}

func TestTheRefereeTellsTasksApart(t *testing.T) {
	t.Parallel()
	q := question{text: "x"}
	if !strings.Contains(fair(question{text: "Score:"}), "Score:") || strings.Contains(fair(q), "Score:") {
		t.Fatal("the referee mixes its tasks up")
	}
	tmpl, err := prompt.Embedded(prompt.Backtranslate)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := tmpl.Render(prompt.Vars{Output: "x"}); err != nil || strings.Contains(m[len(m)-1].Content, "Score:") {
		t.Fatalf("the referee would take backtranslation for rating: %v", err)
	}
}
