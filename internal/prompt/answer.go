package prompt

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Bounds of answers, in bytes.
const (
	MaxInstruction = 8000
	MaxResponse    = 256 << 10
)

// Why an answer is not the text that was asked for.
var (
	ErrEmpty   = errors.New("empty answer")
	ErrRefusal = errors.New("refusal")
	ErrEcho    = errors.New("answer repeats a block of the prompt")
)

// errUnfinished means that a model was still thinking when its answer ended.
var errUnfinished = errors.New("the thinking has no end")

// ParseInstruction takes the instruction out of a backward model's answer: without thinking, code fence, label ("Instruction:", "Here
// is the instruction:"), surrounding quotation marks, and what follows under a label of its own ("Response:"). Empty answers,
// refusals, repeated blocks and more than MaxInstruction bytes are errors.
func ParseInstruction(answer string) (string, error) {
	s, err := clean(answer)
	if err != nil {
		return "", err
	}
	labelled := false
	for range 3 { // "Sure! Here is the instruction:", then "**Instruction:**", then a fence
		if m := instructionLabel.FindStringIndex(s); m != nil {
			s, labelled = s[m[1]:], true
		} else if m := preamble.FindStringIndex(s); m != nil && strings.TrimSpace(s[m[1]:]) != "" {
			s = s[m[1]:]
		} else {
			break
		}
		s = unwrap(strings.TrimSpace(s))
	}
	if labelled {
		if m := answerLabel.FindStringIndex(s); m != nil {
			s = s[:m[0]]
		}
	}
	s = unwrap(strings.TrimSpace(s))
	switch {
	case strings.Trim(s, "*_#`\"'-. \n\t") == "":
		return "", ErrEmpty
	case len(s) > MaxInstruction:
		return "", fmt.Errorf("%w: instruction of %d bytes, at most %d", ErrTooLong, len(s), MaxInstruction)
	case refused(s):
		return "", ErrRefusal
	}
	return s, nil
}

// ParseResponse takes an answer to an instruction as it is, without thinking and end-of-text markers. Empty answers, repeated blocks and
// more than MaxResponse bytes are errors. A refusal is an answer.
func ParseResponse(answer string) (string, error) {
	s, err := clean(answer)
	switch {
	case err != nil:
		return "", err
	case len(s) > MaxResponse:
		return "", fmt.Errorf("%w: response of %d bytes, at most %d", ErrTooLong, len(s), MaxResponse)
	}
	return s, nil
}

// clean does what all answers need.
func clean(answer string) (string, error) {
	if len(answer) > MaxAnswer {
		return "", fmt.Errorf("%w: answer of %d bytes", ErrTooLong, len(answer))
	}
	s, err := afterThinking(answer)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrEmpty, err)
	}
	s = withoutEnd(lines(s))
	switch {
	case s == "":
		return "", ErrEmpty
	case delimiter.MatchString(s):
		return "", ErrEcho
	}
	return s, nil
}

// withoutEnd takes off the end-of-text markers that some servers leave in. Only the last few are looked at: an answer of nothing else
// must not cost a look at all of it for each.
func withoutEnd(s string) string {
	for range 8 {
		from := max(0, len(s)-64)
		m := trailing.FindStringIndex(s[from:])
		if m == nil {
			return s
		}
		s = strings.TrimSpace(s[:from+m[0]])
	}
	return s
}

// lines makes valid UTF-8 with \n as line end and without control characters.
func lines(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case r == '\r':
			return '\n'
		case r < 0x20, r == 0x7f, r == '\ufeff':
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

var (
	trailing  = regexp.MustCompile(`\s*(?:</s>|<[|｜](?:im_end|endoftext|eot_id|end|end▁of▁sentence|end_of_text)[|｜]>|<end_of_turn>|<eos>)\s*$`)
	delimiter = regexp.MustCompile(`(?m)^={5} (?:BEGIN|END) [A-Z]+ [0-9a-f]{8} ={5}[ \t]*$`)

	instructionLabel = regexp.MustCompile(`(?i)^(?:#{1,6} *)?[*_]{0,3}(?:the +)?(?:generated +|user(?:'s)? +|possible +|original +)?(?:instruction|prompt|question|request|message|query|task|user)[*_]{0,3} *[:：][*_]{0,3}\s*`)
	preamble         = regexp.MustCompile(`(?i)^(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[!,.:]? *)?here(?:'s|’s| is| are) (?:the|an?|one|my)\b(?: \w+){0,2} (?:(?:instruction|prompt|question|request|query)s?(?: (?:that|which|for|to|based)\b[^\n:：]{0,80})?|message) *[:：]\s*`)
	answerLabel      = regexp.MustCompile(`(?im)^(?:#{1,6} *)?[*_]{0,3}(?:output|response|answer|assistant|reply)[*_]{0,3} *[:：]`)
)

var refusals = regexp.MustCompile(`(?i)^(?:(?:i['’]?m|i am) (?:\w+ )?sorry,? *(?:but|i\b|that i\b|as an\b)` +
	`|(?:my )?(?:sorry|apologies),? *(?:but )?(?:i|as an ai)\b` +
	`|i (?:apologi[sz]e|regret),? *(?:but|that i)\b` +
	`|(?:unfortunately,? *)?(?:i['’]?m|i am) (?:\w+ )?(?:unable|not able|not allowed) to\b` +
	`|(?:unfortunately,? *)?i (?:can ?not|can['’]?t|won['’]?t|will not|must decline)(?: \w+)?(?: to)? *(?:assist|help|provide|create|generate|write|fulfil?l|comply|answer|produce|do that|continue|engage|determine|infer)\b` +
	`|as an? (?:ai|artificial intelligence|large language model|language model)\b[^\n]{0,80}\b(?:can ?not|can['’]?t|unable|not able|don['’]?t|do not)\b)`)

// refused reports whether a text turns the task down rather than doing it.
func refused(s string) bool { return refusals.MatchString(s) }

// afterThinking returns what follows the thinking of a reasoning model.
func afterThinking(s string) (string, error) {
	trimmed := strings.TrimSpace(s)
	for _, tag := range []string{"think", "thinking", "reasoning"} {
		lower := strings.ToLower(trimmed[:min(len(trimmed), 16)])
		if !strings.HasPrefix(lower, "<"+tag+">") {
			continue
		}
		end := "</" + tag + ">"
		i := strings.LastIndex(trimmed, end)
		if i < 0 {
			return "", errUnfinished
		}
		return trimmed[i+len(end):], nil
	}
	// Some servers swallow the opening tag.
	if i := strings.LastIndex(trimmed, "</think>"); i >= 0 && !strings.Contains(trimmed, "<think>") {
		return trimmed[i+len("</think>"):], nil
	}
	return s, nil
}

// unwrap takes off a code fence or a pair of quotation marks around the whole text, as often as there is one.
func unwrap(s string) string {
	for range 4 {
		inner, ok := unfenced(s)
		if !ok {
			inner, ok = unquoted(s)
		}
		if !ok {
			return s
		}
		s = strings.TrimSpace(inner)
	}
	return s
}

func unfenced(s string) (string, bool) {
	if !strings.HasPrefix(s, "```") || !strings.HasSuffix(s, "```") || len(s) < 7 {
		return s, false
	}
	open, rest, ok := strings.Cut(s[3:len(s)-3], "\n")
	if !ok || strings.ContainsAny(open, " `") || strings.Contains(rest, "```") {
		return s, false
	}
	return rest, true
}

var quotes = [][2]string{{`"`, `"`}, {"“", "”"}, {"«", "»"}, {"‘", "’"}, {"'", "'"}, {"「", "」"}}

// unquoted takes off quotation marks that belong to each other: none of the kind stands in between.
func unquoted(s string) (string, bool) {
	for _, q := range quotes {
		if len(s) > len(q[0])+len(q[1]) && strings.HasPrefix(s, q[0]) && strings.HasSuffix(s, q[1]) {
			inner := s[len(q[0]) : len(s)-len(q[1])]
			if !strings.Contains(inner, q[0]) && !strings.Contains(inner, q[1]) {
				return inner, true
			}
		}
	}
	return s, false
}

// openBlock reports whether the lines end inside a block that is not closed.
func openBlock(lines []string) bool {
	open := false
	for _, l := range lines {
		if l = strings.TrimSpace(l); delimiter.MatchString(l) {
			open = strings.Contains(l, " BEGIN ")
		}
	}
	return open
}
