package workflows

import (
	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/stage"
)

// Purse is an amount of calls, tokens and money. A field that is not capped does not count.
type Purse struct {
	Calls    Amount `json:"calls"`
	Tokens   Amount `json:"tokens"`
	MicroUSD Amount `json:"micro_usd"`
}

// Amount is one capped quantity.
type Amount struct {
	Capped bool  `json:"capped,omitempty"`
	Left   int64 `json:"left,omitempty"`
}

// newPurse returns all that a budget allows.
func newPurse(b config.Budget) Purse {
	return Purse{
		Calls:    Amount{Capped: b.Calls > 0, Left: b.Calls},
		Tokens:   Amount{Capped: b.Tokens > 0, Left: b.Tokens},
		MicroUSD: Amount{Capped: b.USD > 0, Left: int64(b.USD * 1e6)},
	}
}

func (a Amount) add(n int64) Amount {
	if a.Capped {
		a.Left += n
	}
	return a
}

// less returns the purse after spending u.
func (p Purse) less(u dataset.Usage) Purse {
	p.Calls = p.Calls.add(-u.Calls)
	p.Tokens = p.Tokens.add(-u.PromptTokens - u.CompletionTokens)
	p.MicroUSD = p.MicroUSD.add(-u.MicroUSD)
	return p
}

func (p Purse) plus(q Purse) Purse {
	return Purse{Calls: p.Calls.join(q.Calls, 1), Tokens: p.Tokens.join(q.Tokens, 1), MicroUSD: p.MicroUSD.join(q.MicroUSD, 1)}
}

func (p Purse) minus(q Purse) Purse {
	return Purse{Calls: p.Calls.join(q.Calls, -1), Tokens: p.Tokens.join(q.Tokens, -1), MicroUSD: p.MicroUSD.join(q.MicroUSD, -1)}
}

func (a Amount) join(b Amount, sign int64) Amount {
	if b.Capped {
		return Amount{Capped: true, Left: a.Left + sign*b.Left}
	}
	return a
}

// share returns an even part of the purse for one of n partitions, and false when there is nothing left to share.
func (p Purse) share(n int) (Purse, bool) {
	n = max(1, n)
	part := Purse{Calls: p.Calls.part(n), Tokens: p.Tokens.part(n), MicroUSD: p.MicroUSD.part(n)}
	empty := func(a Amount) bool { return a.Capped && a.Left <= 0 }
	return part, !empty(part.Calls) && !empty(part.Tokens) && !empty(part.MicroUSD)
}

func (a Amount) part(n int) Amount {
	if a.Capped && a.Left > int64(n) {
		a.Left /= int64(n)
	}
	return a
}

// budget is the cap on what a partition's attempts may spend in all, given what earlier ones spent.
func (p Purse) budget(prior activities.Spending) stage.Budget {
	paid := prior.Spent.Add(prior.InDoubt)
	total := func(a Amount, spent int64) int64 {
		if !a.Capped {
			return stage.NoCap
		}
		return spent + a.Left
	}
	return stage.Budget{
		Calls:    total(p.Calls, paid.Calls),
		Tokens:   total(p.Tokens, paid.PromptTokens+paid.CompletionTokens),
		MicroUSD: total(p.MicroUSD, paid.MicroUSD),
	}
}
