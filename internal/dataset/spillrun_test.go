package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// TestSpillsAreTheSameWhateverIsHeld has a task's rows sorted at once, in a few runs and in hundreds: what lies in S3 is the
// same, so that an attempt that had less memory overwrites nothing with something else.
func TestSpillsAreTheSameWhateverIsHeld(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	st := s3test.Store(t)
	var want SpillSummary
	for i, budget := range []int{1 << 20, 20_000, 500, 1} {
		s := NewSpiller[Segment](st, fmt.Sprintf("spills-%d", i), "task", budget)
		s.most = 40_000
		for n := range 700 {
			text := fmt.Sprintf("%d %s", n%500, strings.Repeat("word ", 20))
			require.NoError(t, s.Add(t.Context(), Segment{ID: SegmentID(text), Text: text, Source: "s", Document: fmt.Sprint(n)}))
			if n%7 == 0 {
				require.NoError(t, s.Reject(t.Context(), Reject{ID: SegmentID(fmt.Sprint(n)), Stage: "ingest", Reason: "too_short", Source: "s"}))
			}
			s.Hold(max(1, budget-n)) // it may change at any time
		}
		got, err := s.Close(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 700, got.Rows)
		require.EqualValues(t, 100, got.Rejected)
		for n := range got.Spills {
			got.Spills[n].Key = filepath.Base(got.Spills[n].Key)
		}
		if i == 0 {
			want = got
			require.Greater(t, len(want.Spills), 2)
		}
		require.Equal(t, want, got, "budget %d", budget)
	}
	var left []string
	for _, pattern := range []string{"selfalign-run-*", "selfalign-spill-*"} {
		found, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), pattern))
		require.NoError(t, err)
		left = append(left, found...)
	}
	require.Empty(t, left, "nothing stays on disk")
}
