package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

func TestPutGetStat(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	for name, body := range map[string][]byte{
		"empty": {}, "a/b/small": []byte("hello"), "big": noise(3 << 20), "odd name/ü+=%&?#": []byte("x"),
	} {
		require.NoError(t, st.Put(ctx, name, body))
		got, err := st.Get(ctx, name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got), name)
		info, err := st.Stat(ctx, name)
		require.NoError(t, err)
		require.Equal(t, int64(len(body)), info.Size)
		require.Equal(t, name, info.Key)
		require.NotEmpty(t, info.ETag)
		require.False(t, info.Modified.IsZero())
	}
	require.NoError(t, st.Put(ctx, "big", []byte("replaced")))
	got, err := st.Get(ctx, "big")
	require.NoError(t, err)
	require.Equal(t, "replaced", string(got))
	require.Equal(t, "s3://"+st.Bucket()+"/a/b", st.URI("a/b"))
}

func TestAbsentObjects(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	_, err := st.Get(ctx, "no/such")
	require.ErrorIs(t, err, blob.ErrNotFound)
	require.ErrorContains(t, err, st.URI("no/such"))
	_, err = st.Stat(ctx, "no/such")
	require.ErrorIs(t, err, blob.ErrNotFound)
	_, err = st.Stream(ctx, "no/such")
	require.ErrorIs(t, err, blob.ErrNotFound)
	_, err = st.Reader(ctx, "no/such")
	require.ErrorIs(t, err, blob.ErrNotFound)
	require.NoError(t, st.Delete(ctx, "no/such"))
	require.NoError(t, st.Delete(ctx, "no/such", "nor/this"))
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/./b", strings.Repeat("k", 901)} {
		require.Error(t, st.Put(ctx, key, nil), "put %q", key)
		require.Error(t, st.PutIfAbsent(ctx, key, nil), "put if absent %q", key)
		_, err := st.Get(ctx, key)
		require.Error(t, err, "get %q", key)
		require.NotErrorIs(t, err, blob.ErrNotFound)
		require.Error(t, st.Delete(ctx, key), "delete %q", key)
	}
}

func TestPutIfAbsentHasOneWinner(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch err := st.PutIfAbsent(ctx, "lease/7", []byte("equal content")); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, blob.ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), won.Load())
	require.ErrorIs(t, st.PutIfAbsent(ctx, "lease/7", []byte("other")), blob.ErrExists)
	got, err := st.Get(ctx, "lease/7")
	require.NoError(t, err)
	require.Equal(t, "equal content", string(got))
}

func TestListPrefixesDelete(t *testing.T) {
	t.Parallel()
	cfg := s3test.Config(t)
	ctx := t.Context()
	root, err := blob.Open(ctx, cfg)
	require.NoError(t, err)
	cfg.Prefix = "/team/a/"
	st, err := blob.Open(ctx, cfg)
	require.NoError(t, err)
	keys := []string{"d/manifest.json", "d/part-00000.parquet", "d/part-00001.parquet", "d/rejected/part-00001.parquet", "e/x", "z"}
	for _, k := range keys {
		require.NoError(t, st.Put(ctx, k, []byte(k)))
	}
	require.Equal(t, keys, list(t, st, ""))
	require.Equal(t, keys[1:3], list(t, st, "d/part-"))
	require.Equal(t, keys[:4], list(t, st, "d/"))
	require.Equal(t, []string{"team/a/z"}, list(t, root, "team/a/z"))
	require.Empty(t, list(t, st, "nothing/"))
	names, err := st.Prefixes(ctx, "")
	require.NoError(t, err)
	require.Equal(t, []string{"d", "e"}, names)
	names, err = st.Prefixes(ctx, "d")
	require.NoError(t, err)
	require.Equal(t, []string{"d/rejected"}, names)
	stop := errors.New("enough")
	require.ErrorIs(t, st.List(ctx, "", func(blob.Info) error { return stop }), stop)
	require.NoError(t, st.Delete(ctx, keys...))
	require.Empty(t, list(t, root, ""))
}

func TestListManyPages(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	var wg sync.WaitGroup
	for g := range 11 {
		wg.Go(func() {
			for i := range 100 {
				if err := st.Put(ctx, "k/"+string(rune('a'+g))+"/"+string(rune('0'+i/10))+string(rune('0'+i%10)), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	keys := list(t, st, "k/")
	require.Len(t, keys, 1100)
	require.NoError(t, st.Delete(ctx, keys...))
	require.Empty(t, list(t, st, ""))
}

func TestStreamAndReader(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	for _, size := range []int{0, 1, 100, blob.DefaultTail, blob.DefaultTail + 1, 300_000} {
		body := noise(size)
		require.NoError(t, st.Put(ctx, "o", body))
		rc, err := st.Stream(ctx, "o")
		require.NoError(t, err)
		got, err := io.ReadAll(rc)
		require.NoError(t, err)
		require.NoError(t, rc.Close())
		require.True(t, bytes.Equal(body, got))

		r, err := st.Reader(ctx, "o")
		require.NoError(t, err)
		require.Equal(t, int64(size), r.Size())
		if size <= blob.DefaultTail { // it reads byte by byte, each a request beyond the tail
			require.NoError(t, iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), body))
		}
		for range 20 {
			off := rand.IntN(size + 1)
			p := make([]byte, rand.IntN(size+10))
			n, err := r.ReadAt(p, int64(off))
			require.True(t, bytes.Equal(body[off:min(off+len(p), size)], p[:n]))
			if off+len(p) > size || off == size {
				require.ErrorIs(t, err, io.EOF)
			} else {
				require.NoError(t, err)
			}
		}
	}
}

func TestReaderNoticesAnotherObject(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	require.NoError(t, st.Put(ctx, "o", noise(200_000)))
	r, err := st.Reader(ctx, "o")
	require.NoError(t, err)
	require.NoError(t, st.Put(ctx, "o", noise(200_000)))
	_, err = r.ReadAt(make([]byte, 10), 0)
	require.ErrorIs(t, err, blob.ErrChanged)
}

func TestPutFile(t *testing.T) {
	t.Parallel()
	st, ctx := s3test.Store(t), t.Context()
	for _, size := range []int{0, 10, 16 << 20, 16<<20 + 1, 40 << 20} {
		path := filepath.Join(t.TempDir(), "f")
		body := noise(size)
		require.NoError(t, os.WriteFile(path, body, 0o600))
		require.NoError(t, st.PutFile(ctx, "dir/f", path))
		got, err := st.Get(ctx, "dir/f")
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got), "size %d", size)
	}
	require.Error(t, st.PutFile(ctx, "dir/f", filepath.Join(t.TempDir(), "absent")))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	cfg := s3test.Config(t)
	ctx := t.Context()
	st, err := blob.Open(ctx, cfg)
	require.NoError(t, err)
	require.NoError(t, st.Check(ctx))
	require.Empty(t, list(t, st, ""), "the preflight leaves nothing behind")

	absent := cfg
	absent.Bucket = "no-such-bucket"
	st, err = blob.Open(ctx, absent)
	require.NoError(t, err)
	require.EqualError(t, st.Check(ctx), "reach bucket no-such-bucket: NotFound. Try: create the bucket (aws s3 mb s3://no-such-bucket) or correct its name")
	_, err = st.Prefixes(ctx, "")
	require.ErrorContains(t, err, "NoSuchBucket: ")
	require.NotContains(t, err.Error(), "RequestID", "the SDK's words stay out of messages")

	nobody := cfg
	nobody.Endpoint = "http://127.0.0.1:1"
	st, err = blob.Open(ctx, nobody)
	require.NoError(t, err)
	require.ErrorContains(t, st.Reach(ctx), ": dial tcp 127.0.0.1:1: connect: connection refused. Try: check that the endpoint is right and the store is running")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  blob.Config
		want string
	}{
		"no bucket":      {blob.Config{}, "no bucket"},
		"bad endpoint":   {blob.Config{Bucket: "b", Endpoint: "localhost:9000"}, "is not a URL"},
		"bad prefix":     {blob.Config{Bucket: "b", Prefix: "a/../b"}, "prefix"},
		"one key named":  {blob.Config{Bucket: "b", AccessKeyEnv: "PATH"}, "secret key"},
		"empty variable": {blob.Config{Bucket: "b", AccessKeyEnv: "SELFALIGN_NOT_SET", SecretKeyEnv: "PATH"}, "SELFALIGN_NOT_SET"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := blob.Open(context.Background(), c.cfg)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func list(t *testing.T, st *blob.Store, prefix string) []string {
	t.Helper()
	var keys []string
	require.NoError(t, st.List(t.Context(), prefix, func(i blob.Info) error {
		keys = append(keys, i.Key)
		return nil
	}))
	slices.Sort(keys)
	return keys
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
