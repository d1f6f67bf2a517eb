package dataset_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// dying returns two stores over one bucket: the first refuses puts of keys that contain word, as if the process
// had died before them.
func dying(t *testing.T, word string) (broken, whole *blob.Store) {
	t.Helper()
	cfg := s3test.Config(t)
	whole, err := blob.Open(t.Context(), cfg)
	require.NoError(t, err)
	target, err := url.Parse(cfg.Endpoint)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed; the server checks it as it was sent
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, word) {
			http.Error(w, "gone", http.StatusTeapot)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	cfg.Endpoint = srv.URL
	broken, err = blob.Open(t.Context(), cfg)
	require.NoError(t, err)
	return broken, whole
}

func TestDeathBetweenRejectedAndKept(t *testing.T) {
	t.Parallel()
	broken, st := dying(t, "/part-00000.parquet")
	ctx := t.Context()
	rows := segments(10)
	first := []dataset.Reject{
		{ID: segment(20).ID, Stage: "rate", Reason: "no_score"},
		{ID: segment(21).ID, Stage: "rate", Reason: "no_score"},
	}
	_, err := dataset.WritePartition(ctx, broken, "d", 0, 0, rows, first, dataset.Receipt{Input: 12})
	require.Error(t, err)
	_, err = dataset.ReadReceipt(ctx, st, "d", 0)
	require.ErrorIs(t, err, blob.ErrNotFound)

	// The next attempt got a readable answer for one of them.
	rows = append(rows, segment(20))
	want, err := dataset.WritePartition(ctx, st, "d", 0, 0, rows, first[1:], dataset.Receipt{Input: 12})
	require.NoError(t, err)
	ref := commit(t, st, "d", dataset.KindSegments, 0, 1)
	require.Equal(t, int64(11), ref.Rows)
	turned := collect(t, dataset.RejectsOf(ctx, st, ref))
	require.Len(t, turned, 1)
	require.Equal(t, segment(21).ID, turned[0].ID)
	again, err := dataset.ReadReceipt(ctx, st, "d", 0)
	require.NoError(t, err)
	require.Equal(t, want, again)
}

func TestDeathBeforeTheManifest(t *testing.T) {
	t.Parallel()
	broken, st := dying(t, "manifest.json")
	ctx := t.Context()
	rows := segments(30)
	for p, part := range byPart(rows, 1) {
		_, err := dataset.WritePartition(ctx, broken, "d", 1, p, part, nil, dataset.Receipt{Input: int64(len(part))})
		require.NoError(t, err)
	}
	r, err := dataset.CommitRange(ctx, broken, "d", 0, 2)
	require.NoError(t, err)
	_, err = dataset.Commit(ctx, broken, "d", dataset.Manifest{Kind: dataset.KindSegments, Bits: 1}, []dataset.RangeSummary{r})
	require.Error(t, err)
	_, _, err = dataset.Open(ctx, st, "d")
	require.ErrorIs(t, err, blob.ErrNotFound, "a dataset without a manifest does not exist")

	// A successor does all of it again and pays for nothing twice.
	for p, part := range byPart(rows, 1) {
		got, err := dataset.WritePartition(ctx, st, "d", 1, p, part[:1], nil, dataset.Receipt{Input: 1})
		require.NoError(t, err)
		require.Equal(t, int64(len(part)), got.Rows, "what stands is adopted")
	}
	ref := commit(t, st, "d", dataset.KindSegments, 1, 2)
	require.Equal(t, sorted(rows), collect(t, dataset.Rows[dataset.Segment](ctx, st, ref)))
}

func TestTwoWritersOfOnePartition(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	for range 10 {
		receipts := make([]dataset.Receipt, 4)
		dir := "d/" + strings.ToLower(noiseText(8))
		var wg sync.WaitGroup
		for w := range receipts {
			wg.Go(func() {
				// Every writer has other answers: row w was turned away by writer w.
				rows := segments(40)
				rejects := []dataset.Reject{{ID: rows[w].ID, Stage: "rate", Reason: "no_score", Detail: noiseText(5)}}
				rows = append(rows[:w], rows[w+1:]...)
				var err error
				receipts[w], err = dataset.WritePartition(context.Background(), st, dir, 0, 0, rows, rejects, dataset.Receipt{Input: 40})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, r := range receipts[1:] {
			require.Equal(t, receipts[0], r, "all return what stands")
		}
		rows, err := dataset.ReadPartition[dataset.Segment](ctx, st, dir, 0)
		require.NoError(t, err)
		turned := collect(t, dataset.PartitionRejects(ctx, st, dir, 0))
		require.Len(t, rows, 39)
		require.Len(t, turned, 1)
		require.NotContains(t, rows, turned[0].ID)
		var objects int
		require.NoError(t, st.List(ctx, dir+"/rejected/", func(blob.Info) error { objects++; return nil }))
		require.Equal(t, 1, objects, "losers clean up behind them")
	}
}

func TestDamagedPartitions(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	_, err := dataset.WritePartition(ctx, st, "d", 0, 0, segments(300), nil, dataset.Receipt{Input: 300})
	require.NoError(t, err)
	body, err := st.Get(ctx, dataset.PartKey("d", 0))
	require.NoError(t, err)
	want, err := dataset.ReadPartition[dataset.Segment](ctx, st, "d", 0)
	require.NoError(t, err)
	for i := range len(body) / 97 {
		bad := bytes.Clone(body)
		bad[i*97] ^= 0x41
		require.NoError(t, st.Put(ctx, dataset.PartKey("d", 0), bad))
		got, err := dataset.ReadPartition[dataset.Segment](ctx, st, "d", 0)
		if err == nil { // a byte that carries no rows, such as a statistic
			require.Equal(t, want, got)
		}
	}
	_, err = dataset.ReadPartition[dataset.Seed](ctx, st, "d", 0)
	require.Error(t, err)
}

func TestAnotherSchemaIsAnError(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	ref := write(t, st, "d", dataset.KindSegments, 0, segments(5), nil)
	require.ErrorContains(t, failure(dataset.Rows[dataset.Candidate](ctx, st, ref)), "column instruction is missing")
	require.ErrorContains(t, failure(dataset.RowsOf[dataset.Seed](ctx, st, ref, 3, 1)), "column instruction is missing")
}

func TestReadingStopsEarly(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	ref := write(t, st, "d", dataset.KindSegments, 2, segments(500), nil)
	for n := range 3 {
		for _, err := range dataset.Rows[dataset.Segment](ctx, st, ref) {
			require.NoError(t, err)
			if n--; n < 0 {
				break
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	require.True(t, errors.Is(failure(dataset.Rows[dataset.Segment](ctx, st, ref)), context.Canceled))
}
