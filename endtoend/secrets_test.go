package endtoend

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/selfalign/selfalign/internal/devstack"
)

// checkSecrets looks for the keys of this lab in everything that was written: every object of the bucket, the logs of all
// processes, Temporal's database, the model server's folder, and every history. Only the file of the keys may hold them.
func (l *lab) checkSecrets(id string) {
	t := l.t
	t.Helper()
	require.GreaterOrEqual(t, len(l.secrets), 3)
	files := 0
	require.NoError(t, filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // processes are at work
		}
		if err != nil || d.IsDir() || filepath.Base(path) == devstack.KeysFile {
			return err
		}
		body, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		files++
		l.clean(path, body)
		switch filepath.Ext(path) {
		case ".zst", ".spill":
			plain, err := unpack(body)
			require.NoError(t, err, path)
			l.clean(path, plain)
		case ".parquet":
			l.clean(path, cells(l, path, body))
		}
		return nil
	}))
	require.Greater(t, files, 50)
	for _, e := range l.executions(id) {
		body, err := proto.Marshal(e.history)
		require.NoError(t, err)
		l.clean("history of "+e.id, body)
	}
}

func (l *lab) clean(where string, body []byte) {
	for what, secret := range l.secrets {
		if bytes.Contains(body, []byte(secret)) {
			l.t.Errorf("the %s stands in %s", what, strings.TrimPrefix(where, l.dir))
		}
	}
}

func unpack(body []byte) ([]byte, error) {
	d, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.DecodeAll(body, nil)
}

// cells are the texts of a Parquet file, its metadata included.
func cells(l *lab, path string, body []byte) []byte {
	f, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
	require.NoError(l.t, err, path)
	var out bytes.Buffer
	for _, kv := range f.Metadata().KeyValueMetadata {
		out.WriteString(kv.Value)
	}
	rows := parquet.NewReader(f)
	defer rows.Close()
	for n := f.NumRows(); n > 0; n-- {
		row := make([]parquet.Row, 1)
		if _, err := rows.ReadRows(row); err != nil && row[0] == nil {
			require.NoError(l.t, err, path)
		}
		for _, v := range row[0] {
			out.WriteString(v.String())
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}
