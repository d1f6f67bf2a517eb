// Package ledger remembers every model answer, raw and under what was asked, so that none is paid for twice.
//
// Entries live in S3 under ledger/<scope>/<bits>/<part>/. A scope is one way of asking (template, model revision, sampling);
// (bits, part) is the partition of the dataset that the writer worked on. Three kinds of objects lie there, all immutable
// and in one format (see codec.go): lease/<epoch>, the fencing token that its writer took with put-if-absent;
// wal/<epoch>-<seq>, what was flushed, in order; whole/<epoch>-<n>, what was compacted.
//
// Money is accounted for so that ledger ≤ billed ≤ ledger + in doubt holds at every moment, whoever dies: no call is
// admitted beyond what the last durable reservation allows. Reservations ride in the headers of the objects above. What an
// epoch reserved and did not settle is in doubt, and stays so: the same question asked again later is a second payment.
package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
)

var (
	// ErrFenced says that another attempt took the partition over: nothing more may be asked.
	ErrFenced = errors.New("another attempt took the partition over")
	// ErrBudget says that a call could cross the cap.
	ErrBudget = errors.New("the next call could cross the budget")
	// ErrCorrupt is in the chain of every error about an object that cannot be read. The error names the object.
	ErrCorrupt = errors.New("corrupt ledger object")
	// ErrClosed says that the book takes no more calls.
	ErrClosed = errors.New("ledger closed")
)

// HeldError says that another run, which is alive, asks questions of the partition: its answers are waited for.
type HeldError struct {
	Run   string        // the run that holds it
	Batch time.Time     // when it handed a batch over that is at the endpoint; zero: it asks live
	After time.Duration // when to come back
}

// Error names the run.
func (e *HeldError) Error() string {
	if !e.Batch.IsZero() {
		return fmt.Sprintf("run %s handed the partition's questions over in a batch at %s", e.Run, e.Batch.Format(time.RFC3339))
	}
	return "the partition is in work for run " + e.Run
}

// Status says what became of a question.
type Status string

// What may become of a question.
const (
	StatusAnswered Status = "answered" // Text holds the answer, readable or not
	StatusRefused  Status = "refused"  // the endpoint will never answer this question
	StatusFailed   Status = "failed"   // no answer this time; the question stays open
)

// Entry is one question and what became of it.
type Entry struct {
	Key     Key    `json:"key"`
	Row     string `json:"row"` // id of the dataset's row
	Sample  int    `json:"sample,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	Status  Status `json:"status"`

	Text         string          `json:"text,omitempty"`
	FinishReason string          `json:"finish,omitempty"`
	Model        string          `json:"model,omitempty"` // as the endpoint names it
	LogProbs     json.RawMessage `json:"logprobs,omitempty"`

	PromptTokens     int64     `json:"prompt_tokens,omitempty"`
	CachedTokens     int64     `json:"cached_tokens,omitempty"` // part of PromptTokens
	CompletionTokens int64     `json:"completion_tokens,omitempty"`
	MicroUSD         int64     `json:"micro_usd,omitempty"`
	CostKnown        bool      `json:"cost_known,omitempty"`
	LatencyMS        int64     `json:"latency_ms,omitempty"`
	Tries            int       `json:"tries,omitempty"` // requests sent for it
	Batch            string    `json:"batch,omitempty"` // key of the batch that brought it
	At               time.Time `json:"at"`

	ErrorClass   string `json:"error_class,omitempty"`
	ErrorMessage string `json:"error,omitempty"`

	Epoch int64 `json:"epoch"` // set by Record: who paid for it
	N     int64 `json:"n"`     // set by Record: number within the epoch, from 1

	foreign bool // from a shelf of other bits, where epochs are others
}

// Billed reports whether the endpoint answered, and so charged for, the question.
func (e *Entry) Billed() bool {
	return e.Status == StatusAnswered || e.PromptTokens+e.CompletionTokens > 0
}

// Usage returns what the entry counts for in sums: nothing unless it was billed.
func (e *Entry) Usage() dataset.Usage {
	if !e.Billed() {
		return dataset.Usage{}
	}
	u := dataset.Usage{Calls: 1, PromptTokens: e.PromptTokens, CompletionTokens: e.CompletionTokens, MicroUSD: e.MicroUSD}
	if !e.CostKnown {
		u.UnknownPrice = 1
	}
	return u
}

// Spending is what was paid for certain and what may have been paid besides.
type Spending struct {
	Spent   dataset.Usage `json:"spent"`
	InDoubt dataset.Usage `json:"in_doubt"`
}

// Add returns the sum of both.
func (s Spending) Add(t Spending) Spending {
	return Spending{Spent: s.Spent.Add(t.Spent), InDoubt: s.InDoubt.Add(t.InDoubt)}
}

// Minus returns the difference of both.
func (s Spending) Minus(t Spending) Spending {
	return Spending{Spent: s.Spent.Minus(t.Spent), InDoubt: s.InDoubt.Minus(t.InDoubt)}
}

// Cap bounds what a run may spend on one partition, over all its attempts, what is in doubt included. Fields below 0 do not.
type Cap struct {
	Calls    int64 `json:"calls"`
	Tokens   int64 `json:"tokens"` // of prompts and answers together
	MicroUSD int64 `json:"micro_usd"`
}

// Uncapped bounds nothing.
var Uncapped = Cap{Calls: -1, Tokens: -1, MicroUSD: -1}

// room returns how many times each fits between what is used and the cap, at most n.
func (c Cap) room(used, each dataset.Usage, n int64) int64 {
	fit := func(limit, used, each int64) {
		if limit < 0 {
			return
		}
		left := max(0, limit-used)
		if each > 0 {
			n = min(n, left/each)
		}
	}
	fit(c.Calls, used.Calls, each.Calls)
	fit(c.Tokens, used.PromptTokens+used.CompletionTokens, each.PromptTokens+each.CompletionTokens)
	fit(c.MicroUSD, used.MicroUSD, each.MicroUSD)
	return n
}

// covers reports whether a reservation allows u.
func covers(limit, u dataset.Usage) bool {
	return u.Calls <= limit.Calls && u.PromptTokens <= limit.PromptTokens &&
		u.CompletionTokens <= limit.CompletionTokens && u.MicroUSD <= limit.MicroUSD
}

func times(u dataset.Usage, n int64) dataset.Usage {
	return dataset.Usage{
		Calls: u.Calls * n, PromptTokens: u.PromptTokens * n, CompletionTokens: u.CompletionTokens * n,
		MicroUSD: u.MicroUSD * n, UnknownPrice: u.UnknownPrice * n,
	}
}

// most returns the larger of each field.
func most(a, b dataset.Usage) dataset.Usage {
	return dataset.Usage{
		Calls: max(a.Calls, b.Calls), PromptTokens: max(a.PromptTokens, b.PromptTokens),
		CompletionTokens: max(a.CompletionTokens, b.CompletionTokens), MicroUSD: max(a.MicroUSD, b.MicroUSD),
		UnknownPrice: max(a.UnknownPrice, b.UnknownPrice),
	}
}

// least returns the smaller of each field.
func least(a, b dataset.Usage) dataset.Usage {
	return dataset.Usage{
		Calls: min(a.Calls, b.Calls), PromptTokens: min(a.PromptTokens, b.PromptTokens),
		CompletionTokens: min(a.CompletionTokens, b.CompletionTokens), MicroUSD: min(a.MicroUSD, b.MicroUSD),
		UnknownPrice: min(a.UnknownPrice, b.UnknownPrice),
	}
}
