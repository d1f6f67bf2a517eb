package dataset_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// segment makes the n-th segment of a test.
func segment(n int) dataset.Segment {
	text := fmt.Sprintf("Segment %d. Ein Satz über Bäume 🌳.", n)
	return dataset.Segment{
		ID: dataset.SegmentID(text), Text: text, Title: "T", Source: "test.jsonl", Document: fmt.Sprint(n), Offset: int64(n),
	}
}

func rating(n int, scores ...float64) dataset.Rating {
	s := segment(n)
	var sum float64
	for _, x := range scores {
		sum += x
	}
	return dataset.Rating{
		ID: s.ID, Instruction: "Write about trees.", Output: s.Text, Score: sum / float64(len(scores)), Reason: "clear",
		Scores: scores, Iteration: 1, Judge: "M0", Source: s.Source, Document: s.Document, Offset: s.Offset,
	}
}

func segments(n int) []dataset.Segment {
	out := make([]dataset.Segment, n)
	for i := range out {
		out[i] = segment(i)
	}
	return out
}

// byPart splits rows over 2^bits partitions.
func byPart[T dataset.Row](rows []T, bits int) [][]T {
	out := make([][]T, 1<<bits)
	for _, r := range rows {
		p := dataset.PartitionOf(r.RowID(), bits)
		out[p] = append(out[p], r)
	}
	return out
}

// write commits rows and rejects as a dataset of 2^bits partitions, ranges of three.
func write[T dataset.Row](t testing.TB, st *blob.Store, dir string, kind dataset.Kind, bits int, rows []T, rejects []dataset.Reject) dataset.Ref {
	t.Helper()
	ctx := context.Background()
	kept, turned := byPart(rows, bits), byPart(rejects, bits)
	for p := range kept {
		_, err := dataset.WritePartition(ctx, st, dir, bits, p, kept[p], turned[p],
			dataset.Receipt{Input: int64(len(kept[p]) + len(turned[p]))})
		require.NoError(t, err)
	}
	return commit(t, st, dir, kind, bits, 3)
}

func commit(t testing.TB, st *blob.Store, dir string, kind dataset.Kind, bits, size int) dataset.Ref {
	t.Helper()
	ctx := context.Background()
	var ranges []dataset.RangeSummary
	for from := 0; from < 1<<bits; from += size {
		s, err := dataset.CommitRange(ctx, st, dir, from, min(from+size, 1<<bits))
		require.NoError(t, err)
		ranges = append(ranges, s)
	}
	rand.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
	ref, err := dataset.Commit(ctx, st, dir, dataset.Manifest{Kind: kind, Bits: bits, Run: "test"}, ranges)
	require.NoError(t, err)
	return ref
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var out []T
	for row, err := range seq {
		require.NoError(t, err)
		out = append(out, row)
	}
	return out
}

func failure[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

func sorted[T dataset.Row](rows []T) []T {
	out := slices.Clone(rows)
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(a.RowID(), b.RowID()) })
	return out
}

func TestWriteCommitRead(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	rows := make([]dataset.Rating, 500)
	for i := range rows {
		rows[i] = rating(i, float64(i%5+1), float64(i%4+1))
	}
	var rejects []dataset.Reject
	for i := 500; i < 520; i++ {
		rejects = append(rejects, dataset.Reject{ID: segment(i).ID, Stage: "rate", Reason: "no_score", Text: "five"})
	}
	ref := write(t, st, "runs/a/ratings-1", dataset.KindRatings, 3, rows, rejects)
	require.Equal(t, int64(500), ref.Rows)
	require.Equal(t, int64(20), ref.Rejected)
	require.Equal(t, sorted(rows), collect(t, dataset.Rows[dataset.Rating](ctx, st, ref)))
	require.Len(t, collect(t, dataset.RejectsOf(ctx, st, ref)), 20)

	m, opened, err := dataset.Open(ctx, st, "runs/a/ratings-1")
	require.NoError(t, err)
	require.Equal(t, ref, opened)
	require.Equal(t, int64(520), m.Input)
	require.Equal(t, map[string]int64{"no_score": 20}, m.Reasons)
	require.Equal(t, "scores", m.Columns[5])
	var histogram int64
	for _, n := range m.Histogram {
		histogram += n
	}
	require.Equal(t, int64(500), histogram)
	require.Equal(t, int64(500), m.Lengths["output"].N)
	require.InDelta(t, 18, m.Lengths["instruction"].Mean(), 1e-9)
	require.InDelta(t, 0, m.Lengths["instruction"].Std(), 1e-9)
	require.Positive(t, m.Bytes)
	require.Len(t, collect(t, dataset.Receipts(ctx, st, ref)), 8)

	other := write(t, st, "runs/b/ratings-1", dataset.KindRatings, 3, sorted(rows), rejects)
	require.Equal(t, ref.Digest, other.Digest, "the digest is of the rows, not of their way")
	rows[7].Score = 1.25
	third := write(t, st, "runs/c/ratings-1", dataset.KindRatings, 3, rows, rejects)
	require.NotEqual(t, ref.Digest, third.Digest)
}

func TestEqualRowsGiveEqualObjects(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	rows := segments(3000)
	_, err := dataset.WritePartition(ctx, st, "a", 0, 0, rows, nil, dataset.Receipt{Input: 3000})
	require.NoError(t, err)
	slices.Reverse(rows)
	_, err = dataset.WritePartition(ctx, st, "b", 0, 0, rows, nil, dataset.Receipt{Input: 3000})
	require.NoError(t, err)
	a, err := st.Get(ctx, dataset.PartKey("a", 0))
	require.NoError(t, err)
	b, err := st.Get(ctx, dataset.PartKey("b", 0))
	require.NoError(t, err)
	require.True(t, string(a) == string(b))
}

func TestRowsOfAnyBits(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	rows := segments(3000)
	for _, own := range []int{0, 2, 4} {
		ref := write(t, st, fmt.Sprintf("d%d", own), dataset.KindSegments, own, rows, nil)
		for _, asked := range []int{0, 1, 2, 3, 6} {
			var all []dataset.Segment
			for p := range 1 << asked {
				got := collect(t, dataset.RowsOf[dataset.Segment](ctx, st, ref, asked, p))
				for _, r := range got {
					require.Equal(t, p, dataset.PartitionOf(r.ID, asked))
				}
				all = append(all, got...)
			}
			require.Equal(t, sorted(rows), all, "own %d bits, asked for %d", own, asked)
		}
	}
	require.Error(t, failure(dataset.RowsOf[dataset.Segment](ctx, st, dataset.Ref{Dir: "d0"}, 2, 4)))
}

func TestWritePartitionRefuses(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	s := segment(1)
	part := dataset.PartitionOf(s.ID, 4)
	broken := s
	broken.Title = "\xff\xfe"
	reject := dataset.Reject{ID: s.ID, Stage: "ingest", Reason: "too_short"}
	silent := reject
	silent.Reason = ""
	for name, c := range map[string]struct {
		part    int
		rows    []dataset.Segment
		rejects []dataset.Reject
		input   int64
		want    string
	}{
		"lost a row":        {part, []dataset.Segment{s}, nil, 2, "1 rows kept + 0 rejected are not the 2"},
		"made a row up":     {part, []dataset.Segment{s}, []dataset.Reject{reject}, 1, "are not the 1"},
		"twice":             {part, []dataset.Segment{s, s}, nil, 2, "occurs twice"},
		"wrong partition":   {part ^ 1, []dataset.Segment{s}, nil, 1, "does not belong here"},
		"wrong reject":      {part ^ 1, nil, []dataset.Reject{reject}, 1, "does not belong here"},
		"no id":             {part, []dataset.Segment{{Text: "x"}}, nil, 1, "does not belong here"},
		"not UTF-8":         {part, []dataset.Segment{broken}, nil, 1, "column title is not valid UTF-8"},
		"no reason":         {part, nil, []dataset.Reject{silent}, 1, "no reason"},
		"no such partition": {16, nil, nil, 0, "outside 0 to 15"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := dataset.WritePartition(ctx, st, "d/"+strings.ReplaceAll(name, " ", "-"), 4, c.part, c.rows, c.rejects, dataset.Receipt{Input: c.input})
			require.ErrorContains(t, err, c.want)
			_, err = dataset.ReadReceipt(ctx, st, "d/"+strings.ReplaceAll(name, " ", "-"), c.part)
			require.Error(t, err)
		})
	}
}

func TestRejectsMayHoldAnyBytes(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	id := segment(1).ID
	part := dataset.PartitionOf(id, 2)
	in := dataset.Reject{ID: id, Stage: "ingest", Reason: "bad_utf8", Text: "\xff" + strings.Repeat("ä", 5000)}
	_, err := dataset.WritePartition[dataset.Segment](ctx, st, "d", 2, part, nil, []dataset.Reject{in}, dataset.Receipt{Input: 1})
	require.NoError(t, err)
	got := collect(t, dataset.PartitionRejects(ctx, st, "d", part))
	require.Len(t, got, 1)
	require.Equal(t, "\uFFFD"+strings.Repeat("ä", 3999), got[0].Text)
}

func TestNoManifestNoDataset(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	_, err := dataset.WritePartition(ctx, st, "d", 0, 0, segments(3), nil, dataset.Receipt{Input: 3})
	require.NoError(t, err)
	_, _, err = dataset.Open(ctx, st, "d")
	require.ErrorIs(t, err, blob.ErrNotFound)
	_, err = dataset.ReadReceipt(ctx, st, "d", 1)
	require.ErrorIs(t, err, blob.ErrNotFound)
	_, err = dataset.CommitRange(ctx, st, "d", 0, 2)
	require.ErrorIs(t, err, blob.ErrNotFound)
}

func TestCommitRefuses(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	write(t, st, "d", dataset.KindSegments, 2, segments(40), nil)
	a, err := dataset.CommitRange(ctx, st, "d", 0, 3)
	require.NoError(t, err)
	b, err := dataset.CommitRange(ctx, st, "d", 3, 4)
	require.NoError(t, err)
	m := dataset.Manifest{Kind: dataset.KindSegments, Bits: 2}
	for name, c := range map[string]struct {
		ranges []dataset.RangeSummary
		input  int64
		want   string
	}{
		"gap at the end":   {[]dataset.RangeSummary{a}, 0, "ranges end at partition 3 of 4"},
		"gap at the start": {[]dataset.RangeSummary{b}, 0, "partition 00000 is missing"},
		"twice":            {[]dataset.RangeSummary{a, a, b}, 0, "missing or twice"},
		"rows got lost":    {[]dataset.RangeSummary{a, b}, 41, "40 rows went in, expected 41"},
	} {
		m := m
		m.Input = c.input
		_, err := dataset.Commit(ctx, st, "d", m, c.ranges)
		require.ErrorContains(t, err, c.want, name)
	}
	ref, err := dataset.Commit(ctx, st, "d", m, []dataset.RangeSummary{a, b})
	require.NoError(t, err, "the same again is fine")
	require.Equal(t, int64(40), ref.Rows)
	m.Kind = dataset.KindSeeds
	_, err = dataset.Commit(ctx, st, "d", m, []dataset.RangeSummary{a, b})
	require.ErrorContains(t, err, "another dataset stands there")
}
