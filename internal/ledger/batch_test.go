package ledger

import (
	"errors"
	"fmt"
	"testing"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

func batchKeys(n int) (keys []Key) {
	for i := range n {
		keys = append(keys, KeyOf(Question{Revision: fmt.Sprint(i), Sample: 1, Attempt: 1}))
	}
	return keys
}

var (
	eachWorst = dataset.Usage{Calls: 1, PromptTokens: 10, CompletionTokens: 10, MicroUSD: 100}
	eachCost  = dataset.Usage{Calls: 1, PromptTokens: 5, CompletionTokens: 5, MicroUSD: 50}
)

func batchEntry(k Key) Entry {
	return Entry{Key: k, Row: "row", Sample: 1, Attempt: 1, Status: StatusAnswered, Text: "yes", PromptTokens: 5, CompletionTokens: 5, MicroUSD: 50, CostKnown: true}
}

// postBook opens and claims a partition. Books with flights of their own stand for processes of their own.
func postBook(t *testing.T, st *blob.Store, run string, limit int64) *Book {
	t.Helper()
	b, err := Open(t.Context(), st, "scope", 0, 0, Options{Run: run, flights: &flights{open: map[string]*flight{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(t.Context()) }) // twice, in some tests
	if err := b.Claim(t.Context(), Demand{Window: 1, Cap: Cap{Calls: -1, Tokens: -1, MicroUSD: limit}}); err != nil {
		t.Fatal(err)
	}
	return b
}

func paid(t *testing.T, st *blob.Store, spent, doubt dataset.Usage) {
	t.Helper()
	got, err := Paid(t.Context(), st, "scope", 0, 0, "run")
	if err != nil || got.Spent != spent || got.InDoubt != doubt {
		t.Errorf("paid %+v, %v; want %+v and %+v in doubt", got, err, spent, doubt)
	}
}

func TestABatchIsInDoubtUntilItIsSettled(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	keys := batchKeys(3)
	first := postBook(t, st, "run", 450)
	if _, err := first.Hand(t.Context(), keys, times(eachWorst, 5), eachWorst); !errors.Is(err, ErrBudget) {
		t.Fatalf("more than the cap: %v", err)
	}
	b, err := first.Hand(t.Context(), keys, times(eachWorst, 3), eachWorst)
	if err != nil || b.Seq != 1 || len(b.Key) != 32 || len(b.Questions) != 3 {
		t.Fatalf("%+v, %v", b, err)
	}
	if first.Fits(times(eachWorst, 2)) || !first.Fits(eachWorst) {
		t.Error("what is handed over does not count against the cap")
	}
	paid(t, st, dataset.Usage{}, times(eachWorst, 3))
	// The first dies here. The second takes over, knows the batch, and notes its name.
	second := postBook(t, st, "run", 450)
	open := second.Batches().Open
	if len(open) != 1 || open[0].Key != b.Key || open[0].ID != "" || open[0].Questions[2] != keys[2] || second.Fits(times(eachWorst, 2)) {
		t.Fatalf("the successor knows %+v", open)
	}
	if err := first.StillOurs(t.Context()); !errors.Is(err, ErrFenced) {
		t.Fatalf("the first: %v", err)
	}
	if err := second.Sent(t.Context(), 1, "batch_7"); err != nil {
		t.Fatal(err)
	}
	if got := second.Batches().Open[0].ID; got != "batch_7" {
		t.Errorf("the batch is %q", got)
	}
	if err := second.Adopt(t.Context(), b, batchEntry(keys[0]), eachWorst); err != nil {
		t.Fatal(err)
	}
	if got := second.Paid(); got.Spent != eachCost || got.InDoubt != times(eachWorst, 2) {
		t.Errorf("half-way: %+v", got)
	}
	if err := second.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The second dies too, half-way. The third harvests all of it and finds what was recorded.
	third := postBook(t, st, "run", 450)
	for _, k := range keys[:2] {
		if err := third.Adopt(t.Context(), b, batchEntry(k), eachWorst); err != nil {
			t.Fatal(err)
		}
	}
	if err := third.Settle(t.Context(), 1, Settlement{Outcome: BatchHarvested, Answered: 2, InDoubt: eachWorst}); err != nil {
		t.Fatal(err)
	}
	if got := third.Paid(); got.Spent != times(eachCost, 2) || got.InDoubt != eachWorst {
		t.Errorf("settled: %+v", got)
	}
	if err := third.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	paid(t, st, times(eachCost, 2), eachWorst)
	handed, err := Handed(t.Context(), st, "scope", 0, 0, "run")
	if err != nil || len(handed.Open) != 0 || handed.Harvested != 1 || handed.Fruitless != 0 {
		t.Errorf("%+v, %v", handed, err)
	}
	if other, err := Handed(t.Context(), st, "scope", 0, 0, "other"); err != nil || other.Harvested != 0 {
		t.Errorf("another run: %+v, %v", other, err)
	}
}

func TestTwoWhoHarvestOneBatchPayOnce(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	keys := batchKeys(2)
	zombie := postBook(t, st, "run", -1)
	b, err := zombie.Hand(t.Context(), keys, times(eachWorst, 2), eachWorst)
	if err != nil {
		t.Fatal(err)
	}
	successor := postBook(t, st, "run", -1)
	for _, book := range []*Book{zombie, successor} { // the zombie does not know yet
		for _, k := range keys {
			if err := book.Adopt(t.Context(), b, batchEntry(k), eachWorst); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := zombie.Settle(t.Context(), 1, Settlement{Outcome: BatchHarvested}); !errors.Is(err, ErrFenced) {
		t.Fatalf("the zombie settles: %v", err)
	}
	if _, err := zombie.Hand(t.Context(), keys, eachWorst, eachWorst); !errors.Is(err, ErrFenced) {
		t.Fatalf("the zombie hands over: %v", err)
	}
	if err := successor.Settle(t.Context(), 1, Settlement{Outcome: BatchHarvested, Answered: 2}); err != nil {
		t.Fatal(err)
	}
	for _, book := range []*Book{zombie, successor} {
		if err := book.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	paid(t, st, times(eachCost, 2), dataset.Usage{})
	last := postBook(t, st, "run", -1)
	if err := last.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	paid(t, st, times(eachCost, 2), dataset.Usage{})
}

func TestOfTwoHandedOverUnderOneNumberOneStands(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	keys := batchKeys(2)
	zombie, successor := postBook(t, st, "run", -1), postBook(t, st, "run", -1)
	if _, err := successor.Hand(t.Context(), keys, eachWorst, eachWorst); err != nil {
		t.Fatal(err)
	}
	if _, err := zombie.Hand(t.Context(), keys[:1], eachWorst, eachWorst); !errors.Is(err, ErrFenced) {
		t.Fatalf("the zombie: %v", err)
	}
	if err := successor.Settle(t.Context(), 1, Settlement{Outcome: BatchRefused}); err != nil {
		t.Fatal(err)
	}
	next, err := successor.Hand(t.Context(), keys, eachWorst, eachWorst)
	if err != nil || next.Seq != 2 || successor.Batches().Fruitless != 1 {
		t.Fatalf("%+v, %v, %+v", next, err, successor.Batches())
	}
}
