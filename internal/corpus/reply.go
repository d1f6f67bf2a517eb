package corpus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// maxCodings is how many encodings of a body are undone.
const maxCodings = 3

// reply is an HTTP response as crawlers keep it.
type reply struct {
	status      int
	contentType string
	codings     []string // lower case, in the order in which they were applied
	chunked     bool
	body        []byte
}

// parseReply reads an HTTP response leniently: any line ending, any version, folded and broken lines. It reports
// whether it is one.
func parseReply(block []byte) (r reply, ok bool) {
	line, rest := cutLine(block)
	fields := strings.Fields(string(line[:min(len(line), 64)]))
	if len(fields) < 2 || !strings.HasPrefix(strings.ToUpper(fields[0]), "HTTP") {
		return r, false
	}
	status, err := strconv.Atoi(fields[1])
	if err != nil || status < 100 || status > 999 {
		return r, false
	}
	r.status = status
	var name, value string
	for header := 0; len(rest) > 0 && header < maxHTTPHeader; header += len(line) {
		line, rest = cutLine(rest)
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			value += " " + string(bytes.TrimSpace(line))
			continue
		}
		r.set(name, value)
		name, value = "", ""
		if len(line) == 0 {
			break
		}
		if key, val, found := bytes.Cut(line, []byte(":")); found {
			name, value = strings.ToLower(string(bytes.TrimSpace(key))), string(bytes.TrimSpace(val))
		}
	}
	r.set(name, value)
	r.body = rest
	return r, true
}

func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

func (r *reply) set(name, value string) {
	switch name {
	case "content-type":
		if r.contentType == "" {
			r.contentType = value
		}
	case "content-encoding":
		for coding := range strings.SplitSeq(strings.ToLower(value), ",") {
			if coding = strings.TrimSpace(coding); coding != "" && coding != "identity" {
				r.codings = append(r.codings, coding)
			}
		}
	case "transfer-encoding":
		r.chunked = r.chunked || strings.Contains(strings.ToLower(value), "chunked")
	}
}

// mediaType returns the type that a body was declared to have, without parameters, or "".
func mediaType(contentType string) string {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, _, _ = strings.Cut(contentType, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	return kind
}

// decoded undoes what was done to the body for its transport, up to MaxDocumentBytes. Crawlers that did so already often
// leave the header standing, so a body that does not look encoded is taken as it is.
func (r *reply) decoded(bounds Bounds) (body []byte, reason, detail string) {
	body = r.body
	if r.chunked {
		body = dechunk(body)
	}
	if len(r.codings) > maxCodings {
		return nil, ReasonEncoding, fmt.Sprintf("%d encodings", len(r.codings))
	}
	for i := len(r.codings) - 1; i >= 0; i-- {
		if body, reason, detail = decodeBody(r.codings[i], body, bounds); reason != "" {
			return nil, reason, detail
		}
	}
	return body, "", ""
}

// dechunk joins the chunks of a body. One that does not begin with a chunk's size is returned as it is, one that breaks
// off up to there.
func dechunk(body []byte) []byte {
	var out []byte
	rest := body
	for {
		line, after := cutLine(rest)
		text, _, _ := bytes.Cut(line, []byte(";"))
		size, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 16, 63)
		switch {
		case err != nil && out == nil, len(line) > 4096:
			return body
		case err != nil || size == 0:
			return out
		}
		n := min(size, uint64(len(after)))
		if out == nil {
			out = make([]byte, 0, len(body))
		}
		out = append(out, after[:n]...)
		_, rest = cutLine(after[n:])
		if len(rest) == 0 {
			return out
		}
	}
}

// decodeBody undoes one encoding.
func decodeBody(coding string, body []byte, bounds Bounds) (out []byte, reason, detail string) {
	var r io.Reader
	var err error
	limit := bounds.MaxDocumentBytes
	switch coding {
	case "gzip", "x-gzip":
		if !bytes.HasPrefix(body, gzipMagic) {
			return body, "", ""
		}
		r, err = gzip.NewReader(bytes.NewReader(body))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(body))
		if err != nil { // what half of all servers mean by it
			r, err = flate.NewReader(bytes.NewReader(body)), nil
		}
	case "br":
		r = brotli.NewReader(bytes.NewReader(body))
	case "zstd":
		var z *zstd.Decoder
		z, err = zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(min(8<<20, bounds.maxWindow))) // RFC 9659
		if err == nil {
			defer z.Close()
		}
		r = z
	default:
		return nil, ReasonEncoding, clip(cleanLine(printable([]byte(coding))), 60)
	}
	if err != nil {
		return nil, ReasonEncoding, fmt.Sprintf("%s: %v", coding, err)
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(r, limit+1))
	n := int64(b.Len())
	switch {
	case n > bounds.memberFloor && n/bombRatio > int64(len(body)):
		return nil, ReasonBomb, fmt.Sprintf("%s: more than %d bytes out of %d", coding, n, len(body))
	case n > limit:
		return nil, ReasonTooLarge, fmt.Sprintf("more than %d bytes", limit)
	case err != nil && n == 0 && coding != "gzip" && coding != "x-gzip" && !isBinary(body):
		return body, "", "" // decoded before
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF): // one that breaks off is a page that breaks off
		return nil, ReasonEncoding, fmt.Sprintf("%s: %v", coding, err)
	}
	return b.Bytes(), "", ""
}
