package report

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Options bound what Build reads and shows. The zero value is right for most runs.
type Options struct {
	// Scan is how many ratings of each iteration are read, from the first partitions, which are a fair sample
	// because ids are digests; default 100,000. Counts and histograms are exact whatever it is.
	Scan int64
	// PerScore is how many pairs are shown for each score; default 12.
	PerScore int
	// PerReason is how many rejected rows are shown for each reason; default 3.
	PerReason int
	// MaxText is how many characters of a text are kept; default 3,000.
	MaxText int
	// Instructions is how many instructions of a set are looked at for their verbs and for near-duplicates; default 3,000, which
	// takes about three seconds. Negative: none.
	Instructions int
	// Memo, where set, spares looking again at what was looked at before.
	Memo *Memo
}

func (o Options) withDefaults() Options {
	if o.Scan <= 0 {
		o.Scan = 100_000
	}
	if o.PerScore <= 0 {
		o.PerScore = 12
	}
	if o.PerReason <= 0 {
		o.PerReason = 3
	}
	if o.MaxText <= 0 {
		o.MaxText = 3000
	}
	if o.Instructions == 0 {
		o.Instructions = 3000
	}
	return o
}

// Build reads the manifests of the run's datasets, and a bounded sample of their rows, in bounded memory. What
// does not exist yet, since the run has not come that far, is left out.
func Build(ctx context.Context, st *blob.Store, in Input, opt Options) (Data, error) {
	b := builder{ctx: ctx, st: st, opt: opt.withDefaults(), d: Data{Format: 1, Input: in}}
	b.d.Spec, b.d.Message = clip(in.Spec, maxSpec), clip(in.Message, 2000)
	for _, step := range []struct {
		name string
		do   func() error
	}{{"datasets", b.datasets}, {"ratings", b.ratings}, {"rejected rows", b.rejections}, {"funnels", b.funnels}, {"instructions", b.variety}, {"evaluations", b.evidence}} {
		if err := step.do(); err != nil {
			return Data{}, fmt.Errorf("report of %s: %s: %w", in.Run, step.name, err)
		}
	}
	return b.d, nil
}

type builder struct {
	ctx context.Context //nolint:containedctx // lives as long as one Build
	st  *blob.Store
	opt Options
	d   Data
	// made are the datasets in the order in which they came to be.
	made []madeSet
}

type madeSet struct {
	name string
	ref  dataset.Ref
	m    dataset.Manifest
}

// Names of steps on the way from sources to training sets.
const (
	stepSeeds      = "Seed pairs"
	stepSegments   = "Segments"
	stepCandidates = "Instructions written"
)

// datasets reads the manifests and fills in everything that follows from them exactly.
func (b *builder) datasets() error {
	in := &b.d.Input
	type want struct {
		name, set string
		ref       dataset.Ref
		paper     *Paper
	}
	wants := []want{
		{stepSeeds, "Seed pairs D", in.Seeds, paperSeed},
		{stepSegments, "", in.Segments, nil},
		{stepCandidates, "All of A", in.Candidates, paperA},
	}
	for _, r := range in.Rounds {
		if !r.Ratings.IsZero() {
			wants = append(wants, want{fmt.Sprintf("Rated, iteration %d", r.Iteration), "", r.Ratings, nil})
		}
		if !r.Training.IsZero() {
			wants = append(wants, want{"Training set of " + modelOf(r.Iteration), "Training set of " + modelOf(r.Iteration), r.Training, nil})
		}
	}
	names := map[string]string{}
	for _, w := range wants {
		if w.ref.IsZero() {
			continue
		}
		m, _, err := dataset.Open(b.ctx, b.st, w.ref.Dir)
		if err != nil {
			return err
		}
		b.made = append(b.made, madeSet{w.name, w.ref, m})
		names[w.ref.Dir] = w.name
		b.d.Flow = append(b.d.Flow, Flow{Name: w.name, In: m.Input, Out: m.Rows, Rejected: m.Rejected, Contaminated: m.Contaminated})
		if w.set != "" {
			b.d.Sets = append(b.d.Sets, Set{
				Name: w.set, Rows: m.Rows, Paper: w.paper,
				Instruction: lengthOf(m.Lengths["instruction"]), Output: lengthOf(m.Lengths["output"]),
			})
		}
	}
	b.lineage(names)
	return nil
}

func (b *builder) lineage(names map[string]string) {
	model := func(name, detail string, ref dataset.ModelRef, parents ...string) {
		if ref.Name != "" {
			b.d.Lineage = append(b.d.Lineage, Lineage{Name: name, Kind: "model", Detail: detail, Digest: ref.Revision, Where: ref.Provider + "/" + ref.Name, Parents: parents})
		}
	}
	b.d.Lineage = append(b.d.Lineage, Lineage{Name: "Base model", Kind: "model", Detail: "every training starts here", Digest: "", Where: b.d.Base})
	for _, s := range b.made {
		l := Lineage{Name: s.name, Kind: "dataset", Rows: s.m.Rows, Digest: s.m.Digest, Where: b.st.URI(s.ref.Dir)}
		for _, p := range s.m.Parents {
			if name := names[p.Dir]; name != "" && name != s.name {
				l.Parents = append(l.Parents, name)
			}
		}
		var detail []string
		if s.m.Model != nil {
			detail = append(detail, "asked "+s.m.Model.Provider+"/"+s.m.Model.Name)
		}
		if s.m.Fingerprint != "" {
			detail = append(detail, "task "+short(s.m.Fingerprint))
		}
		l.Detail = strings.Join(detail, ", ")
		b.d.Lineage = append(b.d.Lineage, l)
		if s.name == stepSegments {
			model(modelBackward, "the backward model, which writes instructions", b.d.Backward, "Base model", stepSeeds)
		}
		for _, r := range b.d.Rounds {
			if r.Training.Dir == s.ref.Dir && !r.Training.IsZero() {
				model(modelOf(r.Iteration), fmt.Sprintf("the model of iteration %d", r.Iteration), r.Model, "Base model", s.name)
			}
		}
	}
}

// histogram turns a manifest's counts into bars.
func (b *builder) histogram(r Round, m dataset.Manifest) Histogram {
	h := Histogram{
		Iteration: r.Iteration, Judge: r.Judge, Rows: m.Rows, Rejected: m.Rejected,
		Selected: r.Selected, Threshold: b.threshold(r),
	}
	counts := map[float64]int64{1: 0, 2: 0, 3: 0, 4: 0, 5: 0}
	var sum float64
	for key, n := range m.Histogram {
		score, err := strconv.ParseFloat(key, 64)
		if err != nil || math.IsNaN(score) || score < 0 || score > 10 {
			continue
		}
		counts[score] += n
		sum += score * float64(n)
	}
	for _, score := range slices.Sorted(maps.Keys(counts)) {
		h.Bars = append(h.Bars, Bar{score, counts[score]})
	}
	if m.Rows > 0 {
		h.Mean = sum / float64(m.Rows)
	}
	return h
}

func (b *builder) threshold(r Round) float64 {
	if r.Threshold > 0 {
		return r.Threshold
	}
	return b.d.Threshold
}

// rejections counts reasons exactly and picks a few rows for each.
func (b *builder) rejections() error {
	for _, s := range b.made {
		if s.m.Rejected == 0 {
			continue
		}
		examples, err := b.rejected(s)
		if err != nil {
			return err
		}
		byCount := func(x, y string) int {
			if d := s.m.Reasons[y] - s.m.Reasons[x]; d != 0 {
				return int(max(min(d, 1), -1))
			}
			return strings.Compare(x, y)
		}
		for i, reason := range slices.SortedFunc(maps.Keys(s.m.Reasons), byCount) {
			if i == maxReasons {
				break
			}
			b.d.Rejections = append(b.d.Rejections, Rejection{
				Step: s.name, Reason: reason, Meaning: meanings[reason], Rows: s.m.Reasons[reason],
				Share: float64(s.m.Reasons[reason]) / float64(max(s.m.Input, 1)), Examples: examples[reason],
			})
		}
	}
	return nil
}

const (
	maxReasons = 30      // shown for one dataset, the commonest first
	maxSpec    = 100_000 // characters of the spec that are shown
)

// maxRejectsRead bounds how many rejected rows of a dataset are looked at for examples.
const maxRejectsRead = 20_000

func (b *builder) rejected(s madeSet) (map[string][]Example, error) {
	found := map[string][]Example{}
	missing, read := len(s.m.Reasons), 0
	for r, err := range dataset.RejectsOf(b.ctx, b.st, s.ref) {
		if err != nil {
			return nil, err
		}
		if read++; missing == 0 || read > maxRejectsRead {
			break
		}
		if _, counted := s.m.Reasons[r.Reason]; !counted || len(found[r.Reason]) >= b.opt.PerReason {
			continue
		}
		found[r.Reason] = append(found[r.Reason], exampleOf(r))
		if len(found[r.Reason]) == b.opt.PerReason {
			missing--
		}
	}
	return found, nil
}

func lengthOf(m dataset.Moments) Length { return Length{Mean: m.Mean(), Std: m.Std()} }

// clip keeps the first n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	i := 0
	for range n {
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
	return s[:i] + "…"
}

func place(source, document string, offset int64) string {
	parts := []string{}
	for _, p := range []string{sourceName(source), document} {
		if p != "" && (len(parts) == 0 || source != p) {
			parts = append(parts, clip(p, 200))
		}
	}
	if offset > 0 {
		parts = append(parts, fmt.Sprintf("at %d", offset))
	}
	return strings.Join(parts, " · ")
}

func short(digest string) string { return digest[:min(len(digest), 12)] }
