package neardup

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Run does one task of a step, unless its summary stands: its runs are written under names that follow from the task, and
// its summary last. Equal tasks write equal bytes, so two attempts may cross. beat is called with counts of things done.
func Run(ctx context.Context, st *blob.Store, j Job, s Step, task int, beat func(n int64)) error {
	fail := func(err error) error { return fmt.Errorf("near-duplicates: %s %d: %w", s, task, err) }
	if err := j.Validate(); err != nil {
		return err
	}
	if task < 0 || task >= j.Tasks(s) {
		return fail(fmt.Errorf("the step has %d tasks", j.Tasks(s)))
	}
	if _, err := st.Stat(ctx, j.summaryKey(s, task)); !errors.Is(err, blob.ErrNotFound) {
		if err != nil {
			return fail(err)
		}
		return nil
	}
	w := &worker{st: st, job: j, out: j.sorter(st, s, task), beat: beat}
	do := map[Step]func(context.Context, int) error{
		StepSign: w.sign, StepPair: w.pair, StepAttach: w.attach, StepCompare: w.compare, StepDecide: w.decide,
	}[s]
	if do == nil {
		return fail(errors.New("there is no such step"))
	}
	if err := do(ctx, task); err != nil {
		return fail(err)
	}
	runs, err := w.out.close(ctx)
	if err != nil {
		return fail(err)
	}
	for _, r := range runs {
		w.counts.Bytes += r.Bytes
	}
	body, err := json.Marshal(Runs{Sections: w.out.sections, Runs: runs, Counts: w.counts})
	if err != nil {
		return fail(err)
	}
	if err := st.Put(ctx, j.summaryKey(s, task), body); err != nil {
		return fail(err)
	}
	return nil
}

// worker is a task in work.
type worker struct {
	st     *blob.Store
	job    Job
	out    *sorter
	counts Counts
	beat   func(n int64)
}

// sign computes band keys.
func (w *worker) sign(ctx context.Context, group int) error {
	cut, hasher := newShingler(w.job.Rules.Shingle), newMinhasher(w.job.Rules)
	each := w.job.Input.Partitions() / w.job.Groups
	var keys []uint64
	for part := group * each; part < (group+1)*each; part++ {
		index := 0
		for row, err := range dataset.RowsOf[dataset.Segment](ctx, w.st, w.job.Input, w.job.Input.Bits, part) {
			if err != nil {
				return err
			}
			shingles := cut.each(row.Text) // a minimum asks for no order
			if len(shingles) == 0 {
				w.counts.Short++
			}
			keys = hasher.bandKeys(keys[:0], shingles)
			for _, key := range keys {
				if err := w.out.add(ctx, record{Key: key, Ref: rowNumber(part, index)}); err != nil {
					return err
				}
			}
			w.counts.Rows++
			index++
			w.beat(1)
		}
	}
	return nil
}

// pair finds rows with equal band keys. Each member of a bucket is paired with the maxLeaders smallest rows before it, so
// that boilerplate in millions of rows costs no more than its length.
func (w *worker) pair(ctx context.Context, bucket int) error {
	m, err := w.from(ctx, StepSign, bucket)
	if err != nil {
		return err
	}
	var key uint64
	leaders := make([]uint64, 0, maxLeaders)
	for {
		r, err := m.next()
		if r == nil || err != nil {
			return err
		}
		if r.Key != key {
			key, leaders = r.Key, leaders[:0]
		}
		for _, leader := range leaders {
			if err := w.out.add(ctx, record{Key: r.Ref, Ref: leader}); err != nil {
				return err
			}
		}
		w.counts.Candidates += int64(len(leaders))
		if len(leaders) < maxLeaders {
			leaders = append(leaders, r.Ref)
		} else {
			w.counts.Crowded++
		}
		w.beat(1)
	}
}

// attach sends shingles from the larger row of each pair to the smaller one.
func (w *worker) attach(ctx context.Context, group int) error {
	var data []byte
	return w.join(ctx, StepPair, group, func(row uint64, _ dataset.Segment, set []uint32, r *record) error {
		if data == nil {
			data = appendSet(make([]byte, 0, 4*len(set)), set)
		}
		return w.out.add(ctx, record{Key: r.Ref, Ref: row, Data: data})
	}, func() { data = nil })
}

// compare computes similarities.
func (w *worker) compare(ctx context.Context, group int) error {
	var other []uint32
	return w.join(ctx, StepAttach, group, func(row uint64, segment dataset.Segment, set []uint32, r *record) (err error) {
		if other, err = readSet(other[:0], r.Data); err != nil {
			return err
		}
		w.counts.Compared++
		j := w.job.Rules.alike(set, other)
		if j <= 0 {
			return nil
		}
		w.counts.Found++
		data, err := appendKept(segment.ID, j)
		if err != nil {
			return err
		}
		return w.out.add(ctx, record{Key: row, Ref: r.Ref, Data: data})
	}, func() {})
}

// decide goes through the near-duplicates in order of the smaller row. When it comes to a row all that could drop it have
// been seen: what is not marked is kept, and marks all that are like it. Memory: one bit a row, and the budget of the runs.
func (w *worker) decide(ctx context.Context, _ int) error {
	m, err := w.from(ctx, StepCompare, 0)
	if err != nil {
		return err
	}
	marked := make(marks, w.job.Input.Partitions())
	for {
		r, err := m.next()
		if r == nil || err != nil {
			return err
		}
		w.beat(1)
		if marked.has(r.Key) || marked.has(r.Ref) {
			continue
		}
		marked.set(r.Ref)
		w.counts.Dropped++
		if err := w.out.add(ctx, record{Key: r.Ref, Ref: r.Key, Data: r.Data}); err != nil {
			return err
		}
	}
}

// marks is one bit a row, by partition and place.
type marks [][]uint64

func (m marks) has(row uint64) bool {
	words, at := m[partitionOf(row)], row&(1<<indexBits-1)
	return at>>6 < uint64(len(words)) && words[at>>6]&(1<<(at&63)) != 0
}

func (m marks) set(row uint64) {
	at := row & (1<<indexBits - 1)
	words := &m[partitionOf(row)]
	for uint64(len(*words)) <= at>>6 {
		*words = append(*words, 0)
	}
	(*words)[at>>6] |= 1 << (at & 63)
}

func (w *worker) from(ctx context.Context, s Step, section int) (*merge, error) {
	runs, err := w.job.gathered(ctx, w.st, s)
	if err != nil {
		return nil, err
	}
	return openMerge(ctx, w.st, runs, section)
}

// join walks the records that a step left for a group together with the rows that they are about; rows without records are
// not cut into shingles, partitions without records are not read. done is called behind the last record of a row.
func (w *worker) join(ctx context.Context, s Step, group int, each func(row uint64, segment dataset.Segment, set []uint32, r *record) error, done func()) error {
	m, err := w.from(ctx, s, group)
	if err != nil {
		return err
	}
	r, err := m.next()
	if err != nil {
		return err
	}
	cut := newShingler(w.job.Rules.Shingle)
	for r != nil {
		part, index := partitionOf(r.Key), 0
		if part >= w.job.Input.Partitions() {
			return errDamaged
		}
		for segment, err := range dataset.RowsOf[dataset.Segment](ctx, w.st, w.job.Input, w.job.Input.Bits, part) {
			if err != nil {
				return err
			}
			row := rowNumber(part, index)
			index++
			w.beat(1)
			if r == nil || r.Key != row {
				continue
			}
			set := cut.set(segment.Text)
			for r != nil && r.Key == row {
				if err := each(row, segment, set, r); err != nil {
					return err
				}
				if r, err = m.next(); err != nil {
					return err
				}
				w.beat(1)
			}
			done()
		}
		if r != nil && partitionOf(r.Key) <= part {
			return fmt.Errorf("partition %05d has %d rows, a pair names another: %w", part, index, errDamaged)
		}
	}
	return nil
}

// appendKept encodes the id of the row kept and how alike the rows are.
func appendKept(id string, similarity float64) ([]byte, error) {
	out, err := hex.DecodeString(id)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(out, math.Float64bits(similarity)), nil
}

func readKept(data []byte) (id string, similarity float64, err error) {
	if len(data) < 8 {
		return "", 0, errDamaged
	}
	cut := len(data) - 8
	return hex.EncodeToString(data[:cut]), math.Float64frombits(binary.BigEndian.Uint64(data[cut:])), nil
}
