package dataset_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// shuffle spills rows and rejects through n spillers and merges them into dir.
func shuffle(t require.TestingT, st *blob.Store, dir string, bits, n, budget int, rows []dataset.Segment, rejects []dataset.Reject) []dataset.Receipt {
	ctx := context.Background()
	var spills []dataset.SpillRef
	var total int64
	for i := range n {
		s := dataset.NewSpiller[dataset.Segment](st, dir+"-spills", fmt.Sprintf("map-%d", i), budget)
		for j := i; j < len(rows); j += n {
			require.NoError(t, s.Add(ctx, rows[j]))
		}
		for j := i; j < len(rejects); j += n {
			require.NoError(t, s.Reject(ctx, rejects[j]))
		}
		sum, err := s.Close(ctx)
		require.NoError(t, err)
		spills = append(spills, sum.Spills...)
		total += sum.PrefixCounts.Total()
	}
	require.Equal(t, int64(len(rows)+len(rejects)), total)
	rand.Shuffle(len(spills), func(i, j int) { spills[i], spills[j] = spills[j], spills[i] })
	receipts := make([]dataset.Receipt, 1<<bits)
	var input int64
	for p := range receipts {
		r, err := dataset.MergePartition[dataset.Segment](ctx, st, spills, dir, bits, p)
		require.NoError(t, err)
		receipts[p] = r
		input += r.Input
	}
	require.Equal(t, total, input, "what went into the spills came out of them")
	return receipts
}

func TestShuffleIsTheSameAsInMemory(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		texts := rapid.IntRange(1, 60).Draw(rt, "texts")
		n := rapid.IntRange(0, 120).Draw(rt, "rows")
		rows := make([]dataset.Segment, n)
		for i := range rows {
			rows[i] = segment(rapid.IntRange(0, texts).Draw(rt, "text"))
			rows[i].Document = fmt.Sprintf("doc-%d", rapid.IntRange(0, 5).Draw(rt, "document"))
			rows[i].Offset = int64(rapid.IntRange(-2, 3).Draw(rt, "offset"))
		}
		var rejects []dataset.Reject
		for i := range rapid.IntRange(0, 20).Draw(rt, "rejects") {
			rejects = append(rejects, dataset.Reject{Stage: "ingest", Reason: "too_short", Source: "s", Offset: int64(i)})
		}
		bits := rapid.IntRange(0, 3).Draw(rt, "bits")
		budget := rapid.IntRange(1, 20_000).Draw(rt, "budget")
		a := shuffle(rt, st, fmt.Sprintf("r%d/a", run), bits, rapid.IntRange(1, 4).Draw(rt, "maps"), budget, rows, rejects)
		b := shuffle(rt, st, fmt.Sprintf("r%d/b", run), bits, 1, 1<<20, rows, rejects)
		for p := range a {
			require.Equal(rt, b[p], a[p], "the result does not depend on how it was spilled")
		}
		want, duplicates := reference(rows)
		var got []dataset.Segment
		var turned []dataset.Reject
		for p := range a {
			part, err := dataset.ReadPartition[dataset.Segment](context.Background(), st, fmt.Sprintf("r%d/a", run), p)
			require.NoError(rt, err)
			got = append(got, part...)
			for r, err := range dataset.PartitionRejects(context.Background(), st, fmt.Sprintf("r%d/a", run), p) {
				require.NoError(rt, err)
				turned = append(turned, r)
			}
		}
		require.Equal(rt, want, got)
		require.Len(rt, turned, duplicates+len(rejects))
		var reasons int64
		for _, r := range a {
			reasons += r.Reasons[dataset.ReasonDuplicate]
		}
		require.Equal(rt, int64(duplicates), reasons)
	})
}

// reference keeps the first of equal rows by source, document and offset, sorted by id, in memory.
func reference(rows []dataset.Segment) (kept []dataset.Segment, duplicates int) {
	first := make(map[string]dataset.Segment)
	for _, r := range rows {
		have, ok := first[r.ID]
		if ok {
			duplicates++
		}
		if !ok || r.Document < have.Document || (r.Document == have.Document && r.Offset < have.Offset) {
			first[r.ID] = r
		}
	}
	for _, r := range first {
		kept = append(kept, r)
	}
	return sorted(kept), duplicates
}

func TestShuffleOfManyBlocks(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	rows := make([]dataset.Segment, 4000)
	for i := range rows {
		rows[i] = segment(i)
		rows[i].Text += noiseText(400)
		rows[i].ID = dataset.SegmentID(rows[i].Text)
	}
	rows = append(rows, rows[:500]...)
	receipts := shuffle(t, st, "many", 4, 3, 300_000, rows, nil)
	var kept, rejected int64
	for _, r := range receipts {
		kept += r.Rows
		rejected += r.Rejected
	}
	require.Equal(t, int64(4000), kept)
	require.Equal(t, int64(500), rejected)
	ref := commit(t, st, "many", dataset.KindSegments, 4, 5)
	require.Equal(t, sorted(rows[:4000]), collect(t, dataset.Rows[dataset.Segment](t.Context(), st, ref)))
}

func TestOverwrittenSpillIsNoticed(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	spill := func(rows []dataset.Segment) dataset.SpillSummary {
		s := dataset.NewSpiller[dataset.Segment](st, "spills", "map", 0)
		for _, r := range rows {
			require.NoError(t, s.Add(ctx, r))
		}
		sum, err := s.Close(ctx)
		require.NoError(t, err)
		return sum
	}
	first := spill(segments(10))
	require.Equal(t, first, spill(segments(10)), "a repeated map step writes the same")
	spill(segments(11))
	_, err := dataset.MergePartition[dataset.Segment](ctx, st, first.Spills, "d", 0, 0)
	require.ErrorContains(t, err, "run the map step again")
	_, err = dataset.MergePartition[dataset.Segment](ctx, st, []dataset.SpillRef{{Key: "spills/none"}}, "d", 0, 0)
	require.ErrorIs(t, err, blob.ErrNotFound)
}

func TestDamagedSpills(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	s := dataset.NewSpiller[dataset.Segment](st, "spills", "map", 0)
	for _, r := range segments(2000) {
		require.NoError(t, s.Add(ctx, r))
	}
	sum, err := s.Close(ctx)
	require.NoError(t, err)
	body, err := st.Get(ctx, sum.Spills[0].Key)
	require.NoError(t, err)
	for range 40 {
		bad := slices.Clone(body)
		bad[rand.IntN(len(bad))] ^= byte(1 + rand.IntN(255))
		if rand.IntN(4) == 0 {
			bad = bad[:rand.IntN(len(bad))]
		}
		require.NoError(t, st.Put(ctx, sum.Spills[0].Key, bad))
		_, err := dataset.MergePartition[dataset.Segment](ctx, st, sum.Spills, "d", 0, 0)
		require.Error(t, err)
	}
}

func TestSpillerRefuses(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	s := dataset.NewSpiller[dataset.Segment](st, "spills", "map", 0)
	require.ErrorContains(t, s.Add(ctx, dataset.Segment{ID: "ABC"}), "is no id")
	bad := segment(1)
	bad.Text = "\xff"
	require.ErrorContains(t, s.Add(ctx, bad), "not valid UTF-8")
	require.ErrorContains(t, s.Reject(ctx, dataset.Reject{Stage: "ingest"}), "no reason")
	sum, err := s.Close(ctx)
	require.NoError(t, err)
	require.Empty(t, sum.Spills)
}

func TestPrefixCountsTravel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var p dataset.PrefixCounts
		for range rapid.IntRange(0, 50).Draw(rt, "n") {
			p[rapid.IntRange(0, len(p)-1).Draw(rt, "i")] = rapid.Int64().Draw(rt, "count")
		}
		b, err := json.Marshal(p)
		require.NoError(rt, err)
		var back dataset.PrefixCounts
		require.NoError(rt, json.Unmarshal(b, &back))
		require.Equal(rt, p, back)
	})
	var full dataset.PrefixCounts
	for i := range full {
		full[i] = int64(100 + rand.IntN(60))
	}
	b, err := json.Marshal(full)
	require.NoError(t, err)
	require.Less(t, len(b), 8<<10)
	for _, text := range []string{`3`, `"!"`, `"AAAA"`, `""`} {
		require.Error(t, json.Unmarshal([]byte(text), &full))
	}
}

func noiseText(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rand.IntN(26))
	}
	return string(b)
}
