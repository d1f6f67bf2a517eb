package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// HTML writes the comparison as one page under the same rules as a report; it has no script.
func (c Comparison) HTML(w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	err := page.ExecuteTemplate(out, "compare", c)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("write comparison of %s and %s: %w", c.A, c.B, err)
	}
	return nil
}

// Text writes the comparison as tables for a terminal.
func (c Comparison) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", wrap(plain(compareLede(c), 400), 100))
	figures := table{texts: 1, head: []string{"", plain(c.A, 30), plain(c.B, 30)}}
	for _, f := range c.Figures {
		figures.add(plain(f.Name, 50), orDash(plain(f.A, 40)), orDash(plain(f.B, 40)))
	}
	b.WriteString("\n")
	figures.text(&b)
	b.WriteString("\nWhat was asked differently\n")
	spec := table{texts: 3, head: []string{"field", plain(c.A, 30), plain(c.B, 30)}}
	for _, s := range c.Spec {
		spec.add(plain(s.Path, 50), inForce(plain(s.A, 40), plain(s.SetA, 40)), inForce(plain(s.B, 40), plain(s.SetB, 40)))
	}
	if len(c.Spec) == 0 {
		b.WriteString("  nothing but the name\n")
	} else {
		spec.text(&b)
	}
	b.WriteString("\nSets, row by row\n")
	sets := table{texts: 1, head: []string{"set", "in both", "only " + plain(c.A, 20), "only " + plain(c.B, 20), "rewritten", "higher", "lower", "mean scores"}}
	for _, s := range c.Sets {
		if s.Equal {
			sets.add(s.Name+" (equal)", num(s.Both), "–", "–", "–", "–", "–", "–")
			continue
		}
		name, means := s.Name, "–"
		if s.Sampled {
			name += " (sample)"
		}
		if s.MeanA > 0 || s.MeanB > 0 {
			means = fmt.Sprintf("%.2f, %.2f", s.MeanA, s.MeanB)
		}
		sets.add(name, num(s.Both), dash(s.OnlyA), dash(s.OnlyB), dash(s.Rewritten), dash(s.Up), dash(s.Down), means)
	}
	sets.text(&b)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write comparison of %s and %s: %w", c.A, c.B, err)
	}
	return nil
}

// compareLede is the comparison in a sentence.
func compareLede(c Comparison) string {
	differ := 0
	for _, s := range c.Sets {
		if !s.Equal && (s.OnlyA+s.OnlyB+s.Rewritten+s.Up+s.Down > 0) {
			differ++
		}
	}
	text := fmt.Sprintf("%s and %s differ in ", c.A, c.B)
	if len(c.Spec) == 0 {
		text = fmt.Sprintf("%s and %s have the same spec, but for the name", c.A, c.B)
	} else {
		text += plural(int64(len(c.Spec)), "field", "fields") + " of the spec"
	}
	return fmt.Sprintf("%s, and in the rows of %d of %s.", text, differ, plural(int64(len(c.Sets)), "set", "sets"))
}

type exampleRows struct {
	Title string
	Rows  []RowOf2
}
