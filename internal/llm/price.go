package llm

import (
	"math"
	"strings"
)

type prices map[string]Price

// find returns the price of a model: under its exact name, else under the longest name with a trailing * that covers it.
func (p prices) find(model string) (Price, bool) {
	if price, ok := p[model]; ok {
		return price, true
	}
	best, found := "", false
	for name := range p {
		prefix, star := strings.CutSuffix(name, "*")
		if star && strings.HasPrefix(model, prefix) && (!found || len(prefix) >= len(best)) {
			best, found = prefix, true
		}
	}
	if !found {
		return Price{}, false
	}
	return p[best+"*"], true
}

// Free reports whether a model is known to cost nothing.
func (p Provider) Free(model string) bool {
	price, known := prices(p.Prices).find(model)
	return known && price.Input == 0 && price.Output == 0
}

// cost is tokens × dollars per million tokens, which is millionths of a dollar.
func (p prices) cost(model string, u Usage) (int64, bool) {
	price, ok := p.find(model)
	if !ok {
		return 0, false
	}
	cachedPrice := price.CachedInput
	if cachedPrice == 0 {
		cachedPrice = price.Input
	}
	cached := max(0, min(u.CachedTokens, u.PromptTokens))
	micro := float64(u.PromptTokens-cached)*price.Input + float64(cached)*cachedPrice + float64(u.CompletionTokens)*price.Output
	// A hair less before rounding up, so that 0.1+0.2 does not cost a millionth more.
	return int64(math.Ceil(micro - 1e-6)), true
}
