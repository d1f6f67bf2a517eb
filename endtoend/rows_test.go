package endtoend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// sets are the names of all datasets of a run that stand: the method's own, and what else came to be on the way.
func sets(t *testing.T, st *blob.Store) (out []string) {
	t.Helper()
	for _, key := range objects(t, st, setDir("")) {
		if name, ok := strings.CutSuffix(key, "/manifest.json"); ok {
			out = append(out, strings.TrimPrefix(name, setDir("")))
		}
	}
	for _, name := range []string{"00/seeds", "00/segments", "00/training", "00/candidates", "01/ratings", "01/training", "02/ratings", "02/training"} {
		require.Contains(t, out, name)
	}
	return out
}

func setDir(name string) string { return "runs/" + runName + "/" + name }

// digests are the digests of all rows, kept and rejected, of every dataset of a run.
func digests(t *testing.T, st *blob.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range sets(t, st) {
		m, ref, err := dataset.Open(t.Context(), st, setDir(name))
		require.NoError(t, err, name)
		turned := ""
		for p := range ref.Partitions() {
			receipt, err := dataset.ReadReceipt(t.Context(), st, ref.Dir, p)
			require.NoError(t, err, name)
			turned += receipt.RejectedDigest + " "
		}
		out[name] = fmt.Sprintf("%d bits, %d rows %s, %d rejected %s", m.Bits, m.Rows, m.Digest, m.Rejected, turned)
	}
	return out
}

// rowsOf reads all rows of a dataset.
func rowsOf[T dataset.Row](t *testing.T, st *blob.Store, name string) []T {
	t.Helper()
	_, ref, err := dataset.Open(t.Context(), st, setDir(name))
	require.NoError(t, err)
	var out []T
	for row, err := range dataset.Rows[T](t.Context(), st, ref) {
		require.NoError(t, err)
		out = append(out, row)
	}
	return out
}

// objects are the keys of all objects of the bucket that begin with a prefix.
func objects(t *testing.T, st *blob.Store, prefix string) []string {
	t.Helper()
	var out []string
	require.NoError(t, st.List(t.Context(), prefix, func(i blob.Info) error {
		out = append(out, i.Key)
		return nil
	}))
	return out
}

// leftovers are objects of a finished run that should be gone: the spills of the shuffle, and rejects that no receipt names.
func leftovers(t *testing.T, st *blob.Store) []string {
	t.Helper()
	named := map[string]bool{}
	for _, name := range sets(t, st) {
		_, ref, err := dataset.Open(t.Context(), st, setDir(name))
		require.NoError(t, err)
		for p := range ref.Partitions() {
			receipt, err := dataset.ReadReceipt(t.Context(), st, ref.Dir, p)
			require.NoError(t, err)
			if receipt.Rejected > 0 {
				named[dataset.RejectedKey(ref.Dir, p, receipt.RejectedDigest)] = true
			}
		}
	}
	var out []string
	for _, key := range objects(t, st, setDir("")) {
		if strings.Contains(key, "/_ingest/") || strings.Contains(key, "/rejected/") && !named[key] {
			out = append(out, key)
		}
	}
	return out
}
