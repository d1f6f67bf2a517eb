package report

import "fmt"

// measuredTables are the tables of what evaluations and samples say; what was not run has none.
func measuredTables(d Data) (out []table) {
	if lines := iterations(d); len(lines) > 0 {
		t := table{title: "Iterations", texts: 1, head: []string{"iteration", "rated", "mean", "selected", "share", "overlap", "training set", "win rate"}}
		for _, l := range lines {
			t.add(num(int64(l.Iteration)), l.Rated, l.Mean, l.Selected, l.Share, l.Overlap, l.Training, l.WinRate)
		}
		out = append(out, t)
	}
	if len(d.Evidence.WinRates) > 0 {
		t := table{title: "Win rates", texts: 3, head: []string{"model", "against", "judge", "n", "win rate", "95 % interval", "wins/draws/losses", "at equal length"}}
		for _, r := range d.Evidence.WinRates {
			equal, judge := "–", plain(r.Judge, 24)
			if r.LengthControlled != nil {
				equal = rate(r.LengthControlled.Rate)
			}
			if r.SelfJudged {
				judge += " (itself)"
			}
			name := plain(r.Model, 24)
			if r.Iteration > 0 {
				name += fmt.Sprintf(" (%s %d)", plain(r.Name, 12), r.Iteration)
			}
			t.add(name, plain(r.Baseline, 24), judge, num(r.N), rate(r.Rate), fmt.Sprintf("%.1f–%.1f", 100*r.Low, 100*r.High), fmt.Sprintf("%d/%d/%d", r.Wins, r.Draws, r.Losses), equal)
		}
		out = append(out, t)
	}
	if len(d.Evidence.Scaling) > 0 {
		t := table{title: "Scaling: win rate = α ln N + C, in percentage points", texts: 1, head: []string{"data", "α measured", "95 % interval", "C", "R²", "α in the paper, 7B"}}
		for _, f := range fitted(d) {
			t.add(plain(f.Data, 40), f.Alpha, f.Interval, f.C, f.R2, f.Paper)
		}
		out = append(out, t)
	}
	if len(d.Evidence.Drift) > 0 {
		t := table{title: "What moved in and out of the curated set", texts: 1, head: []string{"iterations", "stayed", "came in", "went out", "Jaccard"}}
		for _, x := range d.Evidence.Drift {
			t.add(fmt.Sprintf("%d to %d", x.From, x.To), num(x.Kept), num(x.In), num(x.Out), fmt.Sprintf("%.2f", x.Jaccard))
		}
		out = append(out, t)
	}
	if len(d.Variety) > 0 {
		t := table{title: "How varied the instructions are", texts: 1, head: []string{"set", "looked at", "verb and object", "different pairs", "near-duplicates", "commonest"}}
		for _, v := range d.Variety {
			t.add(v.Set, num(v.Looked), percentOf(float64(v.Found)/float64(max(v.Looked, 1))), num(int64(v.Distinct)), percentOf(float64(v.NearDuplicates)/float64(max(v.Looked, 1))), commonest(v))
		}
		out = append(out, t)
	}
	return out
}

// commonest names the three commonest verbs, each with its commonest object.
func commonest(v Variety) (text string) {
	for i, verb := range v.Top[:min(len(v.Top), 3)] {
		if i > 0 {
			text += ", "
		}
		text += plain(verb.Verb, 20)
		if len(verb.Nouns) > 0 {
			text += " " + plain(verb.Nouns[0].Noun, 20)
		}
	}
	return text
}

// sourcesTable is what became of each source.
func sourcesTable(f Funnel) table {
	t := table{title: f.Set + " by source", texts: 1, head: []string{"source", "documents", "away whole", "pieces", "rejected", "kept", "characters"}}
	for _, s := range f.Sources {
		t.add(plain(sourceName(s.Source), 44), num(s.Documents), dash(sum(s.Whole)), num(s.Pieces), dash(sum(s.Rejected)), num(s.Segments), moments(s.Chars))
	}
	return t
}
