package corpus

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// Bounds on WARC files.
const (
	maxWARCHeader = 64 << 10  // bytes of one record's header
	maxHTTPHeader = 256 << 10 // bytes that an HTTP header may take beside MaxDocumentBytes
	maxBombs      = 16        // in a file; it is left at the next
	maxProbes     = 10_000    // places in a file that are tried as the beginning of a gzip member
	maxURIChars   = 2000
	keptBlock     = 4 << 20 // bytes of memory for a block that the next block is read into
)

var gzipMagic = []byte{0x1f, 0x8b, 0x08}

// warcRecord is the part of a record's header that matters here.
type warcRecord struct {
	kind        string // lower case: response, conversion, request …
	uri         string
	contentType string
	length      int64
}

// warcReader reads the records of a WARC file (ISO 28500), compressed member by member or not at all. After a damage it
// goes on at the next record that can be found.
type warcReader struct {
	src    *source
	tape   *tape // the compressed file, nil when it is not
	gz     *gzip.Reader
	probe  *gzip.Reader
	body   *bufio.Reader // decompressed
	block  bytes.Buffer  // of the record in work
	inside bool          // a member, or the file that has none
	start  int64         // of the member on the tape
	out    int64         // bytes out of this member
	total  int64         // bytes out of all members
	reread int64         // bytes of the tape read again
	broken error         // of the member
	bombs  int
	probes int
	ended  bool
}

// newWARCReader reads member by member what begins as gzip does, and what is named so and begins as nothing does.
func newWARCReader(s *source, name string) *warcReader {
	w := &warcReader{src: s}
	if s.packing == gzipped || strings.HasSuffix(strings.ToLower(name), ".gz") && s.packing == plain && !bytes.HasPrefix(s.peek(), []byte("WARC/")) {
		w.tape = newTape(s.file)
		w.body = bufio.NewReaderSize(readerFunc(w.inflate), 64<<10)
		return w
	}
	s.open()
	w.inside = true
	w.body = bufio.NewReaderSize(s, 64<<10)
	return w
}

// inflate reads the bytes of the member in work, under the bomb rule.
func (w *warcReader) inflate(p []byte) (int, error) {
	if w.broken != nil {
		return 0, w.broken
	}
	n, err := w.gz.Read(p)
	w.out += int64(n)
	if w.src.spent(n); w.src.raw.err != nil {
		return 0, w.src.raw.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		w.broken = err
	} else if w.out > w.src.bounds.memberFloor && w.out/bombRatio > w.tape.offset()-w.start {
		n, w.broken = 0, errBomb
	}
	if w.broken != nil {
		return n, w.broken
	}
	return n, err
}

// badWARC is what could not be read. An empty reason is none.
type badWARC struct {
	reason, detail, uri string
	offset              int64
}

// next returns a record whose kind is wanted with its block, which stands until the next call, or what was damaged or has more
// than limit bytes. It returns false at the end of the file and when the source failed.
func (w *warcReader) next(limit int64) (rec warcRecord, block []byte, bad badWARC, ok bool) {
	for !w.ended && w.src.failure() == nil {
		if !w.inside {
			bad, ok := w.member()
			if w.src.failure() != nil {
				break
			}
			if !ok || bad.reason != "" {
				return rec, nil, bad, ok
			}
		}
		rec, block, bad, ok = w.record(limit)
		if w.src.failure() != nil {
			break
		}
		if ok || bad.reason != "" {
			return rec, block, bad, true
		}
	}
	return rec, nil, badWARC{}, false
}

// member opens the next gzip member.
func (w *warcReader) member() (badWARC, bool) {
	if w.total > w.src.bounds.bombFloor && w.total/bombRatio > w.tape.offset() {
		w.ended = true
		return badWARC{reason: ReasonBomb, detail: fmt.Sprintf("%d bytes out of %d; the rest of the file is not read", w.total, w.tape.offset())}, true
	}
	if len(w.tape.peek(1)) == 0 {
		w.ended = true
		return badWARC{}, false
	}
	w.tape.mark()
	w.start, w.out, w.broken = w.tape.offset(), 0, nil
	var err error
	if w.gz == nil {
		w.gz, err = gzip.NewReader(w.tape)
	} else {
		err = w.gz.Reset(w.tape)
	}
	if err != nil {
		w.broken = err
		return w.damage(""), true
	}
	w.gz.Multistream(false)
	w.body.Reset(readerFunc(w.inflate))
	w.inside = true
	return badWARC{}, true
}

// damage describes what broke the member in work, and goes to the next one.
func (w *warcReader) damage(uri string) badWARC {
	bad := badWARC{reason: ReasonBadGzip, uri: uri, offset: w.start, detail: fmt.Sprintf("%v after %d bytes", w.broken, w.out)}
	if w.tape == nil { // the file as a whole is broken, which source says
		w.ended = true
		return badWARC{}
	}
	if errors.Is(w.broken, errBomb) {
		bad.reason, bad.detail = ReasonBomb, fmt.Sprintf("more than %d bytes out of %d", w.out, w.tape.offset()-w.start)
		if w.bombs++; w.bombs > maxBombs {
			w.ended = true
			bad.detail += "; the rest of the file is not read"
			return bad
		}
	}
	w.inside = false
	w.resync()
	return bad
}

// resync goes to the next place that is the beginning of a record's member. Damaged data may have been taken for
// longer than it was, so the search begins inside the member, as long as that is not done over and over.
func (w *warcReader) resync() {
	if w.reread < 4*w.tape.offset()+w.src.bounds.bombFloor {
		w.reread += w.tape.rewind()
	}
	for w.tape.find(gzipMagic) {
		if w.probes++; w.probes > maxProbes {
			break
		}
		if w.isRecord(w.tape.peek(4096)) {
			return
		}
		_, _ = w.tape.ReadByte()
	}
	w.ended = true
}

func (w *warcReader) isRecord(head []byte) bool {
	var err error
	r := bytes.NewReader(head)
	if w.probe == nil {
		w.probe, err = gzip.NewReader(r)
	} else {
		err = w.probe.Reset(r)
	}
	var magic [5]byte
	if err == nil {
		_, err = io.ReadFull(w.probe, magic[:])
	}
	return err == nil && string(magic[:]) == "WARC/"
}

// record reads one record. It returns neither a record nor a damage for those that are not wanted and at the end of a
// member.
func (w *warcReader) record(limit int64) (rec warcRecord, block []byte, bad badWARC, ok bool) {
	rec, err := w.header()
	at := w.where()
	if err == nil && !rec.wanted() {
		_, err = io.CopyN(io.Discard, w.body, rec.length)
	} else if err == nil && rec.length > limit {
		bad = badWARC{reason: ReasonTooLarge, detail: fmt.Sprintf("%d bytes, at most %d", rec.length, limit), uri: rec.uri, offset: at}
		_, err = io.CopyN(io.Discard, w.body, rec.length)
	} else if err == nil {
		block, err = w.readBlock(rec.length)
	}
	if err == nil {
		err = w.finish()
	}
	var wrong warcError
	switch {
	case err == nil && bad.reason != "":
		return rec, nil, bad, false
	case err == nil:
		return rec, block, badWARC{}, rec.wanted()
	case errors.Is(err, errNoMore):
		w.leave()
		return rec, nil, badWARC{}, false
	case errors.As(err, &wrong):
		w.seek()
		return rec, nil, badWARC{reason: ReasonBadRecord, detail: string(wrong), uri: rec.uri, offset: at}, false
	case w.broken != nil || w.src.damaged != nil:
		return rec, nil, w.damage(rec.uri), false
	default: // the end, too early
		w.leave()
		return rec, nil, badWARC{reason: ReasonBadRecord, detail: "the record breaks off", uri: rec.uri, offset: at}, false
	}
}

// where returns an offset in the file by which people find a record.
func (w *warcReader) where() int64 {
	if w.tape != nil {
		return w.start
	}
	return max(0, w.src.raw.n-int64(w.body.Buffered()))
}

// leave ends a member.
func (w *warcReader) leave() {
	if w.tape == nil {
		w.ended = true
		return
	}
	w.inside = false
	w.total += w.out
}

func (r warcRecord) wanted() bool {
	return r.kind == "response" || r.kind == "conversion" || r.kind == "resource"
}

var errNoMore = errors.New("no more records")

// warcError is a mistake in a record.
type warcError string

func (e warcError) Error() string { return string(e) }

// header reads the version line and the named fields.
func (w *warcReader) header() (rec warcRecord, err error) {
	left := maxWARCHeader
	line, err := w.line(&left)
	for err == nil && len(line) == 0 { // what stands between records
		line, err = w.line(&left)
	}
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return rec, errNoMore
		}
		return rec, err
	}
	if !bytes.HasPrefix(line, []byte("WARC/")) {
		return rec, warcError("no record begins where one should: " + clip(cleanLine(printable(line)), 60))
	}
	rec.length = -1
	var name, value string
	for {
		line, err := w.line(&left)
		if err != nil {
			return rec, err
		}
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') { // folded
			value += " " + string(bytes.TrimSpace(line))
			continue
		}
		if err := rec.set(name, value); err != nil {
			return rec, err
		}
		if len(line) == 0 {
			break
		}
		key, val, _ := bytes.Cut(line, []byte(":"))
		name, value = strings.ToLower(string(bytes.TrimSpace(key))), string(bytes.TrimSpace(val))
	}
	if rec.length < 0 {
		return rec, warcError("no Content-Length")
	}
	return rec, nil
}

// set takes one field of the header; of several the first.
func (r *warcRecord) set(name, value string) error {
	switch name {
	case "warc-type":
		if r.kind == "" {
			r.kind = strings.ToLower(value)
		}
	case "warc-target-uri":
		if r.uri == "" {
			r.uri = clip(cleanLine(printable([]byte(strings.Trim(value, "<> ")))), maxURIChars)
		}
	case "content-type":
		if r.contentType == "" {
			r.contentType = value
		}
	case "content-length":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 || r.length >= 0 && n != r.length {
			return warcError("Content-Length " + strconv.QuoteToASCII(clip(value, 40)))
		}
		r.length = n
	}
	return nil
}

// line reads one line without its ending and takes its length from left.
func (w *warcReader) line(left *int) ([]byte, error) {
	var line []byte
	for {
		part, err := w.body.ReadSlice('\n')
		if *left -= len(part); *left < 0 {
			return nil, warcError(fmt.Sprintf("a header of more than %d bytes", maxWARCHeader))
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return bytes.TrimRight(line, "\r\n"), err
	}
}

// readBlock reads the bytes that a header promised. They stand until the next block is read.
func (w *warcReader) readBlock(n int64) ([]byte, error) {
	if w.block.Cap() > keptBlock {
		w.block = bytes.Buffer{}
	}
	w.block.Reset()
	w.block.Grow(int(min(n, 1<<20)) + bytes.MinRead) // a promise is not yet worth its memory; a buffer has to see the end
	_, err := io.CopyN(&w.block, w.body, n)
	return w.block.Bytes(), err
}

// finish reads over the end of a record, checks that another record or the end of the member follows, and with the
// latter the member's checksum.
func (w *warcReader) finish() error {
	for {
		head, err := w.body.Peek(1)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case head[0] == '\r' || head[0] == '\n':
			_, _ = w.body.Discard(1)
			continue
		}
		if head, _ = w.body.Peek(5); string(head) != "WARC/" {
			return warcError("something else than the end stands after the record's Content-Length")
		}
		return nil
	}
}

// seek goes to the next line that begins a record, or to the end of the member.
func (w *warcReader) seek() {
	for {
		if head, _ := w.body.Peek(6); len(head) == 6 && string(head[:5]) == "WARC/" && head[5] >= '0' && head[5] <= '9' {
			return
		}
		for {
			_, err := w.body.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if err != nil {
				return // said by who reads on
			}
			break
		}
	}
}
