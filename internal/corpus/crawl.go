package corpus

import (
	"fmt"
	"strconv"
)

// readWARC cuts the pages of a crawl: the HTML among its responses, and the texts of conversion records. A page's
// document is its address.
func readWARC(s *source, p place, c *cutter) bool {
	w := newWARCReader(s, p.name())
	limit := c.opts.Bounds.MaxDocumentBytes + maxHTTPHeader
	for {
		rec, block, bad, ok := w.next(limit)
		if !ok {
			return true
		}
		uri, offset := rec.uri, int64(0)
		if bad.reason != "" {
			uri, offset = bad.uri, bad.offset
		}
		if uri == "" {
			uri = "record at byte " + strconv.FormatInt(w.where(), 10)
		}
		at := p.at(uri)
		at.offset = offset
		var more bool
		switch {
		case bad.reason != "":
			more = c.yield(at.reject(bad.reason, bad.detail, ""))
		case rec.kind == "response":
			more = c.response(at, block, rec.contentType)
		default:
			more = c.crawled(at, block, rec.contentType)
		}
		if !more {
			return false
		}
	}
}

// response cuts the page of an HTTP response.
func (c *cutter) response(at origin, block []byte, recordType string) bool {
	if kind := mediaType(recordType); kind != "" && kind != "application/http" {
		return c.yield(at.reject(ReasonNotHTML, clip(cleanLine(printable([]byte(kind))), 100), "")) // text/dns and the like
	}
	r, ok := parseReply(block)
	if !ok {
		return c.yield(at.reject(ReasonBadRecord, "no HTTP response", ""))
	}
	if r.status < 200 || r.status > 299 {
		return c.yield(at.reject(ReasonStatus, "HTTP status "+strconv.Itoa(r.status), ""))
	}
	kind := mediaType(r.contentType)
	if kind != "" && !isMarkup(kind) {
		return c.yield(at.reject(ReasonNotHTML, clip(cleanLine(printable([]byte(kind))), 100), ""))
	}
	body, reason, detail := r.decoded(c.opts.Bounds)
	if reason != "" {
		return c.yield(at.reject(reason, detail, ""))
	}
	if kind == "" {
		if sniff("", body[:min(len(body), 1024)]) != FormatHTML {
			return c.yield(at.reject(ReasonNotHTML, "no content type, and it does not look like HTML", ""))
		}
		r.contentType = "text/html"
	}
	return c.crawled(at, body, r.contentType)
}

// crawled cuts a body: HTML or plain text.
func (c *cutter) crawled(at origin, body []byte, contentType string) bool {
	if int64(len(body)) > c.opts.Bounds.MaxDocumentBytes {
		return c.yield(at.reject(ReasonTooLarge, fmt.Sprintf("more than %d bytes", c.opts.Bounds.MaxDocumentBytes), ""))
	}
	switch kind := mediaType(contentType); {
	case isMarkup(kind):
		return c.document(at, FormatHTML, body, contentType)
	case kind == "text/plain" || kind == "":
		return c.document(at, FormatText, body, contentType)
	default:
		return c.yield(at.reject(ReasonNotHTML, clip(cleanLine(printable([]byte(kind))), 100), ""))
	}
}

func isMarkup(kind string) bool { return kind == "text/html" || kind == "application/xhtml+xml" }
