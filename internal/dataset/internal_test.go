package dataset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	// These values are in people's buckets: a change here makes all their data unfindable.
	require.Equal(t, SegmentID("hello"), SegmentID("hello"))
	require.Len(t, SegmentID(""), idChars)
	require.NotEqual(t, SegmentID("a"), PromptID("a"))
	require.NotEqual(t, PairID("ab", "c"), PairID("a", "bc"))
	require.NotEqual(t, PairID("a", ""), SegmentID("a"))
	for _, id := range []string{SegmentID("x"), PairID("", ""), PromptID("ü"), RejectID(Reject{})} {
		require.True(t, ValidID(id), id)
	}
	for _, id := range []string{"", "ABCDEF", strings.Repeat("g", 32), strings.Repeat("A", 32), strings.Repeat("a", 33)} {
		require.False(t, ValidID(id), id)
		require.Equal(t, -1, PartitionOf(id, 3))
	}
	require.Equal(t, -1, PartitionOf(SegmentID(""), -1))
	require.Equal(t, -1, PartitionOf(SegmentID(""), MaxBits+1))
}

func TestPartitioning(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		id := SegmentID(rapid.String().Draw(rt, "text"))
		bits := rapid.IntRange(0, MaxBits).Draw(rt, "bits")
		part := PartitionOf(id, bits)
		require.NoError(rt, checkPart(bits, part))
		from, to := idRange(bits, part)
		require.True(rt, id >= from && (to == "" || id < to), "%s in [%s, %s)", id, from, to)
		require.Equal(rt, part == 1<<bits-1, to == "")
		if bits > 0 {
			require.Equal(rt, PartitionOf(id, bits-1), part/2, "a coarser partition holds two finer ones")
		}
	})
}

func TestBitsFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rows      int64
		size, min int
		want      int
	}{
		{0, 0, 0, 0},
		{1, 0, 0, 0},
		{4096, 0, 0, 0},
		{4097, 0, 0, 1},
		{8192, 0, 0, 1},
		{8193, 0, 0, 2},
		{10, 0, 3, 3},
		{502_133, 0, 0, 7},
		{50_213_300, 0, 0, 14},
		{100, 1, 0, 7},
		{1 << 62, 0, 0, MaxBits},
		{5, 0, 99, MaxBits},
		{5, 0, -4, 0},
	} {
		require.Equal(t, c.want, BitsFor(c.rows, c.size, c.min), "%+v", c)
	}
	rapid.Check(t, func(rt *rapid.T) {
		rows := rapid.Int64Range(0, 1<<40).Draw(rt, "rows")
		size := rapid.IntRange(1, 10_000).Draw(rt, "size")
		b := BitsFor(rows, size, 0)
		if b < MaxBits {
			require.LessOrEqual(rt, rows, int64(size)<<b)
		}
		if b > 0 {
			require.Greater(rt, rows, int64(size)<<(b-1), "the smallest that fits")
		}
	})
}

func TestScoreBuckets(t *testing.T) {
	t.Parallel()
	for score, want := range map[float64]string{5: "5", 4.5: "4.5", 4.26: "4.5", 4.2: "4", 4.75: "5", 1: "1"} {
		require.Equal(t, want, ScoreBucket(score))
	}
	counts := newTally[Example]()
	for _, e := range []Example{{Score: 0}, {Score: 4.5}, {Score: 5}} {
		counts.add(reflect.ValueOf(e))
	}
	require.Equal(t, map[string]int64{"4.5": 1, "5": 1}, counts.histogram, "seeds are not rated")
}

func TestMoments(t *testing.T) {
	t.Parallel()
	m := Moments{}.with(2).with(4).Add(Moments{}.with(4).with(4).with(5).with(5).with(7).with(9))
	require.InDelta(t, 5, m.Mean(), 1e-12)
	require.InDelta(t, 2, m.Std(), 1e-12)
	require.Zero(t, Moments{}.Mean()+Moments{}.Std())
}

func TestCanonicalFormRoundTrips(t *testing.T) {
	t.Parallel()
	cols := columnsOf[Rating]()
	rapid.Check(t, func(rt *rapid.T) {
		in := Rating{
			ID: rapid.String().Draw(rt, "id"), Output: rapid.String().Draw(rt, "output"), Score: rapid.Float64().Draw(rt, "score"),
			Iteration: rapid.Int32().Draw(rt, "iteration"), Offset: rapid.Int64().Draw(rt, "offset"),
			Scores: rapid.SliceOfN(rapid.Float64(), 0, 4).Draw(rt, "scores"), Source: rapid.String().Draw(rt, "source"),
		}
		if len(in.Scores) == 0 {
			in.Scores = nil
		}
		b := cols.append(nil, reflect.ValueOf(in))
		var out Rating
		rest, err := cols.parse(b, reflect.ValueOf(&out).Elem())
		require.NoError(rt, err)
		require.Empty(rt, rest)
		require.Equal(rt, in, out)
		o := originOf(cols, b)
		require.Equal(rt, in.Source, string(o.source))
		require.Equal(rt, in.Offset, o.offset)
		for n := range b {
			_, err := cols.parse(b[:n], reflect.ValueOf(&out).Elem())
			require.ErrorIs(rt, err, errShortRow)
			originOf(cols, b[:n]) // must not panic
		}
	})
}

func TestSchemaIsTheStandardOne(t *testing.T) {
	t.Parallel()
	schema := parquet.SchemaOf(Rating{}).String()
	require.Contains(t, schema, "required binary id (STRING)")
	require.Contains(t, strings.Join(strings.Fields(schema), " "), "required group scores (LIST) { repeated group list { required double element; } }")
}

func TestForeignColumns(t *testing.T) {
	t.Parallel()
	type more struct {
		ID    string `parquet:"id"`
		Text  string `parquet:"text"`
		Extra int64  `parquet:"extra"`
	}
	type base struct {
		ID   string `parquet:"id"`
		Text string `parquet:"text"`
	}
	type optional struct {
		ID   string  `parquet:"id"`
		Text *string `parquet:"text,optional"`
	}
	type bytesText struct {
		ID   string `parquet:"id"`
		Text []byte `parquet:"text"`
	}
	type item struct {
		ID   string   `parquet:"id"`
		Text []string `parquet:"text,list"`
	}
	require.NoError(t, schemaOf[base](t, []base{{}}))
	require.ErrorContains(t, schemaOf[base](t, []more{{}}), "column extra is unknown")
	require.ErrorContains(t, schemaOf[more](t, []base{{}}), "column extra is missing")
	require.ErrorContains(t, schemaOf[base](t, []optional{{}}), "column text is optional")
	require.ErrorContains(t, schemaOf[base](t, []bytesText{{}}), "column text is")
	require.ErrorContains(t, schemaOf[base](t, []item{{}}), "column text is a group")
	require.ErrorContains(t, schemaOf[item](t, []base{{}}), "expected a group")
}

func schemaOf[T, F any](t *testing.T, rows []F) error {
	t.Helper()
	var buf bytes.Buffer
	w := newParquetWriter[F](&buf)
	_, err := w.Write(rows)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	f, err := openFile(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	require.NoError(t, err)
	return sameColumns[T](f)
}

// encoded returns a small partition of ratings as bytes.
func encoded(t testing.TB, n int) []byte {
	t.Helper()
	rows := make([]Rating, n)
	for i := range rows {
		text := fmt.Sprint("text ", i)
		rows[i] = Rating{ID: SegmentID(text), Output: text, Score: 4, Scores: []float64{3, 5}}
	}
	receipt := Receipt{Input: int64(n)}
	body, err := encodePartition(0, 0, rows, &receipt)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// FuzzReadPartition feeds foreign bytes to everything that reads a partition. Nothing may panic, and what is
// read without an error has the rows that its receipt promises.
func FuzzReadPartition(f *testing.F) {
	body := encoded(f, 20)
	f.Add(body)
	f.Add(body[:len(body)/2])
	f.Add(append([]byte("PAR1"), body[len(body)-200:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		receipt, err := receiptOf(bytes.NewReader(b), int64(len(b)))
		if err == nil && receipt.Input != receipt.Rows+receipt.Rejected {
			t.Fatalf("unbalanced receipt %+v", receipt)
		}
		src := source{r: bytes.NewReader(b), size: int64(len(b)), uri: "fuzz"}
		var n int64
		var last error
		for _, bounds := range [][2]string{{"", ""}, {SegmentID("a"), ""}} {
			n = 0
			stream(src, bounds[0], bounds[1], func(f *parquet.File) (promise, error) {
				r, err := receiptIn(f, src.size)
				return promise{rows: r.Rows, digest: r.Digest}, err
			}, func(_ Rating, err error) bool {
				last = err
				if n++; n > 10_000 {
					return false
				}
				return err == nil
			})
			if bounds[0] == "" && last == nil && n != receipt.Rows && n <= 10_000 {
				t.Fatalf("read %d rows, the receipt says %d", n, receipt.Rows)
			}
		}
	})
}

// FuzzReceipt feeds foreign JSON to the receipt in an otherwise good file.
func FuzzReceipt(f *testing.F) {
	good, err := json.Marshal(Receipt{Input: 1, Rows: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add(`{"rows":1,"input":-1,"rejected":-2}`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, text string) {
		var buf bytes.Buffer
		w := newParquetWriter[Segment](&buf)
		if _, err := w.Write([]Segment{{ID: "x"}}); err != nil {
			t.Fatal(err)
		}
		w.SetKeyValueMetadata(receiptKey, text)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := receiptOf(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err == nil && (r.Rows != 1 || r.Input != r.Rows+r.Rejected || r.Rejected < 0) {
			t.Fatalf("accepted %+v from %q", r, text)
		}
	})
}

// FuzzSpill feeds foreign bytes to the reader of spills.
func FuzzSpill(f *testing.F) {
	var buf bytes.Buffer
	w := newSpillWriter(&buf)
	for i := range 5 {
		row := columnsOf[Segment]().append(nil, reflect.ValueOf(Segment{ID: fmt.Sprint(i)}))
		if err := w.add([idBytes]byte{byte(i)}, i == 3, row); err != nil {
			f.Fatal(err)
		}
	}
	digest, _, err := w.close()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes(), digest)
	f.Fuzz(func(t *testing.T, b []byte, digest string) {
		blocks, err := readIndex(bytes.NewReader(b), int64(len(b)), digest)
		if err != nil {
			return
		}
		dec := newDecoder()
		defer dec.Close()
		c := &cursor{r: bytes.NewReader(b), blocks: blocksFor(blocks, make([]byte, idBytes), nil), from: make([]byte, idBytes), runMax: runBytes}
		for {
			ok, err := c.next(dec)
			if !ok || err != nil {
				return
			}
			var s Segment
			_ = decodeRow(columnsOf[Segment](), c.rec.row, reflect.ValueOf(&s).Elem()) // must not panic
		}
	})
}

func TestFloatsKeepTheirBits(t *testing.T) {
	t.Parallel()
	cols := columnsOf[Example]()
	a := cols.append(nil, reflect.ValueOf(Example{Score: 0}))
	b := cols.append(nil, reflect.ValueOf(Example{Score: math.Copysign(0, -1)}))
	require.NotEqual(t, a, b)
}
