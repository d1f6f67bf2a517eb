package report

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

// ratings reads the ratings of all iterations side by side, in order of id, and keeps sums and a few rows.
func (b *builder) ratings() error {
	var rated []Round
	for _, r := range b.d.Rounds {
		if r.Ratings.IsZero() {
			continue
		}
		i := slices.IndexFunc(b.made, func(s madeSet) bool { return s.ref.Dir == r.Ratings.Dir })
		b.d.Histograms = append(b.d.Histograms, b.histogram(r, b.made[i].m))
		rated = append(rated, r)
	}
	if len(rated) == 0 {
		return nil
	}
	s := newScan(b, rated)
	defer s.stop()
	if err := s.run(); err != nil {
		return err
	}
	s.report()
	return nil
}

// scan joins the ratings of all iterations by id.
type scan struct {
	b      *builder
	rounds []Round
	heads  []*head
	change []Change
	both   []int64 // selected in both iterations
	either []int64
	// lengths of the newest ratings with at least 4 and 4.5, and with the threshold
	four, five [2]dataset.Moments
	groups     [6][]Sample
	limit      string // ids from here on are not read
}

type head struct {
	next func() (dataset.Rating, error, bool)
	stop func()
	row  dataset.Rating
	ok   bool
	read int64
}

func newScan(b *builder, rounds []Round) *scan {
	s := &scan{b: b, rounds: rounds, both: make([]int64, len(rounds)), either: make([]int64, len(rounds))}
	var most int64
	for i, r := range rounds {
		next, stop := iter.Pull2(dataset.Rows[dataset.Rating](b.ctx, b.st, r.Ratings))
		s.heads = append(s.heads, &head{next: next, stop: stop})
		most = max(most, r.Ratings.Rows)
		if i > 0 {
			s.change = append(s.change, Change{From: rounds[i-1].Iteration, To: r.Iteration})
		}
	}
	// Ids are digests: a range of them is a sample of all rows, and the same range of every iteration.
	s.limit = sampleLimit(most, b.opt.Scan)
	b.d.Partial = s.limit != ""
	return s
}

// sampleLimit returns the id up to which about scan of so many rows lie; "" is all of them.
func sampleLimit(rows, scan int64) string {
	if rows <= scan {
		return ""
	}
	share := float64(scan) / float64(rows)
	return fmt.Sprintf("%08x", uint32(min(share*math.MaxUint32, math.MaxUint32)))
}

func (s *scan) stop() {
	for _, h := range s.heads {
		h.stop()
	}
}

func (h *head) advance(limit string) error {
	row, err, ok := h.next()
	if err != nil {
		return err
	}
	h.row, h.ok = row, ok && (limit == "" || row.ID < limit)
	if h.ok {
		h.read++
	}
	return nil
}

func (s *scan) run() error {
	for _, h := range s.heads {
		if err := h.advance(s.limit); err != nil {
			return err
		}
	}
	for {
		id, found := "", false
		for _, h := range s.heads {
			if h.ok && (!found || h.row.ID < id) {
				id, found = h.row.ID, true
			}
		}
		if !found {
			return nil
		}
		s.row(id)
		for _, h := range s.heads {
			if h.ok && h.row.ID == id {
				if err := h.advance(s.limit); err != nil {
					return err
				}
			}
		}
	}
}

// row takes in the ratings of one pair in all iterations.
func (s *scan) row(id string) {
	has := func(i int) bool { return s.heads[i].ok && s.heads[i].row.ID == id }
	kept := func(i int) bool { return has(i) && s.heads[i].row.Score >= s.b.threshold(s.rounds[i]) }
	for i := 1; i < len(s.heads); i++ {
		if kept(i-1) && kept(i) {
			s.both[i]++
		}
		if kept(i-1) || kept(i) {
			s.either[i]++
		}
		if !has(i-1) || !has(i) {
			continue
		}
		c, was, now := &s.change[i-1], s.heads[i-1].row.Score, s.heads[i].row.Score
		c.Rows++
		c.Matrix[whole(was)-1][whole(now)-1]++
		if now > was {
			c.Up++
		} else if now < was {
			c.Down++
		}
	}
	last := len(s.heads) - 1
	if !has(last) {
		return
	}
	r := &s.heads[last].row
	add := func(m *[2]dataset.Moments) {
		for i, text := range []string{r.Instruction, r.Output} {
			n := int64(utf8.RuneCountInString(text))
			m[i] = m[i].Add(dataset.Moments{N: 1, Sum: n, SumSquares: n * n})
		}
	}
	if r.Score >= 4 {
		add(&s.four)
	}
	if r.Score >= 4.5 {
		add(&s.five)
	}
	group := &s.groups[whole(r.Score)]
	if len(*group) >= s.b.opt.PerScore {
		return
	}
	most := s.b.opt.MaxText
	sample := Sample{
		ID: r.ID, Instruction: clip(r.Instruction, most), Output: clip(r.Output, most), Score: r.Score, Reason: clip(r.Reason, most),
		Source: place(r.Source, r.Document, r.Offset), Generator: r.Generator, Judge: r.Judge, JudgePrompt: r.JudgePrompt, Prompt: r.Prompt,
	}
	if len(r.Scores) > 1 {
		sample.Scores = slices.Clone(r.Scores[:min(len(r.Scores), 16)])
	}
	for i := range last {
		score := 0.0
		if has(i) {
			score = s.heads[i].row.Score
		}
		sample.Before = append(sample.Before, score)
	}
	*group = append(*group, sample)
}

// whole is the score rounded to one of five, halves up.
func whole(score float64) int { return int(min(max(math.Floor(score+0.5), 1), 5)) }

func (s *scan) report() {
	d := &s.b.d
	last := len(s.rounds) - 1
	d.Scanned = s.heads[last].read
	for i := range s.change {
		c := &s.change[i]
		c.Sampled = d.Partial
		if c.Jaccard = 1; s.either[i+1] > 0 {
			c.Jaccard = float64(s.both[i+1]) / float64(s.either[i+1])
		}
	}
	d.Changes = s.change
	h := d.Histograms[last]
	above := func(k float64) (n int64) {
		for _, bar := range h.Bars {
			if bar.Score >= k {
				n += bar.Rows
			}
		}
		return n
	}
	at := slices.IndexFunc(d.Sets, func(set Set) bool { return set.Name == "All of A" }) + 1
	t := s.rounds[last].Iteration
	sub := func(name string, k float64, m [2]dataset.Moments, paper *Paper) Set {
		set := Set{
			Name: fmt.Sprintf("%s, iteration %d", name, t), Note: fmt.Sprintf("score ≥ %g", k), Rows: m[0].N,
			Instruction: lengthOf(m[0]), Output: lengthOf(m[1]), Paper: paper, Sampled: d.Partial,
		}
		if d.Partial { // bars are half points wide, so this is exact for whole and half scores only
			set.Rows = above(k)
		}
		return set
	}
	d.Sets = slices.Insert(d.Sets, at, sub("A4", 4, s.four, paperA4), sub("A5", 4.5, s.five, paperA5))
	for score := 5; score >= 1; score-- {
		var n int64
		for _, bar := range h.Bars {
			if whole(bar.Score) == score {
				n += bar.Rows
			}
		}
		if n > 0 {
			d.Samples = append(d.Samples, ScoreGroup{Score: score, Rows: n, Pairs: s.groups[score]})
		}
	}
}
