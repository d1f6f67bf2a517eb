package dataset

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	maxRejectText  = 4000    // characters of Reject.Text, Instruction and Detail that are kept
	maxRejectInMem = 8 << 20 // bytes of encoded rejects before they go to a temporary file
)

// WritePartition commits one partition of dir: rows, and rejects beside them. Both may come in any order; ids
// must lie in the partition, and a kept id must occur once. receipt brings what only the caller knows (Input,
// Usage, InDoubt, Reused); the rest is counted here. Kept + rejected = Input is enforced.
//
// It is idempotent: the rejects are written first, the rows, with the receipt in the file's metadata, last and only if
// absent. A partition that stands already stays as it is and its receipt is returned, whatever rows holds: of two
// attempts that finish both, the second adopts what stands.
func WritePartition[T Row](ctx context.Context, st *blob.Store, dir string, bits, part int, rows []T, rejects []Reject, receipt Receipt) (Receipt, error) {
	rejects = slices.Clone(rejects)
	for i := range rejects {
		rejects[i] = trimmed(rejects[i])
	}
	slices.SortFunc(rejects, compareRejects)
	return commitPartition(ctx, st, dir, bits, part, receipt, func(w *rejectWriter, _ *Receipt) ([]T, error) {
		for i := range rejects {
			if err := w.add(rejects[i]); err != nil {
				return nil, err
			}
		}
		return rows, nil
	})
}

// commitPartition is WritePartition with rejects that are written as fill finds them, in order of id.
func commitPartition[T Row](ctx context.Context, st *blob.Store, dir string, bits, part int, receipt Receipt, fill func(*rejectWriter, *Receipt) ([]T, error)) (_ Receipt, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write partition %05d of %s: %w", part, dir, err)
		}
	}()
	if err := checkPart(bits, part); err != nil {
		return Receipt{}, err
	}
	if standing, err := ReadReceipt(ctx, st, dir, part); !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	w := &rejectWriter{bits: bits, part: part, reasons: make(map[string]int64)}
	defer w.discard()
	rows, err := fill(w, &receipt)
	if err != nil {
		return Receipt{}, err
	}
	receipt.Partition = part
	receipt.Rejected, receipt.RejectedDigest, receipt.Reasons = w.rows, "", nil
	if w.rows > 0 {
		receipt.RejectedDigest, receipt.Reasons = w.digest.sum(), w.reasons
	}
	body, err := encodePartition(bits, part, rows, &receipt)
	if err != nil {
		return Receipt{}, err
	}
	rejectedKey := RejectedKey(dir, part, receipt.RejectedDigest)
	if w.rows > 0 {
		if err := w.put(ctx, st, rejectedKey); err != nil {
			return Receipt{}, err
		}
	}
	// A death here leaves rejects without a partition: nobody reads them, and the next attempt writes its own.
	err = st.PutIfAbsent(ctx, PartKey(dir, part), body)
	if errors.Is(err, blob.ErrExists) {
		return adopt(ctx, st, dir, part, receipt, rejectedKey)
	}
	if err != nil {
		return Receipt{}, err
	}
	receipt.Bytes = int64(len(body))
	return receipt, nil
}

// adopt takes over what another attempt committed and removes our rejects if that attempt wrote others.
func adopt(ctx context.Context, st *blob.Store, dir string, part int, ours Receipt, rejectedKey string) (Receipt, error) {
	standing, err := ReadReceipt(ctx, st, dir, part)
	if err != nil {
		return Receipt{}, err
	}
	if ours.Rejected > 0 && standing.RejectedDigest != ours.RejectedDigest {
		if err := st.Delete(ctx, rejectedKey); err != nil {
			return Receipt{}, err
		}
	}
	return standing, nil
}

// encodePartition sorts, checks and counts rows and returns them as Parquet with the receipt inside.
func encodePartition[T Row](bits, part int, rows []T, receipt *Receipt) ([]byte, error) {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b T) int { return strings.Compare(a.RowID(), b.RowID()) })
	cols, digest, counts := columnsOf[T](), newDigester[T](), newTally[T]()
	for i := range rows {
		id := rows[i].RowID()
		if p := PartitionOf(id, bits); p != part {
			return nil, fmt.Errorf("row %q does not belong here", id)
		}
		if i > 0 && rows[i-1].RowID() == id {
			return nil, fmt.Errorf("row %s occurs twice", id)
		}
		v := reflect.ValueOf(&rows[i]).Elem()
		if name := cols.invalid(v); name != "" {
			return nil, fmt.Errorf("row %s: column %s is not valid UTF-8", id, name)
		}
		digest.add(v)
		counts.add(v)
	}
	receipt.Rows = int64(len(rows))
	receipt.Digest, receipt.Lengths, receipt.Histogram = digest.sum(), counts.lengths, counts.histogram
	receipt.Bytes = 0 // the size of what it is part of: filled in on reading
	if err := balanced(receipt.Input, receipt.Rows, receipt.Rejected); err != nil {
		return nil, err
	}
	meta, err := json.Marshal(receipt)
	if err != nil {
		return nil, fmt.Errorf("encode receipt: %w", err)
	}
	var buf bytes.Buffer
	w := newParquetWriter[T](&buf)
	if _, err := w.Write(rows); err != nil {
		return nil, fmt.Errorf("encode rows: %w", err)
	}
	w.SetKeyValueMetadata(receiptKey, string(meta))
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode rows: %w", err)
	}
	return buf.Bytes(), nil
}

// compareRejects orders rejects by all that tells them apart, so that equal sets give equal objects.
func compareRejects(a, b Reject) int {
	return cmp.Or(
		strings.Compare(a.ID, b.ID), strings.Compare(a.Source, b.Source), strings.Compare(a.Document, b.Document),
		cmp.Compare(a.Offset, b.Offset), strings.Compare(a.Stage, b.Stage), strings.Compare(a.Reason, b.Reason),
		strings.Compare(a.Detail, b.Detail), strings.Compare(a.Instruction, b.Instruction), strings.Compare(a.Text, b.Text),
	)
}

// trimmed makes a reject fit to be written: it may hold the very bytes that were the reason to turn it away.
func trimmed(r Reject) Reject {
	for _, s := range []*string{&r.ID, &r.Stage, &r.Reason, &r.Detail, &r.Instruction, &r.Text, &r.Source, &r.Document} {
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
	for _, s := range []*string{&r.Detail, &r.Instruction, &r.Text} {
		*s = firstRunes(*s, maxRejectText)
	}
	if r.ID == "" {
		r.ID = RejectID(r)
	}
	return r
}

func firstRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// rejectWriter encodes rejects as they come and holds more than a few megabytes of them in a file.
type rejectWriter struct {
	bits, part int
	rows       int64
	reasons    map[string]int64
	digest     *digester
	mem        bytes.Buffer
	file       *os.File
	enc        interface {
		Write([]Reject) (int, error)
		Close() error
	}
}

// Write implements io.Writer for the encoder.
func (w *rejectWriter) Write(p []byte) (int, error) {
	if w.file == nil && w.mem.Len()+len(p) <= maxRejectInMem {
		return w.mem.Write(p)
	}
	if w.file == nil {
		f, err := os.CreateTemp("", "selfalign-rejected-")
		if err != nil {
			return 0, err
		}
		w.file = f
		if _, err := io.Copy(f, &w.mem); err != nil {
			return 0, err
		}
	}
	return w.file.Write(p)
}

func (w *rejectWriter) add(r Reject) error {
	if PartitionOf(r.ID, w.bits) != w.part {
		return fmt.Errorf("rejected row %q does not belong here", r.ID)
	}
	if r.Reason == "" {
		return fmt.Errorf("rejected row %s has no reason", r.ID)
	}
	if w.enc == nil {
		w.enc, w.digest = newParquetWriter[Reject](w), newDigester[Reject]()
	}
	w.digest.add(reflect.ValueOf(&r).Elem())
	w.reasons[r.Reason]++
	w.rows++
	if _, err := w.enc.Write([]Reject{r}); err != nil {
		return fmt.Errorf("encode rejected rows: %w", err)
	}
	return nil
}

// put writes the rejects to S3.
func (w *rejectWriter) put(ctx context.Context, st *blob.Store, key string) error {
	if err := w.enc.Close(); err != nil {
		return fmt.Errorf("encode rejected rows: %w", err)
	}
	if w.file == nil {
		return st.Put(ctx, key, w.mem.Bytes())
	}
	return st.PutFile(ctx, key, w.file.Name())
}

func (w *rejectWriter) discard() {
	if w.file != nil {
		w.file.Close()
		os.Remove(w.file.Name())
	}
}
