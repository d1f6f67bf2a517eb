package screen

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// Colours of a terminal.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// Table returns the lines that show a run on a terminal of the given size: a head, the stages, the scores of each iteration and
// what the run waits for. No line is wider than width. Stages that do not fit into height are left out from the top.
func Table(seen runs.Seen, rate func(workflows.StageStatus) float64, now time.Time, width, height int, color bool) []string {
	p := painter{width: width, color: color}
	p.head(seen, now)
	var tail painter
	tail.width, tail.color = width, color
	for _, set := range histograms(seen) {
		tail.scores(set)
	}
	for _, line := range judges(seen) {
		if len(tail.lines) == 0 {
			tail.add("", "")
		}
		tail.add("", line.text)
	}
	for _, fact := range facts(seen) {
		if len(tail.lines) == 0 {
			tail.add("", "")
		}
		parts := []string{Clean(fact)} // its columns stay in line while it fits
		if runewidth.StringWidth(parts[0]) > width-1 {
			parts = wrap(parts[0], width-1)
		}
		for _, part := range parts {
			tail.add("", part)
		}
	}
	tail.warnings(seen)
	tail.foot(seen)
	room := height - len(p.lines) - len(tail.lines) - 2
	stages := seen.Stages
	if len(stages) > 0 {
		p.add(dim, columns(width, "it", "stage", "progress", "done", "rate", "left", "cost", "reused", "rejected"))
	}
	if hidden := len(stages) - max(room, 3); hidden > 0 {
		stages = stages[hidden:]
		p.add(dim, fmt.Sprintf("    … %d more above", hidden))
	}
	for _, s := range stages {
		p.stage(s, rate(s))
	}
	return append(p.lines, tail.lines...)
}

// painter collects lines, clipped to the width.
type painter struct {
	width int
	color bool
	lines []string
}

func (p *painter) add(style, text string) {
	text = runewidth.Truncate(Clean(text), p.width-1, "…")
	if p.color && style != "" && text != "" {
		text = "\x1b[" + style + "m" + text + "\x1b[0m"
	}
	p.lines = append(p.lines, text)
}

// Clean returns text without what could steer a terminal.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || (unicode.Is(unicode.Cf, r) && r != '\u00ad') {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

func phaseStyle(phase string) string {
	switch phase {
	case workflows.PhaseCompleted, workflows.PhaseConverged:
		return green
	case workflows.PhaseBlocked, runs.PhaseFailed, workflows.PhaseCancelled:
		return red
	case workflows.PhasePaused, workflows.PhaseApproval:
		return yellow
	default:
		return cyan
	}
}

func (p *painter) head(seen runs.Seen, now time.Time) {
	parts := []string{seen.Run, seen.Phase}
	if seen.Iterations > 0 {
		parts = append(parts, fmt.Sprintf("iteration %d of %d", seen.Iteration, seen.Iterations))
	}
	if !seen.StartedAt.IsZero() {
		end := now
		if seen.Ended() && !seen.UpdatedAt.IsZero() {
			end = seen.UpdatedAt
		}
		parts = append(parts, Span(end.Sub(seen.StartedAt)))
	}
	p.add(bold+";"+phaseStyle(seen.Phase), strings.Join(parts, " · "))
	p.add("", Spending(seen.Status))
	p.add("", "")
}

// Spending tells in one line what a run has spent, of what it may.
func Spending(s workflows.Status) string {
	of := func(text string, limited bool, limit string) string {
		if limited {
			return text + " of " + limit
		}
		return text
	}
	tokens := s.Spent.PromptTokens + s.Spent.CompletionTokens
	parts := []string{
		of(Count(s.Spent.Calls)+" calls", s.Budget.Calls > 0, Count(s.Budget.Calls)),
		of(Count(tokens)+" tokens", s.Budget.Tokens > 0, Count(s.Budget.Tokens)),
		of(Money(s.Spent), s.Budget.USD > 0, fmt.Sprintf("$%.2f", s.Budget.USD)),
	}
	if s.Unpriced > 0 {
		parts = append(parts, fmt.Sprintf("trainings of unknown cost: %d", s.Unpriced))
	}
	if s.InDoubt.Calls > 0 {
		parts = append(parts, Count(s.InDoubt.Calls)+" calls in doubt")
	}
	return strings.Join(parts, " · ")
}

// Money returns the cost of a usage; what has no known price is said to be so.
func Money(u dataset.Usage) string {
	switch cost := fmt.Sprintf("$%.2f", float64(u.MicroUSD)/1e6); {
	case u.UnknownPrice == 0:
		return cost
	case u.UnknownPrice >= u.Calls && u.MicroUSD == 0: // trainings may have a price where calls have none
		return "cost unknown"
	default:
		return cost + " + unknown"
	}
}

// shortMoney is Money in eight characters.
func shortMoney(u dataset.Usage) string {
	switch {
	case u.UnknownPrice > 0 && u.UnknownPrice >= u.Calls && u.MicroUSD == 0:
		return "?"
	case u.UnknownPrice > 0:
		return fmt.Sprintf("$%.2f+?", float64(u.MicroUSD)/1e6)
	default:
		return fmt.Sprintf("$%.2f", float64(u.MicroUSD)/1e6)
	}
}

// columns lays out one row of the table of stages; narrow terminals lose columns from the right.
func columns(width int, cells ...string) string {
	sizes := []int{3, 16, 16, 13, 8, 7, 10, 8, 8}
	var b strings.Builder
	used := 0
	for i, cell := range cells {
		if used+sizes[i] > width-1 && i > 2 {
			break
		}
		cell = runewidth.Truncate(cell, sizes[i], "…")
		gap := strings.Repeat(" ", max(0, sizes[i]-runewidth.StringWidth(cell)))
		if i == 0 || i >= 3 {
			b.WriteString(gap + cell + " ")
		} else {
			b.WriteString(cell + gap + " ")
		}
		used += sizes[i] + 1
	}
	return strings.TrimRight(b.String(), " ")
}

func (p *painter) stage(s workflows.StageStatus, rate float64) {
	done := ""
	if counted(s) {
		done = Count(s.Done)
	}
	if s.Total > 0 {
		done += "/" + Count(s.Total)
	}
	perSecond, left, cost := "", "", ""
	if rate > 0 {
		perSecond = speed(rate)
		if s.State == workflows.StageRunning && s.Total > s.Done {
			left = Span(time.Duration(float64(s.Total-s.Done) / rate * float64(time.Second)))
		}
	}
	switch {
	case s.Loss > 0:
		cost = loss(s.Loss)
	case s.Usage.Calls > 0:
		cost = shortMoney(s.Usage)
	}
	name := s.Name
	if s.Detail != "" && s.Loss == 0 {
		name += " " + s.Detail
	}
	style := ""
	switch s.State {
	case workflows.StageDone:
		style = dim
	case workflows.StageStopped:
		style = yellow
	}
	p.add(style, columns(p.width, strconv.Itoa(s.Iteration), name, bar(s), done, perSecond, left, cost, some(s.Reused), some(s.Rejected)))
}

func some(n int64) string {
	if n == 0 {
		return ""
	}
	return Count(n)
}

// loss is a loss in ten characters: loss 2.31, loss 0.042, loss 3e-05.
func loss(l float64) string {
	switch {
	case l >= 1000:
		return fmt.Sprintf("loss %.0e", l)
	case l >= 10:
		return fmt.Sprintf("loss %.1f", l)
	case l >= 1:
		return fmt.Sprintf("loss %.2f", l)
	case l >= 0.001:
		return fmt.Sprintf("loss %.3f", l)
	default:
		return fmt.Sprintf("loss %.0e", l)
	}
}

// bar draws progress as 11 cells and per cent.
func bar(s workflows.StageStatus) string {
	const cells = 11
	share := 0.0
	switch {
	case s.Total > 0:
		share = math.Min(1, float64(s.Done)/float64(s.Total))
	case s.State == workflows.StageDone:
		share = 1
	}
	if s.State == workflows.StageDone {
		share = math.Max(share, 1)
	}
	eighths := int(share * cells * 8)
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	text += strings.Repeat("·", max(0, cells-len([]rune(text))))
	return fmt.Sprintf("%s %3.0f%%", text, math.Floor(share*100))
}

// scores is the histogram of one iteration.
type scores struct {
	iteration int
	counts    [6]int64 // by score, rounded half up, so that 5 is the paper's A5
	selected  int64
	ended     bool
}

// histograms returns the scores of each iteration, the one being rated included.
func histograms(seen runs.Seen) []scores {
	var out []scores
	have := map[int]bool{}
	for _, set := range seen.Sets {
		out = append(out, scores{set.Iteration, round(set.Histogram), set.Selected, true})
		have[set.Iteration] = true
	}
	for _, s := range seen.Stages {
		if len(s.Histogram) > 0 && !have[s.Iteration] && (strings.HasPrefix(s.Name, "rate") || s.Name == "score") {
			out = append(out, scores{s.Iteration, round(s.Histogram), 0, false})
			have[s.Iteration] = true
		}
	}
	slices.SortStableFunc(out, func(a, b scores) int { return a.iteration - b.iteration })
	return out
}

func round(histogram map[string]int64) (counts [6]int64) {
	for score, n := range histogram {
		if f, err := strconv.ParseFloat(score, 64); err == nil && f >= 0.5 && f < 5.5 {
			counts[int(f+0.5)] += n
		}
	}
	return counts
}

func (p *painter) scores(s scores) {
	if len(p.lines) == 0 {
		p.add("", "")
	}
	p.add("", s.String())
}

// String shows how many rows have which score, as in: scores 1   1: 12 ▂  2: 40 ▄ …
func (s scores) String() string {
	var most, all int64
	for _, n := range s.counts {
		most, all = max(most, n), all+n
	}
	text := fmt.Sprintf("scores %d ", s.iteration)
	for score := 1; score <= 5; score++ {
		height := 0
		if most > 0 && s.counts[score] > 0 {
			height = 1 + int(7*s.counts[score]/most)
		}
		text += fmt.Sprintf("  %d: %s %c", score, Count(s.counts[score]), []rune(" ▁▂▃▄▅▆▇█")[height])
	}
	if s.ended && all > 0 {
		text += fmt.Sprintf("   selected %s of %s", Count(s.selected), Count(all))
	}
	return text
}

// judge is how good the judge of one iteration is, in a line.
type judge struct {
	iteration int
	text      string
}

// judges returns a line for each iteration whose judge was tried out.
func judges(seen runs.Seen) (out []judge) {
	for t := 1; t <= seen.Iteration; t++ {
		if line := seen.JudgeLine(t); line != "" {
			out = append(out, judge{t, fmt.Sprintf("judge  %d   %s", t, line)})
		}
	}
	return out
}

// facts returns what was measured: of each iteration, and of an evaluation.
func facts(seen runs.Seen) (out []string) {
	for _, set := range seen.Sets {
		for _, line := range set.Lines() {
			out = append(out, fmt.Sprintf("round  %d   %s", set.Iteration, line))
		}
	}
	return append(out, seen.ResultLines()...)
}

func (p *painter) warnings(seen runs.Seen) {
	if len(seen.Warnings) > 0 {
		p.add("", "")
	}
	for _, w := range seen.Warnings {
		for _, part := range wrap("warning: "+Clean(w), p.width-1) {
			p.add(yellow, part)
		}
	}
}

func (p *painter) foot(seen runs.Seen) {
	var words []string
	for _, text := range append([]string{seen.Message, seen.Note}, seen.Holdups...) {
		for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
			if line != "" {
				words = append(words, line)
			}
		}
	}
	if len(words) > 0 {
		p.add("", "")
	}
	for _, line := range words {
		for _, part := range wrap(Clean(line), p.width-1) {
			p.add(phaseStyle(seen.Phase), part)
		}
	}
}

// wrap breaks a line at spaces.
func wrap(line string, width int) []string {
	var out []string
	for _, word := range strings.Fields(line) {
		if n := len(out); n > 0 && runewidth.StringWidth(out[n-1])+1+runewidth.StringWidth(word) <= width {
			out[n-1] += " " + word
			continue
		}
		out = append(out, word)
	}
	return out
}

// Count writes a number with commas, and large ones as 12.3k, 4.5M or 6.7G.
func Count(n int64) string {
	switch f := float64(n); {
	case n >= 1e10:
		return fmt.Sprintf("%.1fG", f/1e9)
	case n >= 1e7:
		return fmt.Sprintf("%.1fM", f/1e6)
	case n >= 999_950:
		return fmt.Sprintf("%.2fM", f/1e6)
	case n >= 1e5:
		return fmt.Sprintf("%.1fk", f/1e3)
	case n >= 1000:
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	default:
		return strconv.FormatInt(n, 10)
	}
}

func speed(perSecond float64) string {
	switch {
	case perSecond >= 9.95:
		return Count(int64(math.Round(perSecond))) + "/s"
	case perSecond >= 0.1:
		return fmt.Sprintf("%.1f/s", perSecond)
	default:
		return fmt.Sprintf("%.1f/min", perSecond*60)
	}
}

// Span writes a duration for people: 42s, 3m07s, 2h05m, 3d04h.
func Span(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 0:
		return "0s"
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
	}
}

// Bytes writes a size for people: 512 B, 3.4 MB.
func Bytes(n int64) string {
	f := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if f < 1000 {
			if unit == "B" {
				return fmt.Sprintf("%d B", n)
			}
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		f /= 1000
	}
	return fmt.Sprintf("%.1f TB", f)
}
