package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	manifestFormat = 1
	receiptsAtOnce = 16 // partitions whose receipts CommitRange reads at the same time
)

// rangeManifest is the object that a RangeSummary's Key names.
type rangeManifest struct {
	Format   int          `json:"format"`
	Summary  RangeSummary `json:"summary"`
	Receipts []Receipt    `json:"receipts"`
}

// CommitRange adds up the receipts of the partitions from ≤ p < to, which all must be committed, and writes them
// as one object. It is idempotent: partitions never change, so a second call writes the same.
func CommitRange(ctx context.Context, st *blob.Store, dir string, from, to int) (RangeSummary, error) {
	fail := func(err error) (RangeSummary, error) {
		return RangeSummary{}, fmt.Errorf("commit range %d–%d of %s: %w", from, to, dir, err)
	}
	if from < 0 || to <= from || to > 1<<MaxBits {
		return fail(errors.New("it is empty"))
	}
	receipts := make([]Receipt, to-from)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(receiptsAtOnce)
	for i := range receipts {
		g.Go(func() (err error) {
			receipts[i], err = ReadReceipt(gctx, st, dir, from+i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fail(err)
	}
	summary, err := summarize(from, to, receipts)
	if err != nil {
		return fail(err)
	}
	summary.Key = rangeKey(dir, from, to)
	body, err := json.Marshal(rangeManifest{Format: manifestFormat, Summary: summary, Receipts: receipts})
	if err != nil {
		return fail(err)
	}
	if err := st.PutIfAbsent(ctx, summary.Key, body); err == nil {
		return summary, nil
	} else if !errors.Is(err, blob.ErrExists) {
		return fail(err)
	}
	standing, err := readRange(ctx, st, summary.Key)
	if err != nil {
		return fail(err)
	}
	if standing.Summary.Digest != summary.Digest {
		return fail(fmt.Errorf("%s says otherwise: digest %s, the partitions give %s", summary.Key, standing.Summary.Digest, summary.Digest))
	}
	return standing.Summary, nil
}

func summarize(from, to int, receipts []Receipt) (RangeSummary, error) {
	s := RangeSummary{From: from, To: to, Digest: digestOf("range", receipts)}
	for _, r := range receipts {
		if err := balanced(r.Input, r.Rows, r.Rejected); err != nil {
			return s, fmt.Errorf("partition %05d: %w", r.Partition, err)
		}
		s.Input += r.Input
		s.Rows += r.Rows
		s.Rejected += r.Rejected
		s.Bytes += r.Bytes
		s.Reused += r.Reused
		s.Usage = s.Usage.Add(r.Usage)
		s.InDoubt = s.InDoubt.Add(r.InDoubt)
		s.Answers = s.Answers.Add(r.Answers)
		s.Reasons = addCounts(s.Reasons, r.Reasons)
		s.Contaminated = addCounts(s.Contaminated, r.Contaminated)
		s.Histogram = addCounts(s.Histogram, r.Histogram)
		s.Lengths = addMoments(s.Lengths, r.Lengths)
	}
	return s, nil
}

// digestOf folds the digests of consecutive partitions. Rejected rows do not enter: they are not the dataset.
func digestOf(domain string, receipts []Receipt) string {
	h := sha256.New()
	hashString(h, "selfalign/"+domain+"/1")
	var n [8]byte
	for _, r := range receipts {
		binary.BigEndian.PutUint64(n[:], uint64(r.Rows))
		h.Write(n[:])
		hashString(h, r.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func readRange(ctx context.Context, st *blob.Store, key string) (rangeManifest, error) {
	body, err := st.Get(ctx, key)
	if err != nil {
		return rangeManifest{}, err
	}
	var m rangeManifest
	if err := json.Unmarshal(body, &m); err != nil {
		return rangeManifest{}, fmt.Errorf("read %s: %w", st.URI(key), err)
	}
	if m.Format != manifestFormat {
		return rangeManifest{}, fmt.Errorf("read %s: format %d, this program knows %d", st.URI(key), m.Format, manifestFormat)
	}
	if len(m.Receipts) != m.Summary.To-m.Summary.From || digestOf("range", m.Receipts) != m.Summary.Digest {
		return rangeManifest{}, fmt.Errorf("read %s: receipts do not match their summary", st.URI(key))
	}
	return m, nil
}

// Commit makes the dataset exist: it checks that ranges, in any order, cover all 2^m.Bits partitions once, adds
// them up and writes the manifest, if none stands. m brings kind, bits and lineage; counts and digest are
// filled in here, and columns where m.Kind is one of ours; an Input above 0 is what the partitions' must add up
// to (the rows of the parents, or of the spills), so that no row is lost between datasets. A standing manifest with the same digest is adopted, another one is an error.
//
// The digest follows from the partitions' digests, in order. It does not depend on how partitions were cut into
// ranges, but it does on Bits: the same rows under other bits may have another digest.
func Commit(ctx context.Context, st *blob.Store, dir string, m Manifest, ranges []RangeSummary) (Ref, error) {
	fail := func(err error) (Ref, error) { return Ref{}, fmt.Errorf("commit %s: %w", dir, err) }
	m, err := complete(ctx, st, m, ranges)
	if err != nil {
		return fail(err)
	}
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fail(err)
	}
	if err := st.PutIfAbsent(ctx, manifestKey(dir), append(body, '\n')); err == nil {
		return refOf(dir, m), nil
	} else if !errors.Is(err, blob.ErrExists) {
		return fail(err)
	}
	standing, ref, err := Open(ctx, st, dir)
	if err != nil {
		return fail(err)
	}
	if standing.Digest != m.Digest || standing.Kind != m.Kind || standing.Bits != m.Bits {
		return fail(fmt.Errorf("another dataset stands there (%s, %d bits, digest %s; this one: %s, %d bits, digest %s)",
			standing.Kind, standing.Bits, standing.Digest, m.Kind, m.Bits, m.Digest))
	}
	return ref, nil
}

func complete(ctx context.Context, st *blob.Store, m Manifest, ranges []RangeSummary) (Manifest, error) {
	if err := checkPart(m.Bits, 0); err != nil {
		return m, err
	}
	m.Format = manifestFormat
	expected := m.Input
	m.Input, m.Rows, m.Rejected, m.Bytes = 0, 0, 0, 0
	m.Reasons, m.Histogram, m.Lengths, m.Answers, m.Contaminated = nil, nil, nil, Answers{}, nil
	m.Ranges = slices.Clone(ranges)
	slices.SortFunc(m.Ranges, func(a, b RangeSummary) int { return a.From - b.From })
	if len(m.Columns) == 0 {
		m.Columns = ColumnsOf(m.Kind)
	}
	var receipts []Receipt
	next := 0
	for _, r := range m.Ranges {
		if r.From != next {
			return m, fmt.Errorf("partition %05d is missing or twice in the ranges", min(next, r.From))
		}
		next = r.To
		body, err := readRange(ctx, st, r.Key)
		if err != nil {
			return m, err
		}
		if body.Summary.Digest != r.Digest {
			return m, fmt.Errorf("range %d–%d: digest %s, its object says %s", r.From, r.To, r.Digest, body.Summary.Digest)
		}
		receipts = append(receipts, body.Receipts...)
		m.Input += r.Input
		m.Rows += r.Rows
		m.Rejected += r.Rejected
		m.Bytes += r.Bytes
		m.Answers = m.Answers.Add(r.Answers)
		m.Reasons = addCounts(m.Reasons, r.Reasons)
		m.Contaminated = addCounts(m.Contaminated, r.Contaminated)
		m.Histogram = addCounts(m.Histogram, r.Histogram)
		m.Lengths = addMoments(m.Lengths, r.Lengths)
	}
	if next != 1<<m.Bits {
		return m, fmt.Errorf("ranges end at partition %d of %d", next, 1<<m.Bits)
	}
	if expected > 0 && m.Input != expected {
		return m, fmt.Errorf("%d rows went in, expected %d", m.Input, expected)
	}
	m.Digest = digestOf("dataset", receipts)
	return m, balanced(m.Input, m.Rows, m.Rejected)
}

func refOf(dir string, m Manifest) Ref {
	return Ref{Kind: m.Kind, Dir: dir, Bits: m.Bits, Rows: m.Rows, Rejected: m.Rejected, Digest: m.Digest}
}

// Open returns a committed dataset's manifest and the reference to it. A folder without a manifest is no dataset,
// whatever lies in it: blob.ErrNotFound.
func Open(ctx context.Context, st *blob.Store, dir string) (Manifest, Ref, error) {
	body, err := st.Get(ctx, manifestKey(dir))
	if err != nil {
		return Manifest{}, Ref{}, fmt.Errorf("open dataset %s: %w", dir, err)
	}
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return Manifest{}, Ref{}, fmt.Errorf("open dataset %s: manifest: %w", dir, err)
	}
	if m.Format != manifestFormat {
		return Manifest{}, Ref{}, fmt.Errorf("open dataset %s: format %d, this program knows %d", dir, m.Format, manifestFormat)
	}
	if err := errors.Join(checkPart(m.Bits, 0), balanced(m.Input, m.Rows, m.Rejected)); err != nil {
		return Manifest{}, Ref{}, fmt.Errorf("open dataset %s: manifest: %w", dir, err)
	}
	return m, refOf(dir, m), nil
}

// Receipts streams the receipts of all partitions of a committed dataset in order, with one request a range.
func Receipts(ctx context.Context, st *blob.Store, ref Ref) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		m, _, err := Open(ctx, st, ref.Dir)
		if err != nil {
			yield(Receipt{}, err)
			return
		}
		for _, r := range m.Ranges {
			body, err := readRange(ctx, st, r.Key)
			if err != nil {
				yield(Receipt{}, fmt.Errorf("read receipts: %w", err))
				return
			}
			for _, receipt := range body.Receipts {
				if !yield(receipt, nil) {
					return
				}
			}
		}
	}
}

// ColumnsOf returns the column names of our kinds of datasets, nil for others.
func ColumnsOf(k Kind) []string {
	switch k {
	case KindSeeds:
		return columnsOf[Seed]().names()
	case KindSegments:
		return columnsOf[Segment]().names()
	case KindCandidates:
		return columnsOf[Candidate]().names()
	case KindRatings:
		return columnsOf[Rating]().names()
	case KindTraining:
		return columnsOf[Example]().names()
	case KindPrompts:
		return columnsOf[Prompt]().names()
	case KindResponses:
		return columnsOf[Response]().names()
	case KindCurated:
		return columnsOf[Scored]().names()
	case KindPreferences:
		return columnsOf[Preference]().names()
	case KindComparisons:
		return columnsOf[Comparison]().names()
	case KindJudgements:
		return columnsOf[Judgement]().names()
	}
	return nil
}
