package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/eval"
)

var update = flag.Bool("update", false, "write the golden files anew")

// commit writes rows and rejects as a dataset.
func commit[T dataset.Row](t *testing.T, st *blob.Store, dir string, bits int, m dataset.Manifest, rows []T, rejects []dataset.Reject) dataset.Ref {
	t.Helper()
	byPart, away := map[int][]T{}, map[int][]dataset.Reject{}
	for _, r := range rows {
		p := dataset.PartitionOf(r.RowID(), bits)
		byPart[p] = append(byPart[p], r)
	}
	for _, r := range rejects {
		p := dataset.PartitionOf(r.ID, bits)
		away[p] = append(away[p], r)
	}
	for p := range 1 << bits {
		receipt := dataset.Receipt{Partition: p, Input: int64(len(byPart[p]) + len(away[p]))}
		if m.Kind == dataset.KindCandidates {
			receipt.Contaminated = map[string]int64{"alpaca_eval": int64(p % 2), "gsm8k": 0}
		}
		if _, err := dataset.WritePartition(t.Context(), st, dir, bits, p, byPart[p], away[p], receipt); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := dataset.CommitRange(t.Context(), st, dir, 0, 1<<bits)
	if err != nil {
		t.Fatal(err)
	}
	m.Bits = bits
	ref, err := dataset.Commit(t.Context(), st, dir, m, []dataset.RangeSummary{sum})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

var topics = []string{
	"sharpening a kitchen knife", "growing tomatoes on a balcony", "reading a topographic map", "repairing a bicycle tube",
	"writing a unit test", "storing winter clothes", "brewing green tea", "planning a hiking trip",
}

func instructionOn(i int) string {
	return []string{
		"Explain %s to a beginner, step by step.", "What should I know before %s?", "Write a short guide to %s.", "Which mistakes are common when %s?",
	}[i%4]
}

func outputOn(i int) string {
	topic := topics[i%len(topics)]
	var b strings.Builder
	fmt.Fprintf(&b, "Guide %d: %s begins with a little preparation.\n\n", i, topic)
	for k := range 4 + i%9 {
		fmt.Fprintf(&b, "%d. Take the time that step %d of %s wants, and look twice before going on; most trouble comes from haste.\n", k+1, k+1, topic)
	}
	b.WriteString("\nWhat remains is practice: the tenth time goes by itself.")
	return b.String()
}

// scoreOf spreads scores as a judge would; the second judge is stricter.
func scoreOf(i, iteration int) float64 {
	s := 3 + 1.6*math.Sin(float64(i)*1.7) + 0.7*math.Cos(float64(i)*0.37)
	if iteration == 2 {
		s -= 0.35 + 0.4*math.Sin(float64(i)*2.9)
	}
	return min(max(math.Round(s*2)/2, 1), 5)
}

// example is a run of two iterations over n segments. spice is put into every text of the run.
func example(t *testing.T, st *blob.Store, n int, spice string) Input {
	t.Helper()
	at := func(minutes int) time.Time { return time.Date(2026, 11, 20, 9, minutes, 0, 0, time.UTC) }
	var seeds []dataset.Seed
	var train0 []dataset.Example
	for i := range n / 10 {
		s := dataset.Seed{
			Instruction: fmt.Sprintf(instructionOn(i)+spice, topics[i%len(topics)]), Output: fmt.Sprintf("Answer %d. ", i) + strings.Repeat("A clear sentence. ", 6+i%40) + spice,
			Source: "seeds.jsonl", Offset: int64(i),
		}
		s.ID = dataset.PairID(s.Instruction, s.Output)
		seeds = append(seeds, s)
		train0 = append(train0, dataset.Example{ID: s.ID, Origin: dataset.OriginSeed, Instruction: s.Instruction, Output: s.Output, Source: s.Source, Offset: s.Offset})
	}
	reject := func(stage, reason, text, source string, i int) dataset.Reject {
		r := dataset.Reject{Stage: stage, Reason: reason, Text: text + spice, Source: source, Offset: int64(i), Detail: spice}
		r.ID = dataset.SegmentID(fmt.Sprint(stage, reason, i))
		return r
	}
	var segments []dataset.Segment
	var candidates []dataset.Candidate
	ratings := [3][]dataset.Rating{}
	training := [3][]dataset.Example{train0, slices.Clone(train0), slices.Clone(train0)}
	away := map[string][]dataset.Reject{}
	for i := range n {
		text := outputOn(i) + spice
		seg := dataset.Segment{ID: dataset.SegmentID(text), Text: text, Header: "Guide", Source: "pages/" + fmt.Sprintf("%03d.html", i%90), Document: "Guide" + spice, Offset: int64(i % 7 * 400)}
		segments = append(segments, seg)
		if i%41 == 40 {
			r := reject("backtranslate", "no_instruction", "I am sorry, but I cannot tell.", seg.Source, i)
			r.ID = seg.ID
			away["candidates"] = append(away["candidates"], r)
			continue
		}
		c := dataset.Candidate{
			ID: seg.ID, Instruction: fmt.Sprintf(instructionOn(i)+spice, topics[i%len(topics)]), Output: text, Source: seg.Source, Document: seg.Document, Offset: seg.Offset,
			Generator: "5b1f0c2e9a7d4e33a1b2c3d4e5f60718", Prompt: "backtranslate@1-3fa2b1c4",
		}
		candidates = append(candidates, c)
		for it := 1; it <= 2; it++ {
			if i%53 == it {
				r := reject("rate", "no_score", "The answer reads well enough, and I would say it is fine.", seg.Source, i)
				r.ID, r.Instruction = seg.ID, c.Instruction
				away[fmt.Sprint("ratings", it)] = append(away[fmt.Sprint("ratings", it)], r)
				continue
			}
			score := scoreOf(i, it)
			rating := dataset.Rating{
				ID: c.ID, Instruction: c.Instruction, Output: c.Output, Score: score, Scores: []float64{score},
				Reason:    "The answer goes through the steps in order and stays with the question; " + []string{"it reads like a page of a blog.", "small room to be shorter.", "nothing is missing."}[i%3] + spice,
				Iteration: int32(it), Judge: fmt.Sprintf("%032x", 7700+it), JudgePrompt: "rate@1-9c0d1e2f", Generator: c.Generator, Prompt: c.Prompt,
				Source: c.Source, Document: c.Document, Offset: c.Offset,
			}
			ratings[it] = append(ratings[it], rating)
			if score >= 4.5 {
				training[it] = append(training[it], dataset.Example{ID: c.ID, Origin: dataset.OriginAugmented, Instruction: c.Instruction, Output: c.Output, Score: score, Source: c.Source})
			} else {
				r := reject("curate", "below_threshold", text, seg.Source, i)
				r.ID, r.Instruction, r.Detail = seg.ID, c.Instruction, fmt.Sprintf("score %g", score)
				away[fmt.Sprint("training", it)] = append(away[fmt.Sprint("training", it)], r)
			}
		}
	}
	for i := range n / 3 {
		reason := []string{"too_short", "navigation_header", "too_short", "repetitive", "duplicate", "empty_header", "too_short"}[i%7]
		away["segments"] = append(away["segments"], reject("ingest", reason, "Home · About · Contact · Subscribe to our free newsletter", fmt.Sprintf("pages/%03d.html", i%90), i))
	}
	away["seeds"] = append(away["seeds"], reject("ingest", "wrong_language", "Wie schärfe ich ein Messer?", "seeds.jsonl", 17))

	in := Input{
		Run: "humpback-small" + spice, Dir: "runs/d", Phase: "completed", Message: "", StartedAt: at(0), EndedAt: at(48), At: at(49), Iterations: 2, Threshold: 4.5, Base: "pocketlm-base" + spice,
		Backward: dataset.ModelRef{Provider: "pocket", Name: "ft:pocketlm-base:back" + spice, Revision: "5b1f0c2e9a7d4e33a1b2c3d4e5f60718"},
		Spec:     "name: humpback-small\niterations: 2\ncurate:\n  threshold: 4.5\n" + spice, SpecDigest: "77aa55cc11ee",
		Budget: Budget{USD: 25}, Warnings: []string{"iteration 1: 83 % of the ratings are 5" + spice}, Links: []Link{{"Temporal UI", "http://127.0.0.1:8233/"}, {"datasets" + spice, "s3://bucket/runs/humpback-small"}},
	}
	in.Seeds = commit(t, st, "runs/d/seeds", 2, dataset.Manifest{Kind: dataset.KindSeeds}, seeds, away["seeds"])
	in.Segments = commit(t, st, "runs/d/segments", 3, dataset.Manifest{Kind: dataset.KindSegments}, segments, away["segments"])
	in.Candidates = commit(t, st, "runs/d/candidates", 3, dataset.Manifest{Kind: dataset.KindCandidates, Parents: []dataset.Ref{in.Segments}, Model: &in.Backward, Fingerprint: "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}, candidates, away["candidates"])
	in.Rounds = append(in.Rounds, Round{
		Iteration: 0, Training: commit(t, st, "runs/d/training-0", 2, dataset.Manifest{Kind: dataset.KindTraining, Parents: []dataset.Ref{in.Seeds}}, training[0], nil),
		Model: dataset.ModelRef{Provider: "pocket", Name: "ft:pocketlm-base:m0", Revision: fmt.Sprintf("%032x", 7701)},
	})
	for it := 1; it <= 2; it++ {
		judge := in.Rounds[it-1].Model
		rated := commit(t, st, fmt.Sprintf("runs/d/ratings-%d", it), 3, dataset.Manifest{Kind: dataset.KindRatings, Parents: []dataset.Ref{in.Candidates}, Model: &judge, Fingerprint: "aa1e2d3c4b5a69788796a5b4c3d2e1f0", Iteration: it}, ratings[it], away[fmt.Sprint("ratings", it)])
		trained := commit(t, st, fmt.Sprintf("runs/d/training-%d", it), 3, dataset.Manifest{Kind: dataset.KindTraining, Parents: []dataset.Ref{in.Seeds, rated}, Iteration: it}, training[it], away[fmt.Sprint("training", it)])
		in.Rounds = append(in.Rounds, Round{
			Iteration: it, Ratings: rated, Training: trained, Selected: int64(len(training[it]) - len(train0)), Judge: judge,
			Model: dataset.ModelRef{Provider: "pocket", Name: fmt.Sprintf("ft:pocketlm-base:m%d", it), Revision: fmt.Sprintf("%032x", 7701+it)},
			Calibration: &eval.Calibration{
				Positives: 50, Negatives: 49, Rated: 97, ParseRate: 0.951, Threshold: 4.5, TruePositives: int64(20 * it), FalsePositives: 3,
				Precision: float64(20*it) / float64(20*it+3), Recall: 0.4 * float64(it), MeanPositive: 4.1, MeanNegative: 1.8 - 0.2*float64(it), AUC: 0.9, OnTraining: true,
			},
		})
	}
	usage := func(calls int64) dataset.Usage {
		return dataset.Usage{Calls: calls, PromptTokens: calls * 812, CompletionTokens: calls * 95, MicroUSD: calls * 310}
	}
	stage := func(name string, it int, unit string, done, rejected int64, u dataset.Usage, from, to int) {
		in.Stages = append(in.Stages, Stage{Name: name + spice, Iteration: it, State: "done", Unit: unit, Done: done, Rejected: rejected, Usage: u, StartedAt: at(from), EndedAt: at(to)})
		in.Spent = in.Spent.Add(u)
	}
	stage("ingest", 0, "documents", 90, in.Segments.Rejected, dataset.Usage{}, 0, 1)
	stage("train myx", 0, "steps", 300, 0, dataset.Usage{MicroUSD: 120_000}, 1, 6)
	stage("augment", 0, "rows", in.Candidates.Rows, in.Candidates.Rejected, usage(int64(n)), 6, 14)
	stage("train m0", 0, "steps", 300, 0, dataset.Usage{MicroUSD: 120_000}, 6, 11)
	for it := 1; it <= 2; it++ {
		stage("rate", it, "rows", in.Rounds[it].Ratings.Rows, in.Rounds[it].Ratings.Rejected, usage(int64(n)), 14*it, 14*it+9)
		stage("select", it, "rows", in.Rounds[it].Training.Rows, in.Rounds[it].Training.Rejected, dataset.Usage{}, 14*it+9, 14*it+10)
		stage(fmt.Sprintf("train m%d", it), it, "steps", 600, 0, dataset.Usage{MicroUSD: 120_000}, 14*it+10, 14*it+14)
	}
	in.InDoubt = usage(3)
	for i, name := range []string{"myx", "m0", "m1", "m2"} {
		in.Trainings = append(in.Trainings, Training{
			Model: name, Name: "ft:pocketlm-base:" + name, Examples: int64(40 + 80*i), Steps: 15 + 30*i, Loss: 2.1 - 0.2*float64(i), CostMicroUSD: 120_000, CostKnown: true,
			NotExpressed: []string{"dropout: the provider chooses", "weight_decay: the provider chooses" + spice},
		})
	}
	return in
}

func build(t *testing.T, n int, spice string, opt Options) Data {
	t.Helper()
	st := s3test.Store(t)
	in := example(t, st, n, spice)
	measured(t, st, &in, spice)
	d, err := Build(t.Context(), st, in, opt)
	if err != nil {
		t.Fatal(err)
	}
	// The bucket's name is drawn anew for each test.
	for i := range d.Lineage {
		d.Lineage[i].Where = strings.Replace(d.Lineage[i].Where, st.Bucket(), "bucket", 1)
	}
	return d
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join(startDir, "testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s is out of date (go test -update writes it; then look at it):\n%.4000s", path, diff)
	}
}

// TestGoldenJSON holds the names that programs rely on.
func TestGoldenJSON(t *testing.T) {
	t.Parallel()
	raw, err := json.MarshalIndent(build(t, 60, "", Options{PerScore: 1, PerReason: 1, MaxText: 60}), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", append(raw, '\n'))
}

func TestGolden(t *testing.T) {
	t.Parallel()
	d := build(t, 420, "", Options{})
	var html, text, markdown bytes.Buffer
	for _, f := range []struct {
		name  string
		write func() error
		got   *bytes.Buffer
	}{
		{"report.html", func() error { return HTML(&html, d) }, &html},
		{"report.txt", func() error { return Text(&text, d) }, &text},
		{"report.md", func() error { return Markdown(&markdown, d) }, &markdown},
	} {
		if err := f.write(); err != nil {
			t.Fatal(err)
		}
		golden(t, f.name, f.got.Bytes())
	}
	raw, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	var back Data
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Errorf("the report does not survive JSON:\n%s", diff)
	}
}
