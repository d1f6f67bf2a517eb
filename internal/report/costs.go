package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
)

// expense is what the stages of one purpose in one iteration took together.
type expense struct {
	Purpose   string
	Iteration int
	State     string // done, or that of a stage that is not
	Reused    int64
	Usage     dataset.Usage
	StartedAt time.Time
	EndedAt   time.Time // zero while one of them goes on
	purpose   int       // of purposes; beyond them: none
	unknown   bool      // it has a training of unknown cost
}

// purposes are in the order in which a run comes to them. Stages belong to them by the words that their names begin with.
var purposes = []struct {
	name   string
	stages []string
}{
	{"preparing the data", []string{"preflight", "ingest", "hold out", "load"}},
	{"generating", []string{"augment", "generate"}},
	{"trying out the judge", []string{"calibrate", "labelled", "rate labelled"}},
	{"rating", []string{"rate", "score"}},
	{"selecting", []string{"select"}},
	{"training", []string{"train", "take"}},
	{"evaluating", []string{"eval", "gate", "fit"}},
	{"handing over", []string{"export", "push"}},
}

// purposeOf is the purpose whose word begins the stage's name, the longest of them.
func purposeOf(stage string) (at int) {
	at, long := len(purposes), 0
	for i, p := range purposes {
		for _, word := range p.stages {
			if (stage == word || strings.HasPrefix(stage, word+" ")) && len(word) > long {
				at, long = i, len(word)
			}
		}
	}
	return at
}

// expenses groups the stages by iteration and purpose.
func expenses(d Data) (out [][]expense) {
	for _, s := range d.Stages {
		at, found := slices.BinarySearchFunc(out, s.Iteration, func(group []expense, t int) int { return group[0].Iteration - t })
		if !found {
			out = slices.Insert(out, at, []expense(nil))
		}
		purpose := purposeOf(s.Name)
		of := slices.IndexFunc(out[at], func(e expense) bool { return e.purpose == purpose })
		if of < 0 {
			of = len(out[at])
			out[at] = append(out[at], expense{purpose: purpose, Purpose: "other steps", Iteration: s.Iteration, State: s.State, StartedAt: s.StartedAt, EndedAt: s.EndedAt})
			if purpose < len(purposes) {
				out[at][of].Purpose = purposes[purpose].name
			}
		}
		e := &out[at][of]
		e.Reused, e.Usage = e.Reused+s.Reused, e.Usage.Add(s.Usage)
		e.unknown = e.unknown || unknownCost(s, d.Trainings)
		if s.State != "done" {
			e.State = s.State
		}
		if s.StartedAt.Before(e.StartedAt) {
			e.StartedAt = s.StartedAt
		}
		switch {
		case s.EndedAt.IsZero() || e.EndedAt.IsZero():
			e.EndedAt = time.Time{}
		case s.EndedAt.After(e.EndedAt):
			e.EndedAt = s.EndedAt
		}
	}
	for _, group := range out {
		slices.SortStableFunc(group, func(x, y expense) int { return x.purpose - y.purpose })
	}
	return out
}

// Cost is what the group cost; what is not known is not guessed.
func (e expense) Cost() string { return atLeast(e.Usage, e.unknown) }

// stageCost is what a stage cost.
func stageCost(s Stage, trainings []Training) string {
	return atLeast(s.Usage, unknownCost(s, trainings))
}

// costInAll is what the calls and trainings of a run cost.
func costInAll(d Data) string {
	return atLeast(d.Spent, slices.ContainsFunc(d.Trainings, func(t Training) bool { return !t.CostKnown }))
}

// unknownCost reports whether the stage is a training of which nobody knows what it cost.
func unknownCost(s Stage, trainings []Training) bool {
	job, trains := strings.CutPrefix(s.Name, "train ")
	return trains && s.Usage.MicroUSD == 0 && slices.ContainsFunc(trainings, func(t Training) bool { return t.Model == job && !t.CostKnown })
}

// atLeast is cost beside something of unknown cost.
func atLeast(u dataset.Usage, unknown bool) string {
	switch {
	case !unknown || u.UnknownPrice > 0 && u.Calls > 0:
		return cost(u)
	case u.Calls == 0 && u.MicroUSD == 0:
		return "unknown"
	}
	return "≥ " + cost(u)
}

// costTable is expenses with what all of them come to.
func costTable(d Data) table {
	t := table{title: "Calls and cost", texts: 2, head: []string{"iteration", "purpose", "reused", "calls", "tokens in", "tokens out", "time", "cost"}}
	for _, group := range expenses(d) {
		for _, e := range group {
			t.add(fmt.Sprint(e.Iteration), e.Purpose, dash(e.Reused), dash(e.Usage.Calls), dash(e.Usage.PromptTokens), dash(e.Usage.CompletionTokens), took(e.StartedAt, e.EndedAt), e.Cost())
		}
	}
	t.add("in all", "", "", dash(d.Spent.Calls), dash(d.Spent.PromptTokens), dash(d.Spent.CompletionTokens), took(d.StartedAt, endOf(d)), costInAll(d))
	return t
}
