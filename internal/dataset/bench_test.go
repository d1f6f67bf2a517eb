package dataset_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// bigSegments makes rows of about 2.6 KB that compress like prose rather than like noise.
func bigSegments(n int) []dataset.Segment {
	words := make([]string, 2000)
	for i := range words {
		words[i] = noiseText(3 + i%8)
	}
	rows := make([]dataset.Segment, n)
	for i := range rows {
		b := make([]byte, 0, 2700)
		for k := i; len(b) < 2550; k = (k*1103515245 + 12345) & 0x7fffffff {
			b = append(append(b, words[(k>>8)%len(words)]...), ' ')
		}
		rows[i] = segment(i)
		rows[i].Text = string(b)
		rows[i].ID = dataset.SegmentID(rows[i].Text)
	}
	return rows
}

func BenchmarkWritePartition(b *testing.B) {
	st := s3test.Store(b)
	rows := bigSegments(4096)
	n := 0
	for b.Loop() {
		_, err := dataset.WritePartition(b.Context(), st, fmt.Sprintf("d%d", n), 0, 0, rows, nil, dataset.Receipt{Input: 4096})
		require.NoError(b, err)
		n++
	}
	b.ReportMetric(float64(n*len(rows))/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkReadRows(b *testing.B) {
	st := s3test.Store(b)
	ref := write(b, st, "d", dataset.KindSegments, 1, bigSegments(8192), nil)
	n := 0
	for b.Loop() {
		for _, err := range dataset.Rows[dataset.Segment](b.Context(), st, ref) {
			require.NoError(b, err)
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkShuffle(b *testing.B) {
	st := s3test.Store(b)
	rows := bigSegments(16_384)
	n := 0
	for b.Loop() {
		shuffle(b, st, fmt.Sprintf("d%d", n), 2, 2, 16<<20, rows, nil)
		n++
	}
	b.ReportMetric(float64(n*len(rows))/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkCommitRange(b *testing.B) {
	st := s3test.Store(b)
	write(b, st, "d", dataset.KindSegments, 6, segments(640), nil)
	n := 0
	for b.Loop() {
		_, err := dataset.CommitRange(b.Context(), st, "d", 0, 64)
		require.NoError(b, err)
		n++
	}
	b.ReportMetric(float64(n*64)/b.Elapsed().Seconds(), "receipts/s")
}
