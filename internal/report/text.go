package report

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text writes the report as tables for a terminal, at most 100 columns wide. Foreign texts lose their control
// characters, so that no document of a run steers the terminal.
func Text(w io.Writer, d Data) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s · %s\n%s\n", plain(d.Run, 60), plain(d.Phase, 20), wrap(lede(d), 100))
	if d.Message != "" {
		fmt.Fprintf(&b, "%s\n", plain(d.Message, 400))
	}
	for _, t := range d.Teachers {
		fmt.Fprintf(&b, "Distilled: %s\n", plain(t, 80))
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "%s\n", wrap("Worth a look: "+plain(w, 400), 100))
	}
	for _, t := range tables(d) {
		b.WriteString("\n" + t.title + "\n")
		t.text(&b)
	}
	for _, h := range d.Histograms {
		fmt.Fprintf(&b, "\nScores, iteration %d (mean %.2f, %s selected of %s)\n", h.Iteration, h.Mean, num(h.Selected), num(h.Rows))
		for _, bar := range h.Bars {
			share := float64(bar.Rows) / float64(max(h.Rows, 1))
			mark := "░"
			if bar.Score >= h.Threshold {
				mark = "█"
			}
			fmt.Fprintf(&b, "  %3g  %-40s %s (%s)\n", bar.Score, strings.Repeat(mark, int(share*40+0.5)), num(bar.Rows), percentOf(share))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report of %s: %w", d.Run, err)
	}
	return nil
}

// Markdown writes the figures of the report as Markdown tables, for a dataset card or a pull request. Foreign texts
// are escaped; sample pairs stay out.
func Markdown(w io.Writer, d Data) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", markdown(plain(d.Run, 200)), lede(d))
	for _, c := range cards(d)[2:] {
		fmt.Fprintf(&b, "\n**%s** %s: %s.\n", c.Question, markdown(plain(c.Value, 60)), markdown(plain(strings.Join(c.Lines, ", "), 400)))
	}
	if len(d.Teachers) > 0 {
		b.WriteString("\n**Distilled.** A teacher other than the model itself took part:\n\n")
		for _, t := range d.Teachers {
			b.WriteString("- " + markdown(plain(t, 200)) + "\n")
		}
	}
	if len(d.Warnings) > 0 {
		b.WriteString("\n**Worth a look:**\n\n")
		for _, w := range d.Warnings {
			b.WriteString("- " + markdown(plain(w, 400)) + "\n")
		}
	}
	for _, t := range tables(d) {
		b.WriteString("\n## " + t.title + "\n\n")
		t.markdown(&b)
	}
	if len(d.Histograms) > 0 {
		b.WriteString("\n## Scores by iteration\n\n")
		scoresTable(d).markdown(&b)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report of %s: %w", d.Run, err)
	}
	return nil
}

// table is rows of cells; the first numbers columns are texts, the others numbers.
type table struct {
	title string
	texts int
	head  []string
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func tables(d Data) (out []table) {
	if len(d.Flow) > 0 {
		t := table{title: "What came in, what came out", texts: 1, head: []string{"step", "in", "kept", "rejected"}}
		for _, f := range d.Flow {
			t.add(f.Name, num(f.In), num(f.Out), num(f.Rejected))
		}
		out = append(out, t)
	}
	for _, f := range d.Funnels {
		out = append(out, sourcesTable(f))
	}
	if steps, sets := contamination(d); len(steps) > 0 {
		t := table{title: "Kept out for sharing text with an evaluation set", texts: 1, head: append([]string{"set"}, steps...)}
		for _, s := range sets {
			cells := []string{plain(s.Set, 44)}
			for _, n := range s.Found {
				cells = append(cells, looked(n))
			}
			t.add(cells...)
		}
		out = append(out, t)
	}
	if rounds := tried(d); len(rounds) > 0 {
		out = append(out, judgesTable(d, rounds))
	}
	out = append(out, measuredTables(d)...)
	if len(d.Sets) > 0 {
		t := table{title: "Sets and lengths in characters", texts: 1, head: []string{"set", "pairs", "instruction", "output", "paper: pairs", "instruction", "output"}}
		for _, s := range d.Sets {
			cells := []string{s.Name, num(s.Rows), length(s.Instruction, s.Rows), length(s.Output, s.Rows), "–", "–", "–"}
			if p := s.Paper; p != nil {
				cells = append(cells[:4], num(p.Rows), length(p.Instruction, p.Rows), length(p.Output, p.Rows))
			}
			t.add(cells...)
		}
		out = append(out, t)
	}
	if len(d.Rejections) > 0 {
		t := table{title: "Rejected, and why", texts: 2, head: []string{"step", "reason", "rows", "share"}}
		for _, r := range d.Rejections {
			t.add(r.Step, plain(words(r.Reason), 40), num(r.Rows), percentOf(r.Share))
		}
		out = append(out, t)
	}
	if len(d.Stages) > 0 {
		out = append(out, costTable(d))
	}
	return out
}

func judgesTable(d Data, rounds []Round) table {
	t := table{title: "How good the judge is", texts: 1, head: []string{"judge", "pairs", "precision", "recall", "AUC", "mean, seed", "shuffled", "read"}}
	if onTraining(rounds) {
		t.title += " (trained on these seeds, which flatters it)"
	}
	two := func(f float64) string { return fmt.Sprintf("%.2f", f) }
	for _, r := range rounds {
		c := r.Calibration
		t.add(fmt.Sprintf("iteration %d: %s", r.Iteration, plain(judgeName(d, r.Judge), 40)), num(c.Positives)+" + "+num(c.Negatives),
			two(c.Precision), two(c.Recall), two(c.AUC), two(c.MeanPositive), two(c.MeanNegative), percentOf(c.ParseRate))
	}
	for _, p := range selectionQuality {
		t.add("paper: "+p.Judge+", other pairs", "250", two(p.Precision), two(p.Recall), "–", "–", "–", "–")
	}
	return t
}

func scoresTable(d Data) table {
	t := table{texts: 2, head: []string{"iteration", "judge", "1", "2", "3", "4", "5", "mean", "selected"}}
	for _, h := range d.Histograms {
		var by [6]int64
		for _, b := range h.Bars {
			by[whole(b.Score)] += b.Rows
		}
		t.add(fmt.Sprint(h.Iteration), plain(judgeName(d, h.Judge), 60), num(by[1]), num(by[2]), num(by[3]), num(by[4]), num(by[5]), fmt.Sprintf("%.2f", h.Mean), num(h.Selected))
	}
	return t
}

func (t table) text(b *strings.Builder) {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string) {
		s := " "
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i < t.texts {
				s += " " + cell + pad + " "
			} else {
				s += " " + pad + cell + " "
			}
		}
		b.WriteString(strings.TrimRight(s, " ") + "\n")
	}
	line(t.head)
	rule := make([]string, len(width))
	for i, n := range width {
		rule[i] = strings.Repeat("─", n)
	}
	line(rule)
	for _, row := range t.rows {
		line(row)
	}
}

func (t table) markdown(b *strings.Builder) {
	line := func(cells []string) {
		out := make([]string, len(cells))
		for i, c := range cells {
			out[i] = markdown(c)
		}
		b.WriteString("| " + strings.Join(out, " | ") + " |\n")
	}
	line(t.head)
	for i := range t.head {
		if i < t.texts {
			b.WriteString("|---")
		} else {
			b.WriteString("|--:")
		}
	}
	b.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
}

// plain puts a foreign text on one line without control and formatting characters, n characters at most.
func plain(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsGraphic(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return clip(strings.Join(strings.Fields(s), " "), n)
}

var markdownEscapes = strings.NewReplacer(
	`\`, `\\`, "](", `\]\(`, "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "#", `\#`, "!", `\!`, "~", `\~`, "://", "&colon;//",
)

func markdown(s string) string { return markdownEscapes.Replace(s) }

func wrap(s string, width int) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		if column > 0 && column+1+n > width {
			b.WriteByte('\n')
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
