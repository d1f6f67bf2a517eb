package finetune

import (
	"fmt"
	"math"
	"time"
)

// Rate is what the machines that train cost and do, as the worker's settings say. What is 0 is not known.
type Rate struct {
	USDPerHour      float64 // for all machines of a job together, while they work on it
	TokensPerSecond float64 // trained on
}

// leastTime is the shortest time that is worth a start.
const leastTime = time.Minute

// Cost is the price of time, in millionths of a US dollar, rounded up.
func (r Rate) Cost(d time.Duration) int64 {
	return int64(math.Ceil(min(max(d.Hours(), 0)*r.USDPerHour, 1e9) * 1e6))
}

// Settle sets the cost of a job that the machines worked on for so long, where nobody else has told it.
func (r Rate) Settle(st *Status, worked time.Duration) {
	if r.USDPerHour > 0 && !st.CostKnown {
		st.CostMicroUSD, st.CostKnown = r.Cost(worked), true
	}
}

// Limit returns for how long the machines may work on a job for what is left of the budget; 0: for ever. A job that would take
// longer, by the tokens that it trains on, is refused with ClassBudget, and so is one for which a minute cannot be paid.
func (r Rate) Limit(job Job, tokens int64) (time.Duration, error) {
	if job.MaxMicroUSD == nil || r.USDPerHour <= 0 {
		return 0, nil
	}
	usd := float64(*job.MaxMicroUSD) / 1e6
	limit := time.Duration(min(max(usd, 0)/r.USDPerHour*3600, 1e9) * float64(time.Second)).Truncate(time.Second)
	if limit < leastTime {
		return 0, &Error{Class: ClassBudget, Code: "over_budget", Message: fmt.Sprintf("$%.2f are left, which is less than %v of machines at $%g an hour", usd, leastTime, r.USDPerHour)}
	}
	if r.TokensPerSecond > 0 {
		takes := time.Duration(min(float64(tokens)/r.TokensPerSecond, 1e9) * float64(time.Second)).Round(time.Second)
		if takes > limit {
			return 0, &Error{Class: ClassBudget, Code: "over_budget", Message: fmt.Sprintf(
				"training would cost about $%.2f (at most %d tokens, %v at %g tokens a second and $%g an hour), $%.2f are left",
				float64(r.Cost(takes))/1e6, tokens, takes, r.TokensPerSecond, r.USDPerHour, usd)}
		}
	}
	return limit, nil
}

// Stopped says that a job was stopped since its time was over. See Limit.
func (r Rate) Stopped(limit time.Duration) string {
	return fmt.Sprintf("it was stopped after %v, which is what the budget left for it at $%g an hour (Try: a larger budget: starter set RUN --usd N)", limit, r.USDPerHour)
}
