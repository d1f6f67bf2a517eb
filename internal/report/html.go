package report

import (
	"bufio"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

//go:embed *.html.tmpl
var pageFiles embed.FS

//go:embed style.css
var styleText string

//go:embed script.js
var scriptText string

// scriptHash allows the page's own script and no other.
func scriptHash() string {
	sum := sha256.Sum256([]byte(scriptText))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

var page = template.Must(template.New("page.html.tmpl").Funcs(template.FuncMap{
	"style":        func() template.CSS { return template.CSS(styleText) }, //nolint:gosec // our own file
	"script":       func() template.JS { return template.JS(scriptText) },  //nolint:gosec // our own file
	"scriptHash":   scriptHash,
	"cards":        cards,
	"iterations":   iterations,
	"funnelSteps":  funnelSteps,
	"sourceName":   sourceName,
	"inForce":      inForce,
	"reasonsOf":    reasonsOf,
	"heldOut":      heldOutTable,
	"looked":       looked,
	"masked":       masked,
	"sum":          sum,
	"moments":      moments,
	"spread":       spread,
	"rate":         rate,
	"rest":         func(s float64) string { return ratio(1-s, 1) },
	"verdict":      verdict,
	"driftShare":   driftShare,
	"scalingChart": scalingChart,
	"signed":       signed,
	"sunburst":     sunburst,
	"lengthsChart": lengthsChart,
	"inc":          func(i int) int { return i + 1 },
	"hue":          hue,
	"paperRates":   func() any { return paperRates },
	"num64":        func(n any) string { return num(whole64(n)) },
	"count64":      func(p []Sample) int64 { return int64(len(p)) },
	"compareLede":  compareLede,
	"part":         func(n int64, s SetChange) string { return ratio(float64(n), float64(s.Both+s.OnlyA+s.OnlyB)) },
	"kind":         func(title string, rows []RowOf2) exampleRows { return exampleRows{title, rows} },
	"lede":         lede,
	"sub":          sub,
	"modelName":    modelName,
	"judgeName":    judgeName,
	"stageName":    stageName,
	"expenses":     expenses,
	"stageCost":    stageCost,
	"costInAll":    costInAll,
	"fitted":       fitted,
	"phaseClass":   phaseClass,
	"sections":     sections,
	"mostIn":       mostIn,
	"num":          num,
	"dash":         dash,
	"dash64":       func(n int) string { return dash(int64(n)) },
	"compact":      compact,
	"tried":        tried,
	"onTraining":   onTraining,
	"paperJudges":  func() any { return selectionQuality },
	"width":        func(n, most int64) string { return ratio(float64(n), float64(most)) },
	"share":        func(s float64) string { return ratio(s, 1) },
	"percent":      func(n, of int64) string { return percentOf(float64(n) / float64(max(of, 1))) },
	"percentOf":    percentOf,
	"heat":         heat,
	"histogram":    histogram,
	"length":       length,
	"text":         text,
	"whole":        whole,
	"scores":       scores,
	"short":        short,
	"words":        words,
	"took":         took,
	"cost":         cost,
	"usd":          usd,
	"budget":       budget,
	"when":         when,
	"until":        endOf,
	"notExpressed": notExpressed,
	"web":          web,
}).ParseFS(pageFiles, "*.html.tmpl"))

// HTML writes the report as one page that loads nothing, and reads in light, dark, on a phone, on paper and without its script,
// which only finds pairs. Every text of the run is foreign and escaped. What was written before an error is no whole page.
func HTML(w io.Writer, d Data) error {
	out := bufio.NewWriterSize(w, 64<<10)
	err := page.Execute(out, d)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("write report of %s: %w", d.Run, err)
	}
	return nil
}

type section struct{ ID, Title string }

func sections(d Data) (out []section) {
	for _, s := range []struct {
		section
		has bool
	}{
		{section{"iterations", "Iterations"}, len(iterations(d)) > 0},
		{section{"sets", "Sets"}, len(d.Sets) > 0},
		{section{"flow", "Funnel"}, len(d.Flow) > 0},
		{section{"rejected", "Rejected"}, true},
		{section{"scores", "Ratings"}, len(d.Histograms) > 0},
		{section{"changes", "Judges"}, len(d.Changes) > 0},
		{section{"judge", "Calibration"}, len(tried(d)) > 0 || len(d.Evidence.Labelled) > 0},
		{section{"winrates", "Win rates"}, true},
		{section{"scaling", "Scaling"}, true},
		{section{"drift", "Drift"}, true},
		{section{"diversity", "Diversity"}, true},
		{section{"cost", "Cost"}, true},
		{section{"samples", "Pairs"}, len(d.Samples) > 0},
		{section{"lineage", "Lineage"}, len(d.Lineage) > 0},
		{section{"spec", "Spec"}, d.Spec != ""},
	} {
		if s.has {
			out = append(out, s.section)
		}
	}
	return out
}

func phaseClass(phase string) string {
	switch phase {
	case "completed", "converged":
		return "good"
	case "blocked", "cancelled", "failed":
		return "bad"
	case "running":
		return "busy"
	}
	return ""
}

func mostIn(flow []Flow) (most int64) {
	for _, f := range flow {
		most = max(most, f.In)
	}
	return most
}

// shown is how many characters of a text stand on the page before it must be unfolded.
const shown = 420

// text shows a text, the end of a long one folded.
func text(s string) template.HTML {
	esc := template.HTMLEscapeString
	if utf8.RuneCountInString(s) <= shown*5/4 {
		return template.HTML(`<p class="text"><bdi>` + esc(s) + `</bdi></p>`) //nolint:gosec // escaped
	}
	head := strings.TrimSuffix(clip(s, shown), "…")
	if i := strings.LastIndexAny(head, " \n"); i > len(head)/2 {
		head = head[:i]
	}
	//nolint:gosec // escaped
	return template.HTML(`<p class="text"><bdi>` + esc(head) + ` …</bdi></p><details class="whole"><summary>whole text, ` +
		num(int64(utf8.RuneCountInString(s))) + ` characters</summary><p class="text"><bdi>` + esc(s) + `</bdi></p></details>`)
}

// heat is how strongly a cell of a matrix is coloured, from 0 to 1.
func heat(n int64, c Change) string {
	var most int64 = 1
	for _, row := range c.Matrix {
		for _, v := range row {
			most = max(most, v)
		}
	}
	return fmt.Sprintf("%.3f", math.Sqrt(float64(n)/float64(most)))
}

// histogram draws one iteration's scores as shares, on the scale of all iterations. Only numbers enter it.
func histogram(h Histogram, all []Histogram) template.HTML {
	const width, height, left, right, top, bottom = 360.0, 210.0, 34.0, 8.0, 22.0, 24.0
	most, halves := 0.05, false
	for _, o := range all {
		for _, b := range o.Bars {
			most = max(most, float64(b.Rows)/float64(max(o.Rows, 1)))
			halves = halves || b.Score != math.Trunc(b.Score)
		}
	}
	tick, limit := scale(most)
	y := func(share float64) float64 { return top + (height-top-bottom)*(1-share/limit) }
	x := func(score float64) float64 { return left + (width-left-right)*(score-0.5)/5 }
	bar := (width - left - right) / 5 * 0.62
	if halves {
		bar = (width - left - right) / 10 * 0.78
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="Scores of iteration %d">`, width, height, h.Iteration)
	shareAxis(&b, tick, limit, left, width-right, y)
	for _, bin := range h.Bars {
		share := float64(bin.Rows) / float64(max(h.Rows, 1))
		class := "b"
		if bin.Score >= h.Threshold {
			class = "b sel"
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"><title>score %g: %s pairs, %s</title></rect>`,
			class, x(bin.Score)-bar/2, y(share), bar, height-bottom-y(share), bin.Score, num(bin.Rows), percentOf(share))
		if bin.Rows > 0 {
			fmt.Fprintf(&b, `<text class="count" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x(bin.Score), y(share)-5, compact(bin.Rows))
		}
		if bin.Score == math.Trunc(bin.Score) {
			fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%g</text>`, x(bin.Score), height-8, bin.Score)
		}
	}
	if h.Threshold > 1 && h.Threshold <= 5 {
		at := x(h.Threshold) - bar/2 - 3
		fmt.Fprintf(&b, `<line class="cut" x1="%.1f" x2="%.1f" y1="6" y2="%.1f"/>`, at, at, height-bottom)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers and our own words
}
