package finetune

import (
	"strings"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	t.Parallel()
	micro := func(usd float64) *int64 { n := int64(usd * 1e6); return &n }
	for _, c := range []struct {
		name   string
		rate   Rate
		left   *int64
		tokens int64
		want   time.Duration
		says   string
	}{
		{"no budget", Rate{USDPerHour: 3}, nil, 1e9, 0, ""},
		{"no price", Rate{TokensPerSecond: 1}, micro(1), 1e9, 0, ""},
		{"an hour", Rate{USDPerHour: 3}, micro(3), 1e9, time.Hour, ""},
		{"fast enough", Rate{USDPerHour: 3, TokensPerSecond: 1000}, micro(3), 3_600_000, time.Hour, ""},
		{"too slow", Rate{USDPerHour: 3, TokensPerSecond: 1000}, micro(3), 7_200_000, 0, "about $6.00 (at most 7200000 tokens, 2h0m0s at 1000 tokens a second and $3 an hour), $3.00 are left"},
		{"less than a minute", Rate{USDPerHour: 60}, micro(0.9), 0, 0, "$0.90 are left"},
		{"nothing", Rate{USDPerHour: 60}, micro(0), 0, 0, "$0.00 are left"},
		{"less than nothing", Rate{USDPerHour: 60}, micro(-5), 0, 0, "are left"},
		{"more than time has", Rate{USDPerHour: 1e-9}, micro(1e12), 0, 1_000_000_000 * time.Second, ""},
	} {
		got, err := c.rate.Limit(Job{MaxMicroUSD: c.left}, c.tokens)
		if got != c.want || (err == nil) != (c.says == "") || err != nil && (ClassOf(err) != ClassBudget || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	if got := (Rate{USDPerHour: 3}).Cost(90 * time.Minute); got != 4_500_000 {
		t.Errorf("%d", got)
	}
	told := Status{CostMicroUSD: 7, CostKnown: true}
	if (Rate{USDPerHour: 3}).Settle(&told, time.Hour); told.CostMicroUSD != 7 {
		t.Error("what the program told is forgotten")
	}
	var unknown Status
	if (Rate{}).Settle(&unknown, time.Hour); unknown.CostKnown {
		t.Error("a price that nobody named")
	}
}
