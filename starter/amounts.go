package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// amounts reads what --budget says into the fields of the other flags.
func (c *setCmd) amounts() error {
	for _, given := range c.Budget {
		unit, text, named := strings.Cut(strings.TrimSpace(given), "=")
		if !named {
			unit, text = "usd", unit
		}
		text, dollars := strings.CutPrefix(text, "$")
		n, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n > math.MaxInt32*1e6:
			return usage(fmt.Sprintf("--budget %q is not an amount. Try: --budget usd=20, calls=5000 or tokens=1000000", given))
		case !named && n == 0: // the shell makes 0 of $20
			return usage("--budget 0 would lift the cap. Try: --budget usd=0 if that is meant, and usd=20 in place of $20, of which the shell makes 0")
		case dollars && unit != "usd":
			return usage(fmt.Sprintf("--budget %q: only usd takes a $. Try: --budget %s=%s", given, unit, text))
		}
		whole := int64(n)
		switch {
		case unit == "usd" && c.USD == nil:
			c.USD = &n
			continue
		case unit == "calls" && c.Calls == nil:
			c.Calls = &whole
		case unit == "tokens" && c.Tokens == nil:
			c.Tokens = &whole
		case unit == "usd", unit == "calls", unit == "tokens":
			return usage(fmt.Sprintf("the budget in %s is given twice", unit))
		default:
			return usage(fmt.Sprintf("--budget %q: a budget is in usd, calls or tokens. Try: --budget usd=20", given))
		}
		if float64(whole) != n {
			return usage(fmt.Sprintf("--budget %q: %s are whole. Try: --budget %s=%s", given, unit, unit, strconv.FormatInt(whole, 10)))
		}
	}
	return nil
}
