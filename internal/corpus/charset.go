package corpus

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/charmap"
)

// decode returns a document's bytes as UTF-8 text, or the reason why it is none.
//
// Valid UTF-8 is what it is. Else a byte order mark decides, then what the server declared (contentType, may be empty),
// then for HTML what the page declares, then whether the bytes are mostly UTF-8 (each bad one becomes U+FFFD, and the segments that hold one are turned away later), else
// they are taken for Windows-1252, the superset of Latin-1 that browsers assume.
func decode(body []byte, markup bool, contentType string) (text, reason string) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(body, []byte{0xff, 0xfe}) {
		return decodeUTF16(body[2:], binary.LittleEndian), ""
	}
	if bytes.HasPrefix(body, []byte{0xfe, 0xff}) {
		return decodeUTF16(body[2:], binary.BigEndian), ""
	}
	if isBinary(body) {
		return "", ReasonBinary
	}
	if utf8.Valid(body) {
		return cleanBytes(body, markup), ""
	}
	if markup || contentType != "" {
		enc, name, certain := charset.DetermineEncoding(body[:min(len(body), 1024)], contentType)
		if certain && name != "utf-8" {
			if out, err := enc.NewDecoder().Bytes(body); err == nil {
				return cleanBytes(out, markup), ""
			}
		}
	}
	good, bad := countMultibyte(body)
	if bad > good {
		out, err := charmap.Windows1252.NewDecoder().Bytes(body)
		if err == nil {
			return cleanBytes(out, markup), ""
		}
	}
	return cleanBytes(bytes.ToValidUTF8(body, []byte("\uFFFD")), markup), ""
}

// cleanBytes leaves markup alone, whose text is cleaned when it is parsed.
func cleanBytes(b []byte, markup bool) string {
	if markup {
		return string(b)
	}
	return cleanText(string(b))
}

func decodeUTF16(b []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return cleanText(string(utf16.Decode(units)))
}

// isBinary reports whether the first bytes are those of an image, an archive or a program.
func isBinary(body []byte) bool {
	head := body[:min(len(body), 4096)]
	if bytes.IndexByte(head, 0) >= 0 || bytes.HasPrefix(head, []byte("%PDF-")) {
		return true
	}
	control := 0
	for _, c := range head {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != 0x1b {
			control++
		}
	}
	return control*50 > len(head)
}

// countMultibyte counts valid characters of two bytes and more, and invalid bytes.
func countMultibyte(b []byte) (good, bad int) {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			bad++
		case size > 1:
			good++
		}
		i += size
	}
	return good, bad
}

// cleanText gives lines one ending, spaces one kind, and removes characters that nobody sees.
func cleanText(s string) string {
	if isClean(s) {
		return s
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch r {
		case '\n', '\t':
			return r
		case '\r', '\u2028', '\u2029', '\u0085', '\f', '\v':
			return '\n'
		case '\u00a0', '\u202f', '\u2007':
			return ' '
		case '\u00ad', '\u200b', '\u200c', '\u200e', '\u200f', '\u2060', '\ufeff', '\uf002':
			return -1
		}
		if unicode.IsControl(r) || (r >= '\u202a' && r <= '\u202e') || (r >= '\u2066' && r <= '\u2069') {
			return -1
		}
		return r
	}, s)
}

// isClean reports whether s is ASCII in which nothing is to be changed, as most text is.
func isClean(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' && c != '\n' && c != '\t') || c > '~' {
			return false
		}
	}
	return true
}

// cleanLine returns s on one line, with single spaces.
func cleanLine(s string) string { return strings.Join(strings.Fields(cleanText(s)), " ") }
