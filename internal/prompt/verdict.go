package prompt

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Choice is which of two answers a judge prefers.
type Choice string

// What a judge may say.
const (
	First  Choice = "first"
	Second Choice = "second"
	Tie    Choice = "tie"
)

// Verdict is a judge's word on two answers.
type Verdict struct {
	Choice Choice
	Reason string // what the judge wrote before its last line
}

// Why an answer holds no verdict.
var (
	ErrNoVerdict = errors.New("no verdict line at the end")
	ErrUnclear   = errors.New("the verdict names neither answer, nor a tie")
)

// ParseVerdict takes the verdict out of a judge's answer. Its last line must be a verdict line; what stands there decides,
// whatever was quoted before. Form is free: bold, any case, "Winner" or "Preference", "the second answer", "2", "Answer 2",
// "draw". Value is strict: one of both answers or neither. A line that quotes (after > or a quotation mark), and one inside a block that
// the judge repeats and does not close, is no verdict line.
func ParseVerdict(answer string) (Verdict, error) {
	if len(answer) > MaxAnswer {
		return Verdict{}, fmt.Errorf("%w: answer of %d bytes", ErrTooLong, len(answer))
	}
	body, err := afterThinking(answer)
	if err != nil {
		return Verdict{}, fmt.Errorf("%w: %w", ErrNoVerdict, err)
	}
	lines := strings.Split(unwrap(withoutEnd(tidy(body))), "\n")
	last := lastLine(lines)
	if last < 0 || openBlock(lines[:last]) {
		return Verdict{}, ErrNoVerdict
	}
	first, line := last, undecorated(lines[last])
	if above := lastLine(lines[:last]); above >= 0 && bareVerdict.MatchString(undecorated(lines[above])) {
		first, line = above, "Verdict: "+line // the word stands under its label
	}
	m := verdictLine.FindStringSubmatch(line)
	if m == nil {
		return Verdict{}, ErrNoVerdict
	}
	choice, ok := choices[strings.ToLower(strings.Trim(opened(m[1]), closers+" .!*_"))]
	if !ok {
		return Verdict{}, fmt.Errorf("%w (got %s)", ErrUnclear, shown(m[1]))
	}
	return Verdict{Choice: choice, Reason: reasonOf(strings.Join(lines[:first], "\n"))}, nil
}

var (
	verdictLine = regexp.MustCompile(`(?i)^(?:(?:my|the|your|our|final|overall) +){0,3}(?:verdict|winner|preference|choice)(?: *[:=|→] *| +is\b *:? *)(.+)$`)
	bareVerdict = regexp.MustCompile(`(?i)^(?:(?:my|the|your|our|final|overall) +){0,3}(?:verdict|winner|preference|choice) *[:=]?$`)
)

// choices are the words that are understood, in lower case.
var choices = func() map[string]Choice {
	out := map[string]Choice{
		"tie": Tie, "a tie": Tie, "draw": Tie, "a draw": Tie, "neither": Tie, "both": Tie, "equal": Tie, "tied": Tie,
	}
	for c, words := range map[Choice][]string{First: {"first", "1", "one"}, Second: {"second", "2", "two"}} {
		for _, w := range words {
			out[w], out["answer "+w] = c, c
		}
	}
	for c, w := range map[Choice]string{First: "first", Second: "second"} {
		for _, form := range []string{"the %s", "%s answer", "the %s answer", "%s one", "the %s one"} {
			out[fmt.Sprintf(form, w)] = c
		}
	}
	return out
}()
