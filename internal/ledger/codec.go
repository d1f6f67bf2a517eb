package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/xxh3"

	"github.com/selfalign/selfalign/internal/dataset"
)

// An object is one zstd frame of JSON lines: a header, the entries, and an end line with the number of entries and the
// xxh3 sum of all bytes before it. `zstd -dc OBJECT | jq` shows it.

const (
	format    = 1
	maxRaw    = 256 << 20 // an object larger than this is not ours
	pieceSize = 32 << 20  // raw size at which a base object is split
)

// epochState is what one epoch reserved, settled and left in doubt, as of its flush Seq. All amounts are cumulative.
type epochState struct {
	Epoch    int64         `json:"epoch"`
	Seq      int64         `json:"seq"` // last flush that is counted in; 0: the lease alone
	Run      string        `json:"run,omitempty"`
	Owner    string        `json:"owner,omitempty"`
	Reserved dataset.Usage `json:"reserved"` // worst case of the calls that may have been admitted
	Settled  dataset.Usage `json:"settled"`  // worst case of the calls whose outcome is recorded
	Doubtful dataset.Usage `json:"doubtful"` // worst case of lost tries of settled calls
	Closed   bool          `json:"closed,omitempty"`
	At       time.Time     `json:"at"`
}

// inDoubt returns what the epoch may have been billed beyond its entries.
func (s epochState) inDoubt() dataset.Usage { return s.Reserved.Minus(s.Settled).Add(s.Doubtful) }

type header struct {
	Format int          `json:"selfalign_ledger"`
	Scope  string       `json:"scope"`
	Bits   int          `json:"bits"`
	Part   int          `json:"part"`
	Epochs []epochState `json:"epochs"`
}

type footer struct {
	End int    `json:"end"` // entries
	Sum string `json:"xxh3"`
}

// writer makes one object.
type writer struct {
	buf     bytes.Buffer
	enc     *json.Encoder
	entries int
}

func newWriter(h header) (*writer, error) {
	w := &writer{}
	w.enc = json.NewEncoder(&w.buf)
	w.enc.SetEscapeHTML(false)
	h.Format = format
	if err := w.enc.Encode(h); err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	return w, nil
}

func (w *writer) add(e *Entry) error {
	if err := w.enc.Encode(e); err != nil {
		return fmt.Errorf("encode entry %s: %w", e.Key, err)
	}
	w.entries++
	return nil
}

func (w *writer) size() int { return w.buf.Len() }

func (w *writer) finish() ([]byte, error) {
	sum := fmt.Sprintf("%016x", xxh3.Hash(w.buf.Bytes()))
	if err := w.enc.Encode(footer{End: w.entries, Sum: sum}); err != nil {
		return nil, fmt.Errorf("encode end: %w", err)
	}
	return encoder.EncodeAll(w.buf.Bytes(), make([]byte, 0, w.buf.Len()/3+64)), nil
}

// encode makes one object of all entries.
func encode(h header, entries []*Entry) ([]byte, error) {
	w, err := newWriter(h)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := w.add(e); err != nil {
			return nil, err
		}
	}
	return w.finish()
}

var (
	// The window bounds what each encoder keeps; the entries of a flush seldom are larger.
	encoder = must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(1<<20)))
	decoder = must(zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderConcurrency(2)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// decode reads one object whole. Anything unexpected is an ErrCorrupt.
func decode(body []byte) (header, []*Entry, error) {
	raw, err := decoder.DecodeAll(body, nil)
	if err != nil {
		return header{}, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if len(raw) == 0 || raw[len(raw)-1] != '\n' {
		return header{}, nil, fmt.Errorf("%w: cut off", ErrCorrupt)
	}
	last := bytes.LastIndexByte(raw[:len(raw)-1], '\n') + 1
	var end footer
	if err := json.Unmarshal(raw[last:], &end); err != nil {
		return header{}, nil, fmt.Errorf("%w: end line: %w", ErrCorrupt, err)
	}
	if sum := fmt.Sprintf("%016x", xxh3.Hash(raw[:last])); end.Sum != sum {
		return header{}, nil, fmt.Errorf("%w: sum is %s, end line says %.16q", ErrCorrupt, sum, end.Sum)
	}
	raw = raw[:last]
	var h header
	line, raw, _ := bytes.Cut(raw, []byte{'\n'})
	if err := json.Unmarshal(line, &h); err != nil {
		return header{}, nil, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	if h.Format != format {
		return header{}, nil, fmt.Errorf("%w: format %d; this version reads %d", ErrCorrupt, h.Format, format)
	}
	lines := bytes.Count(raw, []byte{'\n'})
	if lines != end.End {
		return header{}, nil, fmt.Errorf("%w: %d entries, end line says %d", ErrCorrupt, lines, end.End)
	}
	entries := make([]*Entry, 0, lines)
	for len(raw) > 0 {
		line, raw, _ = bytes.Cut(raw, []byte{'\n'})
		e := new(Entry)
		if err := json.Unmarshal(line, e); err != nil {
			return header{}, nil, fmt.Errorf("%w: entry %d: %w", ErrCorrupt, len(entries)+1, err)
		}
		entries = append(entries, e)
	}
	return h, entries, nil
}
