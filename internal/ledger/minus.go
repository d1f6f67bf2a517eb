package ledger

// Minus returns the difference of both.
func (s Spending) Minus(t Spending) Spending {
	return Spending{Spent: s.Spent.Minus(t.Spent), InDoubt: s.InDoubt.Minus(t.InDoubt)}
}
