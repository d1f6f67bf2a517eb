// Package corpus turns foreign bytes into rows, so that every piece of a source is kept or turned away with a reason.
//
// Documents are cut into segments as the paper does (section 3.1): a segment is the text under a header, the
// sections of lower headers included, of 600 to 3,000 characters in all. Where the paper is silent, this is the rule:
//
//   - The header line itself is not part of the segment's text, it stands in the Header column. The lines of lower
//     headers inside the text are written as markdown.
//   - Sections are tried from the top down. One that fits is one segment and nothing below it is tried again, so each
//     text belongs to one row at most. One that is too long is opened: what stands before its first lower header is
//     tried as a segment of its own (the lead of an article), then each lower section.
//   - A text that is too long and has no lower headers is turned away: the paper keeps what fits and cuts nothing. Where Long says
//     so it is cut between paragraphs, into parts of about equal length under the same header.
//   - A section under an empty or uppercase header loses its header and own text, its lower sections move up. A
//     section under a navigation header goes as a whole. Both happen before lengths are counted.
//   - A page's title is the header of all of it; if it is a bad one, only the text right under it falls. A text
//     without any header is one section with an empty header; an HTML page without title and header is turned away.
//   - A segment is repetitive when two of its sentences (of at least five words, outside code and tables) share more
//     than RepeatJaccard of their word n-grams.
//
// Nothing here holds more than one document in memory. A broken record or file is a row of rejects; an error is only
// returned when the source cannot be read or the context ends.
package corpus

import (
	"cmp"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

// Rules is raised whenever equal bytes and options give other rows than before.
const Rules = 4

// Stage is the name that rejects of this package carry.
const Stage = "ingest"

// Reasons why a piece of a source is turned away.
const (
	ReasonTooShort     = "too_short"         // section below MinChars
	ReasonTooLong      = "too_long"          // section above MaxChars without lower headers; where those are cut, a paragraph
	ReasonNavigation   = "navigation_header" // header contains a navigation phrase
	ReasonUppercase    = "uppercase_header"  // header is written in capitals
	ReasonEmptyHeader  = "empty_header"      // text under no header, or an empty one
	ReasonRepetitive   = "repetitive"        // two sentences are nearly the same
	ReasonLanguage     = "wrong_language"    // another language than asked for
	ReasonSigns        = "odd_signs"         // one of the signs not wanted
	ReasonPronouns     = "personal"          // too many personal pronouns
	ReasonQuestions    = "questions"         // too many question marks
	ReasonCapitals     = "capital_words"     // too many words in capitals
	ReasonFewVerbs     = "few_steps"         // too few paragraphs that begin with a verb
	ReasonContaminated = "contaminated"      // shares an n-gram with an evaluation set
	ReasonInvalidUTF8  = "invalid_utf8"      // bytes that stand for no character
	ReasonBadRecord    = "bad_record"        // a line that is not the record expected
	ReasonLineTooLong  = "line_too_long"     // a line above MaxLineBytes
	ReasonTooLarge     = "too_large"         // a document above MaxDocumentBytes
	ReasonTooDeep      = "too_deep"          // HTML nested deeper than its parser allows
	ReasonTooMany      = "too_many_pieces"   // a document with more than MaxPieces sections
	ReasonBadGzip      = "bad_gzip"          // broken or truncated compression
	ReasonBadZstd      = "bad_zstd"          // the same of Zstandard
	ReasonNoFile       = "missing_file"      // a list names a file that is not there
	ReasonUnreadable   = "unreadable_file"   // the place where a file lies will not give it
	ReasonNoField      = "missing_field"     // a record without the field asked for
	ReasonBadParquet   = "bad_parquet"       // a broken Parquet file
	ReasonBadArchive   = "bad_archive"       // a broken archive, or a broken file in one
	ReasonNotText      = "not_text"          // a file in an archive that is no page and no text by its name
	ReasonNotRecords   = "not_records"       // a file in an archive of seeds or prompts that is neither JSONL nor CSV by its name
	ReasonBomb         = "bomb"              // compression beyond any honest ratio
	ReasonNoContent    = "no_content"        // nothing to read
	ReasonBinary       = "binary"            // not text
	ReasonExtraction   = "extraction_failed" // the extractor gave up on the page
	ReasonNotHTML      = "not_html"          // crawl: a response that is no page
	ReasonStatus       = "http_status"       // crawl: a response that is no success
	ReasonEncoding     = "bad_encoding"      // crawl: a body in an unknown or broken content encoding
	ReasonDeleted      = "deleted"           // Open Assistant: deleted by a moderator
	ReasonNoReply      = "no_reply"          // Open Assistant: no reply of rank 0 that may be used
	ReasonEmptyField   = "empty_field"       // a pair with an empty side
)

// Bounds on foreign bytes. Zero fields of Bounds take these.
const (
	DefaultMaxDocumentBytes = 32 << 20
	DefaultMaxLineBytes     = 64 << 20
	DefaultMaxPieces        = 10_000
	DefaultMaxFieldChars    = 100_000
)

// Bounds on compression. Zero fields of Bounds take these; tests set smaller ones.
const (
	bombFloor   = 64 << 20  // bytes out of a file from which their ratio is looked at
	memberFloor = 8 << 20   // likewise of one gzip member of a crawl, or the body of a reply
	maxWindow   = 128 << 20 // how far back Zstandard data may refer, and so about what reading it takes in memory: what zstd --ultra -22 writes; --long=28 is turned away
)

// RejectTextChars is how much of a piece's text a reject keeps, in characters.
const RejectTextChars = 4000

// Item is one row: exactly one of Segment, Seed, Prompt, Response and Reject is set. The rest tells what a count needs to know of it.
type Item struct {
	Segment  *dataset.Segment
	Seed     *dataset.Seed
	Prompt   *dataset.Prompt
	Response *dataset.Response
	Reject   *dataset.Reject

	First  bool             // the first row of its document
	Whole  bool             // a document or file that was turned away before it was cut
	Masked map[string]int64 // placeholders in the text, by kind
	Sets   []string         // evaluation sets that a contaminated text shares an n-gram with
}

// Bounds limit what one source may cost. A zero field takes its default.
type Bounds struct {
	MaxDocumentBytes int64 // bytes of one document, decompressed; 32 MiB
	MaxLineBytes     int   // bytes of one line of JSONL; 64 MiB
	MaxPieces        int   // sections of one document; 10,000
	MaxFieldChars    int   // characters of either side of a seed pair; 100,000

	bombFloor, memberFloor int64
	maxWindow              uint64
}

// origin says where a piece comes from.
type origin struct {
	source   string
	document string
	offset   int64
}

// reject makes the row of a piece that was turned away. Its id is that of its text, as if it had been kept; without a
// text, that of its place and reason.
func (o origin) reject(reason, detail, text string) Item {
	r := &dataset.Reject{
		ID: dataset.SegmentID(text), Stage: Stage, Reason: reason, Detail: detail, Text: clip(text, RejectTextChars),
		Source: o.source, Document: o.document, Offset: o.offset,
	}
	if text == "" {
		r.ID = dataset.RejectID(*r)
	}
	return Item{Reject: r}
}

// clip returns at most n characters of s.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	i := 0
	for range n {
		_, size := utf8.DecodeRuneInString(s[i:])
		if i += size; i >= len(s) {
			return s
		}
	}
	return s[:i]
}

func (b Bounds) withDefaults() Bounds {
	if b.MaxDocumentBytes <= 0 {
		b.MaxDocumentBytes = DefaultMaxDocumentBytes
	}
	if b.MaxLineBytes <= 0 {
		b.MaxLineBytes = DefaultMaxLineBytes
	}
	if b.MaxPieces <= 0 {
		b.MaxPieces = DefaultMaxPieces
	}
	if b.MaxFieldChars <= 0 {
		b.MaxFieldChars = DefaultMaxFieldChars
	}
	b.bombFloor, b.memberFloor, b.maxWindow = cmp.Or(b.bombFloor, bombFloor), cmp.Or(b.memberFloor, memberFloor), cmp.Or(b.maxWindow, maxWindow)
	return b
}
