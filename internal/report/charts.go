package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"github.com/selfalign/selfalign/internal/eval"
)

// hue is the colour of the i-th verb: neighbours are far apart on the wheel.
func hue(i int) int { return (i*137 + 210) % 360 }

// Radii of the sunburst: its middle, the ring of verbs, the ring of objects.
const (
	sunMiddle, sunVerbs, sunNouns = 78.0, 190.0, 310.0
	sunLetter                     = 13.0 // least length of an arc that carries a word
)

// sunburst draws the commonest verbs and their objects as two rings. Words are foreign and escaped.
func sunburst(v Variety) template.HTML {
	var all int64
	for _, verb := range v.Top {
		all += verb.Count
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="-320 -320 640 640" role="img" aria-label="Root verbs and direct objects of %s; the table has the numbers">`, template.HTMLEscapeString(v.Set))
	at := 0.0
	share := func(n int64) float64 { return 2 * math.Pi * float64(n) / float64(max(all, 1)) }
	for i, verb := range v.Top {
		wide := share(verb.Count)
		fmt.Fprintf(&b, `<g style="--h:%d">`, hue(i))
		ring(&b, "verb", at, wide, sunMiddle, sunVerbs, verb.Verb, verb.Verb, verb.Count)
		from, rest := at, verb.Count
		for _, noun := range verb.Nouns {
			ring(&b, "noun", from, share(noun.Count), sunVerbs, sunNouns, noun.Noun, verb.Verb+" "+noun.Noun, noun.Count)
			from, rest = from+share(noun.Count), rest-noun.Count
		}
		if rest > 0 {
			ring(&b, "other", from, share(rest), sunVerbs, sunNouns-70, "", verb.Verb+", other objects", rest)
		}
		b.WriteString(`</g>`)
		at += wide
	}
	fmt.Fprintf(&b, `<text class="all" text-anchor="middle" y="-2">%s</text><text text-anchor="middle" y="20">in %s verbs</text></svg>`, num(all), num(int64(len(v.Top))))
	return template.HTML(b.String()) //nolint:gosec // numbers, our own words and escaped ones
}

// ring draws a piece of a ring from an angle on, clockwise from the top, with its word along the radius where there is room.
func ring(b *strings.Builder, class string, from, wide, inner, outer float64, word, title string, n int64) {
	esc := template.HTMLEscapeString
	wide = min(wide, 2*math.Pi-1e-4) // a whole ring has no ends to draw
	x := func(r, a float64) float64 { return r * math.Sin(a) }
	y := func(r, a float64) float64 { return -r * math.Cos(a) }
	to, large := from+wide, 0
	if wide > math.Pi {
		large = 1
	}
	fmt.Fprintf(b, `<path class="%s" d="M%.1f %.1fA%g %g 0 %d 1 %.1f %.1fL%.1f %.1fA%g %g 0 %d 0 %.1f %.1fZ"><title>%s: %s</title></path>`, class,
		x(inner, from), y(inner, from), inner, inner, large, x(inner, to), y(inner, to), x(outer, to), y(outer, to), outer, outer, large, x(outer, from), y(outer, from),
		esc(clip(title, 60)), num(n))
	middle, radius := from+wide/2, (inner+outer)/2
	if word == "" || wide*(inner+20) < sunLetter {
		return
	}
	turn := middle*180/math.Pi - 90
	if middle > math.Pi {
		turn += 180
	}
	fmt.Fprintf(b, `<text class="%s-word" text-anchor="middle" transform="translate(%.1f %.1f) rotate(%.1f)" dy=".35em">%s</text>`,
		class, x(radius, middle), y(radius, middle), turn, esc(clip(word, 13)))
}

// scalingChart draws win rates over sizes of training sets, on a logarithmic axis, with the line fitted to them.
func scalingChart(s eval.Scaled) template.HTML {
	const width, height, left, right, top, bottom = 560.0, 280.0, 44.0, 24.0, 30.0, 48.0
	if len(s.Points) == 0 {
		return ""
	}
	low, high := math.Inf(1), math.Inf(-1)
	bottomRate, topRate := 100.0, 0.0
	for i, p := range s.Points {
		low, high = min(low, math.Log(float64(max(p.N, 1)))), max(high, math.Log(float64(max(p.N, 1))))
		from, to := 100*p.Rate, 100*p.Rate
		if i < len(s.Results) {
			from, to = 100*s.Results[i].Low, 100*s.Results[i].High
		}
		bottomRate, topRate = min(bottomRate, from), max(topRate, to)
	}
	pad := max(0.08*(high-low), 0.1)
	low, high = low-pad, high+pad
	tick := 1.0
	for _, t := range []float64{1, 2, 5, 10, 20} {
		if tick = t; (topRate-bottomRate)/t <= 5 {
			break
		}
	}
	bottomRate, topRate = max(math.Floor(bottomRate/tick)*tick-tick, 0), min(math.Ceil(topRate/tick)*tick+tick, 100)
	x := func(ln float64) float64 { return left + (width-left-right)*(ln-low)/(high-low) }
	y := func(rate float64) float64 {
		return top + (height-top-bottom)*(topRate-min(max(rate, bottomRate), topRate))/(topRate-bottomRate)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="scalingchart" viewBox="0 0 %g %g" role="img" aria-label="Win rate by size of the training set">`, width, height)
	for r := bottomRate; r <= topRate+1e-9; r += tick {
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text x="%g" y="%.1f" text-anchor="end">%.0f%%</text>`, left, width-right, y(r), y(r), left-6, y(r)+3.5, r)
	}
	fmt.Fprintf(&b, `<line class="fit" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, x(low), y(s.Alpha*low+s.C), x(high), y(s.Alpha*high+s.C))
	for i, p := range s.Points {
		at := x(math.Log(float64(max(p.N, 1))))
		if i < len(s.Results) {
			fmt.Fprintf(&b, `<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, at, at, y(100*s.Results[i].Low), y(100*s.Results[i].High))
		}
		fmt.Fprintf(&b, `<circle class="b sel" cx="%.1f" cy="%.1f" r="4"><title>%s examples: %s</title></circle><text x="%.1f" y="%g" text-anchor="middle">%s</text>`,
			at, y(100*p.Rate), num(p.N), rate(p.Rate), at, height-28, compact(p.N))
	}
	fmt.Fprintf(&b, `<text x="%g" y="14">win rate, with its 95 %% interval</text><text x="%g" y="%g" text-anchor="end">pairs in the training set, logarithmic</text>`, left, width-right, height-8)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and our own words
}

// lengthsChart draws how long the texts of up to two sets are, as shares of each set, on a logarithmic axis.
func lengthsChart(of string, sets []Variety) template.HTML {
	const width, height, left, right, top, bottom = 360.0, 210.0, 34.0, 8.0, 12.0, 24.0
	lengths := func(v Variety) Lengths {
		if of == "instruction" {
			return v.Instructions
		}
		return v.Outputs
	}
	first, last, most := len(Lengths{}), 0, 0.05
	for _, v := range sets {
		for i, n := range lengths(v) {
			if n > 0 {
				first, last = min(first, i), max(last, i)
			}
			most = max(most, float64(n)/float64(max(v.Looked, 1)))
		}
	}
	if first > last {
		return ""
	}
	tick, limit := scale(most)
	y := func(share float64) float64 { return top + (height-top-bottom)*(1-share/limit) }
	wide := (width - left - right) / float64(last-first+1)
	bar := 0.84 * wide / float64(len(sets))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="Lengths of %ss in characters">`, width, height, of)
	shareAxis(&b, tick, limit, left, width-right, y)
	for i := first; i <= last; i++ {
		at, from := left+wide*float64(i-first), 1<<max(i-1, 0)
		span := fmt.Sprintf("%d to %d", from, 1<<i-1)
		switch {
		case i == 0:
			from, span = 0, "0"
		case i == len(Lengths{})-1:
			span = fmt.Sprintf("%d and more", from)
		}
		for k, v := range sets {
			share := float64(lengths(v)[i]) / float64(max(v.Looked, 1))
			class := "b"
			if k == len(sets)-1 {
				class = "b sel"
			}
			fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1.5"><title>%s characters: %s of %s</title></rect>`,
				class, at+0.08*wide+bar*float64(k), y(share), bar, height-bottom-y(share), span, percentOf(share), template.HTMLEscapeString(v.Set))
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%d</text>`, at, height-8, from)
	}
	if last < len(Lengths{})-1 {
		fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="end">%d</text>`, width-2, height-8, 1<<last)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and our own words
}

// scale returns the distance of grid lines for shares up to most, and where the axis ends.
func scale(most float64) (tick, limit float64) {
	for _, tick = range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.25} {
		if most/tick <= 5 {
			break
		}
	}
	return tick, math.Ceil(most/tick) * tick
}

// shareAxis draws the grid lines of shares with their labels.
func shareAxis(b *strings.Builder, tick, limit, left, right float64, y func(float64) float64) {
	for i := 0; float64(i)*tick <= limit+1e-9; i++ {
		share := float64(i) * tick
		class := "grid"
		if i == 0 {
			class = "axis"
		}
		fmt.Fprintf(b, `<line class="%s" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text x="%g" y="%.1f" text-anchor="end">%.0f%%</text>`,
			class, left, right, y(share), y(share), left-5, y(share)+3.5, share*100)
	}
}

// fit is one line of the table of scaling coefficients; what is not known is a dash.
type fit struct{ Data, Alpha, Interval, C, R2, Paper string }

// fitted puts the coefficients that were measured before those of the paper. What was measured stands beside the paper's own data,
// which was made in the same way.
func fitted(d Data) (out []fit) {
	for _, s := range d.Evidence.Scaling {
		f := fit{Data: fmt.Sprintf("%s: parts of iteration %d", s.Name, s.Iteration), Alpha: fmt.Sprintf("%.2f", s.Alpha), Interval: "–", C: fmt.Sprintf("%.1f", s.C), R2: fmt.Sprintf("%.2f", s.R2), Paper: "–"}
		if s.Known {
			f.Interval = fmt.Sprintf("%.2f to %.2f", s.Low, s.High)
		}
		out = append(out, f)
	}
	for _, p := range PaperScaling {
		out = append(out, fit{p.Data, "–", "–", "–", "–", fmt.Sprintf("%.2f", p.Alpha)})
	}
	return out
}
