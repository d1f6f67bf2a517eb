package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	receiptKey = "selfalign.receipt" // of the Parquet key-value metadata
	maxReceipt = 1 << 20             // bytes of JSON that are looked at
)

// ScoreBucket returns the histogram key of a score: the nearest half point, such as "4.5" or "5".
func ScoreBucket(score float64) string {
	return strconv.FormatFloat(math.Round(score*2)/2, 'f', -1, 64)
}

// Mean returns the mean, 0 of nothing.
func (m Moments) Mean() float64 {
	if m.N == 0 {
		return 0
	}
	return float64(m.Sum) / float64(m.N)
}

// Std returns the standard deviation of the values themselves (not of a sample), 0 of nothing.
func (m Moments) Std() float64 {
	if m.N == 0 {
		return 0
	}
	mean := m.Mean()
	return math.Sqrt(max(0, float64(m.SumSquares)/float64(m.N)-mean*mean))
}

// Add returns the moments of both sets of values together.
func (m Moments) Add(o Moments) Moments {
	return Moments{N: m.N + o.N, Sum: m.Sum + o.Sum, SumSquares: m.SumSquares + o.SumSquares}
}

func (m Moments) with(n int64) Moments { return m.Add(Moments{N: 1, Sum: n, SumSquares: n * n}) }

// tally counts what a receipt says about its kept rows.
type tally struct {
	cols      *columns
	lengths   map[string]Moments
	histogram map[string]int64
	unrated   bool // a score of 0 means that nobody rated the row
}

func newTally[T any]() *tally {
	var zero T
	_, example := any(zero).(Example)
	return &tally{cols: columnsOf[T](), unrated: example}
}

func (t *tally) add(v reflect.Value) {
	for _, name := range []string{"instruction", "output", "text"} {
		if i, ok := t.cols.byName[name]; ok {
			if t.lengths == nil {
				t.lengths = make(map[string]Moments, 2)
			}
			t.lengths[name] = t.lengths[name].with(int64(utf8.RuneCountInString(v.Field(i).String())))
		}
	}
	i, ok := t.cols.byName["score"]
	if !ok || t.cols.fields[i].kind != kindFloat {
		return
	}
	score := v.Field(i).Float()
	if t.unrated && score <= 0 {
		return
	}
	if t.histogram == nil {
		t.histogram = make(map[string]int64)
	}
	t.histogram[ScoreBucket(score)]++
}

// ReadReceipt returns the receipt of a committed partition, with one request. blob.ErrNotFound means that the
// partition is not committed.
func ReadReceipt(ctx context.Context, st *blob.Store, dir string, part int) (Receipt, error) {
	key := PartKey(dir, part)
	r, err := st.Reader(ctx, key)
	if err != nil {
		return Receipt{}, fmt.Errorf("read receipt: %w", err)
	}
	receipt, err := receiptOf(r, r.Size())
	if err != nil {
		return Receipt{}, fmt.Errorf("read receipt of %s: %w", st.URI(key), err)
	}
	if receipt.Partition != part {
		return Receipt{}, fmt.Errorf("read receipt of %s: it is that of partition %d", st.URI(key), receipt.Partition)
	}
	return receipt, nil
}

// receiptOf reads the receipt out of a Parquet file's footer.
func receiptOf(r io.ReaderAt, size int64) (receipt Receipt, err error) {
	defer recovered(&err)
	f, err := openFile(r, size)
	if err != nil {
		return Receipt{}, err
	}
	return receiptIn(f, size)
}

func receiptIn(f *parquet.File, size int64) (Receipt, error) {
	text, ok := f.Lookup(receiptKey)
	if !ok {
		return Receipt{}, errors.New("no receipt in the file's metadata: it was not written by selfalign")
	}
	if len(text) > maxReceipt {
		return Receipt{}, fmt.Errorf("receipt of %d bytes is too long", len(text))
	}
	var receipt Receipt
	if err := json.Unmarshal([]byte(text), &receipt); err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	if receipt.Rows != f.NumRows() {
		return Receipt{}, fmt.Errorf("receipt says %d rows, the file has %d", receipt.Rows, f.NumRows())
	}
	if err := balanced(receipt.Input, receipt.Rows, receipt.Rejected); err != nil {
		return Receipt{}, err
	}
	receipt.Bytes = size
	return receipt, nil
}

// balanced checks that no row was dropped silently.
func balanced(input, rows, rejected int64) error {
	if rows < 0 || rejected < 0 || input != rows+rejected {
		return fmt.Errorf("%d rows kept + %d rejected are not the %d that went in", rows, rejected, input)
	}
	return nil
}

func addCounts(a, b map[string]int64) map[string]int64 {
	if len(b) == 0 {
		return a
	}
	if a == nil {
		return maps.Clone(b)
	}
	for k, n := range b {
		a[k] += n
	}
	return a
}

func addMoments(a, b map[string]Moments) map[string]Moments {
	if len(b) == 0 {
		return a
	}
	if a == nil {
		return maps.Clone(b)
	}
	for k, m := range b {
		a[k] = a[k].Add(m)
	}
	return a
}
