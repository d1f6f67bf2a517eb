package publish

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
)

const (
	rowsInShard  = 500_000
	bytesInShard = 256 << 20 // of texts
	rowsInGroup  = 10_000
	sampleRows   = 3
	sampleText   = 1000 // characters
)

// leafWriter writes the files of one leaf. They are made on disk first, since their names tell how many there are.
type leafWriter struct {
	st     *blob.Store
	dir    string
	leaf   Leaf
	jsonl  bool
	beat   func()
	shape  reflect.Type
	fields []int // of the row type, in the order of the columns
	names  []string
	splits map[string]*splitWriter
	want   int // rows of a sample
	sample []map[string]string
	files  []File
	made   []Split
}

type splitWriter struct {
	rows   int64
	shards []*fileWriter
	lines  *fileWriter
}

// fileWriter is one file in the making.
type fileWriter struct {
	f     *os.File
	buf   *bufio.Writer
	hash  hash.Hash
	size  int64
	table *parquet.GenericWriter[any]
	rows  int
	texts int
}

// Write counts and digests what goes into the file.
func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

func newFile() (*fileWriter, error) {
	f, err := os.CreateTemp("", "selfalign-export-")
	if err != nil {
		return nil, err
	}
	return &fileWriter{f: f, buf: bufio.NewWriterSize(f, 1<<20), hash: sha256.New()}, nil
}

func (w *fileWriter) close() error {
	if w.table != nil {
		if err := w.table.Close(); err != nil {
			return err
		}
		w.table = nil
	}
	return errors.Join(w.buf.Flush(), w.f.Close())
}

func (w *leafWriter) discard() {
	for _, s := range w.splits {
		for _, f := range append(slices.Clone(s.shards), s.lines) {
			if f != nil {
				_ = f.f.Close()
				_ = os.Remove(f.f.Name())
			}
		}
	}
}

func (w *leafWriter) run(ctx context.Context) error {
	var err error
	switch w.leaf.Dataset.Kind {
	case dataset.KindSeeds:
		err = writeLeaf[dataset.Seed](ctx, w)
	case dataset.KindCandidates:
		err = writeLeaf[dataset.Candidate](ctx, w)
	case dataset.KindRatings:
		err = writeLeaf[dataset.Rating](ctx, w)
	case dataset.KindTraining:
		err = writeLeaf[dataset.Example](ctx, w)
	case dataset.KindCurated:
		err = writeLeaf[dataset.Scored](ctx, w)
	case dataset.KindPreferences:
		err = writeLeaf[dataset.Preference](ctx, w)
	default:
		err = fmt.Errorf("rows of kind %q are not published", w.leaf.Dataset.Kind)
	}
	if err != nil {
		return err
	}
	return w.put(ctx)
}

func writeLeaf[T dataset.Row](ctx context.Context, w *leafWriter) error {
	if err := w.project(reflect.TypeFor[T]()); err != nil {
		return err
	}
	if _, err := w.split(SplitTrain); err != nil {
		return err
	}
	for row, err := range dataset.Rows[T](ctx, w.st, w.leaf.Dataset) {
		if err != nil {
			return err
		}
		if e, ok := any(row).(dataset.Example); ok && w.leaf.Origin != "" && e.Origin != w.leaf.Origin {
			continue
		}
		if err := w.add(row.RowID(), reflect.ValueOf(row)); err != nil {
			return err
		}
		w.beat()
	}
	return nil
}

// project finds the wanted columns in the row type and makes the type of the rows that are written.
func (w *leafWriter) project(row reflect.Type) error {
	have := map[string]int{}
	var all []string
	for i := range row.NumField() {
		name, _, _ := strings.Cut(row.Field(i).Tag.Get("parquet"), ",")
		have[name] = i
		all = append(all, name)
	}
	w.names = w.leaf.Columns
	if len(w.names) == 0 {
		w.names = all
	}
	fields := make([]reflect.StructField, len(w.names))
	for i, name := range w.names {
		at, ok := have[name]
		if !ok {
			return fmt.Errorf("no column %s; there are %s", name, strings.Join(all, ", "))
		}
		w.fields = append(w.fields, at)
		fields[i] = reflect.StructField{Name: row.Field(at).Name, Type: row.Field(at).Type, Tag: row.Field(at).Tag}
	}
	w.shape = reflect.StructOf(fields)
	return nil
}

func (w *leafWriter) split(name string) (*splitWriter, error) {
	s, ok := w.splits[name]
	if !ok {
		s = &splitWriter{}
		w.splits[name] = s
		if w.jsonl {
			var err error
			if s.lines, err = newFile(); err != nil {
				return nil, err
			}
		}
		return s, w.shard(s)
	}
	return s, nil
}

// shard begins another Parquet file.
func (w *leafWriter) shard(s *splitWriter) error {
	f, err := newFile()
	if err != nil {
		return err
	}
	f.table = parquet.NewGenericWriter[any](f, parquet.SchemaOf(reflect.New(w.shape).Elem().Interface()),
		parquet.Compression(&parquet.Zstd), parquet.PageBufferSize(1<<20), parquet.MaxRowsPerRowGroup(rowsInGroup),
		parquet.CreatedBy("selfalign", "1", "0"))
	s.shards = append(s.shards, f)
	return nil
}

func (w *leafWriter) add(id string, row reflect.Value) error {
	s, err := w.split(splitOf(id, w.leaf.Test))
	if err != nil {
		return err
	}
	f := s.shards[len(s.shards)-1]
	if f.rows >= rowsInShard || f.texts >= bytesInShard {
		if err := f.close(); err != nil {
			return err
		}
		if err := w.shard(s); err != nil {
			return err
		}
		f = s.shards[len(s.shards)-1]
	}
	out := reflect.New(w.shape).Elem()
	for i, at := range w.fields {
		out.Field(i).Set(row.Field(at))
		if row.Field(at).Kind() == reflect.String {
			f.texts += row.Field(at).Len()
		}
	}
	if _, err := f.table.Write([]any{out.Interface()}); err != nil {
		return err
	}
	f.rows++
	s.rows++
	if s.lines != nil {
		if err := w.line(s.lines, out); err != nil {
			return err
		}
	}
	if len(w.sample) < w.want {
		w.sample = append(w.sample, w.show(out))
	}
	return nil
}

// line writes a row as JSON, its fields in the order and under the names of the columns.
func (w *leafWriter) line(to io.Writer, row reflect.Value) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, name := range w.names {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", name)
		if err := enc.Encode(row.Field(i).Interface()); err != nil { // ends with a newline, which JSON allows
			return err
		}
	}
	_, err := io.WriteString(to, strings.ReplaceAll(b.String(), "\n", "")+"}\n")
	return err
}

func (w *leafWriter) show(row reflect.Value) map[string]string {
	out := map[string]string{}
	for i, name := range w.names {
		text := fmt.Sprint(row.Field(i).Interface())
		if r := []rune(text); len(r) > sampleText {
			text = string(r[:sampleText]) + " …"
		}
		out[name] = text
	}
	return out
}

// put sends the files to the bucket, under the names that the datasets library expects. That library refuses a config with a split that
// has no row, so there is none; the default config shows its columns even so.
func (w *leafWriter) put(ctx context.Context) error {
	var rows int64
	for _, s := range w.splits {
		rows += s.rows
	}
	for _, name := range []string{SplitTrain, SplitTest} {
		s, ok := w.splits[name]
		if !ok || s.rows == 0 && (rows > 0 || !w.leaf.Default || name != SplitTrain) {
			continue
		}
		w.made = append(w.made, Split{Config: w.leaf.Config, Default: w.leaf.Default, Name: name, Rows: s.rows})
		for i, f := range s.shards {
			if err := w.send(ctx, f, hub.ShardPath(w.leaf.Config, name, i, len(s.shards)), false); err != nil {
				return err
			}
		}
		if s.lines != nil {
			if err := w.send(ctx, s.lines, jsonlPath(w.leaf.Config, name), true); err != nil {
				return err
			}
		}
	}
	return nil
}

func jsonlPath(config, split string) string { return "jsonl/" + config + "-" + split + ".jsonl" }

func (w *leafWriter) send(ctx context.Context, f *fileWriter, path string, jsonl bool) error {
	if f.table != nil || jsonl {
		if err := f.close(); err != nil {
			return err
		}
	}
	file := File{Path: path, Key: w.dir + "/" + path, Size: f.size, SHA256: hex.EncodeToString(f.hash.Sum(nil)), JSONL: jsonl}
	if err := w.st.PutFile(ctx, file.Key, f.f.Name()); err != nil {
		return err
	}
	w.beat()
	w.files = append(w.files, file)
	return nil
}
