package lm

import "unicode/utf8"

// pieceLetters is the longest run of letters in one token. English words average a little over one token this way.
const pieceLetters = 7

// Tokens cuts text into tokens whose concatenation is the text again. A token is up to seven letters with the space
// before them (other signs too), a number with its decimals ("4.5" is one token), a run of line breaks, or one other character.
func Tokens(text string) []string {
	out := make([]string, 0, len(text)/4+1)
	for len(text) > 0 {
		n := tokenLen(text)
		out = append(out, text[:n])
		text = text[n:]
	}
	return out
}

// Count is the number of tokens in text, without building them.
func Count(text string) int {
	n := 0
	for len(text) > 0 {
		text = text[tokenLen(text):]
		n++
	}
	return n
}

func tokenLen(s string) int {
	i := 0
	if s[0] == ' ' {
		i = 1
		if i == len(s) {
			return i
		}
	}
	switch c := s[i]; {
	case isLetter(c):
		start := i
		for i < len(s) && isLetter(s[i]) && i-start < pieceLetters {
			i++
		}
		return i
	case isDigit(c) && i == 1:
		return 1 // a space before a number stands alone, as in OpenAI's encodings
	case isDigit(c):
		for i < len(s) && isDigit(s[i]) {
			i++
		}
		if i+1 < len(s) && s[i] == '.' && isDigit(s[i+1]) {
			i++
			for i < len(s) && isDigit(s[i]) {
				i++
			}
		}
		return i
	case c == '\n' && i == 0:
		for i < len(s) && s[i] == '\n' {
			i++
		}
		return i
	case c == ' ' || c == '\n':
		return i // the space before is a token of its own
	case c < utf8.RuneSelf:
		return i + 1
	default:
		_, size := utf8.DecodeRuneInString(s[i:])
		return i + size
	}
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
