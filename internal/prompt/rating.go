package prompt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what is taken out of an answer, in bytes.
const (
	MaxAnswer = 1 << 20 // longer answers are not parsed
	MaxReason = 4000    // a longer reason is cut at a character
)

// Rating is a judge's verdict.
type Rating struct {
	Score  float64 // 1 to 5, decimals possible
	Reason string  // what the judge wrote before its score line
}

// Why an answer holds no rating. Each is counted and stored under its text.
var (
	ErrNoScore    = errors.New("no score line at the end")
	ErrOutOfRange = errors.New("score out of range 1 to 5")
	ErrAmbiguous  = errors.New("ambiguous score")
	ErrNotNumber  = errors.New("score is not a number")
	ErrTooLong    = errors.New("too long")
)

// ParseRating takes the rating out of a judge's answer. Its last line must be a score line; what stands there decides, whatever
// was quoted before. Form is free: bold, any case, "Rating" or "Grade", "4/5", "out of 5", brackets, full-width characters,
// "Score:" and the number on lines of their own, <score>4</score>, a remark after the number, or one JSON object with "score".
// Value is strict: a number from 1 to 5. A line that quotes (after > or a quotation mark), and one inside a block that the
// judge repeats and does not close, is no score line.
func ParseRating(answer string) (Rating, error) {
	if len(answer) > MaxAnswer {
		return Rating{}, fmt.Errorf("%w: answer of %d bytes", ErrTooLong, len(answer))
	}
	body, err := afterThinking(answer)
	if err != nil {
		return Rating{}, fmt.Errorf("%w: %w", ErrNoScore, err)
	}
	body = unwrap(withoutEnd(tidy(body)))
	if strings.HasPrefix(body, "{") && strings.HasSuffix(body, "}") {
		return jsonRating(body)
	}
	lines := strings.Split(body, "\n")
	last := lastLine(lines)
	if last < 0 || openBlock(lines[:last]) {
		return Rating{}, ErrNoScore
	}
	first := last
	value, found, err := scoreLine(lines[last])
	if !found {
		// "Score:" on a line of its own, and the bare number under it.
		if above := lastLine(lines[:last]); above >= 0 && bareLabel.MatchString(undecorated(lines[above])) {
			first = above
			value, found, err = scoreLine("Score: " + undecorated(lines[last]))
		}
	}
	if !found {
		return Rating{}, ErrNoScore
	}
	if err != nil {
		return Rating{}, err
	}
	return Rating{Score: value, Reason: reasonOf(strings.Join(lines[:first], "\n"))}, nil
}

var (
	// The label, after it the rest. Group 1 is the separator with its spaces, group 2 the rest.
	labelled  = regexp.MustCompile(`(?i)^(?:[-+•] +|\d{1,2}[.)] +)?(?:(?:my|the|your|our|final|overall|total|average|quality) +){0,4}(?:score|rating|grade)(?: +(?:value|given|assigned))?( *[:=|→] *| +(?:is|would be|of)\b *:? *| *[-–—] +| +)(.*)$`)
	bareLabel = regexp.MustCompile(`(?i)^(?:(?:my|the|your|our|final|overall|total|average|quality) +){0,4}(?:score|rating|grade) *[:=]?$`)

	// A value: number, perhaps a scale, perhaps a remark after it.
	valued   = regexp.MustCompile(`^([-+]?\d+(?:\.\d*)?)(.*)$`)
	scaled   = regexp.MustCompile(`(?i)^ *\(? *(?:/|out of\b|of\b|on a scale of\b|over\b) *(?:1 *(?:to|-|–) *)?(\d+(?:\.0+)?)(.*)$`)
	unit     = regexp.MustCompile(`(?i)^ *(?:points?|stars?|pts?)\b`)
	remark   = regexp.MustCompile(`^(?: *[-–—,;:(] *|[.!] +)["'“(]?\p{L}`)
	numbered = regexp.MustCompile(`(?i)[\d½¼¾]|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|half|score|rating|grade)\b`)
	xmlScore = regexp.MustCompile(`(?i)^<(score|rating)>(.*)</(?:score|rating)>$`)
)

// scoreLine reads one line. found says that it is a score line, well or ill.
func scoreLine(line string) (value float64, found bool, err error) {
	s := undecorated(line)
	if m := xmlScore.FindStringSubmatch(s); m != nil {
		s = "Score: " + strings.TrimSpace(m[2])
	}
	m := labelled.FindStringSubmatch(s)
	if m == nil {
		return 0, false, nil
	}
	rest := opened(m[2])
	if rest == "" {
		return 0, false, nil
	}
	v := valued.FindStringSubmatch(rest)
	// Without a separator only a number makes it a score line: "Score one more time" is prose.
	if v == nil {
		if strings.TrimSpace(m[1]) == "" || strings.Contains(rest, " ") && !strings.ContainsAny(m[1], ":=|→") {
			return 0, false, nil
		}
		return 0, true, fmt.Errorf("%w (got %s)", ErrNotNumber, shown(rest))
	}
	value, err = number(v[1])
	if err != nil {
		return 0, true, fmt.Errorf("%w (got %s)", err, shown(rest))
	}
	if err := tail(strings.Repeat(".", len(v[1])-len(strings.TrimSuffix(v[1], "."))) + v[2]); err != nil {
		return 0, true, fmt.Errorf("%w (got %s)", err, shown(rest))
	}
	return value, true, nil
}

// number reads a value and checks its range.
func number(s string) (float64, error) {
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "."), 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), math.IsNaN(f):
		return 0, ErrNotNumber
	case f < 1 || f > 5 || err != nil:
		return 0, ErrOutOfRange
	}
	return f, nil
}

// tail checks what follows the number: nothing, a scale of five, a unit, a remark without further numbers.
func tail(s string) error {
	s = unit.ReplaceAllString(strings.TrimLeft(s, closers+"*_"), "")
	if m := scaled.FindStringSubmatch(s); m != nil {
		if scale, err := strconv.ParseFloat(m[1], 64); err != nil || scale != 5 {
			return ErrAmbiguous
		}
		s = strings.TrimLeft(m[2], closers+"*_")
	}
	s = strings.TrimLeft(unit.ReplaceAllString(s, ""), closers+"*_")
	if strings.Trim(s, closers+" .,;!*_") == "" {
		return nil
	}
	if remark.MatchString(s) && !numbered.MatchString(s) {
		return nil
	}
	return ErrAmbiguous
}

const (
	openers = "[({<\"'`“‘«*_~ "
	closers = "])}>\"'`”’»"
)

// opened takes brackets, quotes and emphasis off the beginning of a value, and LaTeX's \boxed{.
func opened(s string) string {
	s = strings.TrimSpace(s)
	s = strings.TrimLeft(s, openers)
	if r, ok := strings.CutPrefix(s, `\boxed{`); ok {
		s = r
	}
	return strings.TrimSpace(s)
}

// undecorated takes Markdown off a line: emphasis, headings, code marks, table bars.
func undecorated(line string) string {
	s := strings.TrimSpace(line)
	s = strings.TrimLeft(s, "#")
	s = strings.NewReplacer("**", "", "__", "", "`", "", "~~", "").Replace(s)
	s = strings.Trim(s, " \t*_|")
	return strings.TrimSpace(s)
}

// lastLine returns the index of the last line that holds something, −1 if none does. Rules, code fences and end-of-text markers
// are nothing.
func lastLine(lines []string) int {
	for i := len(lines) - 1; i >= 0; i-- {
		s := strings.TrimSpace(lines[i])
		if strings.Trim(s, "`-*_~ ") != "" && !ending.MatchString(s) {
			return i
		}
	}
	return -1
}

var ending = regexp.MustCompile(`(?i)^(?:</?s>|<[|｜][^<>|｜]{1,40}[|｜]>|</?(?:answer|response|output|eos|end_of_turn)>|\[/?(?:end|eos|inst)\]|-{2,} *end *-{2,})+$`)

// tidy makes full-width digits and punctuation plain, line ends \n, and odd spaces ordinary ones.
func tidy(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\r', r == '\u2028', r == '\u2029':
			return '\n'
		case r >= '０' && r <= '９':
			return r - '０' + '0'
		case r == '：', r == '∶', r == '︰':
			return ':'
		case r == '．':
			return '.'
		case r == '／', r == '⁄':
			return '/'
		case r == '＝':
			return '='
		case r == '［', r == '【':
			return '['
		case r == '］', r == '】':
			return ']'
		case r == '（':
			return '('
		case r == '）':
			return ')'
		case r == '−', r == '﹣', r == '－':
			return '-'
		case r == '\u200b', r == '\u200c', r == '\u200d', r == '\ufeff', r == '\u2060':
			return -1
		case r != '\n' && r != '\t' && unicode.IsSpace(r):
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// reasonOf trims a reason and cuts it at a character within MaxReason.
func reasonOf(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > MaxReason {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:MaxReason], ""))
	}
	return s
}

// shown quotes what was found, for a message.
func shown(s string) string {
	if r := []rune(s); len(r) > 40 {
		s = string(r[:40]) + "…"
	}
	return strconv.Quote(s)
}

// jsonRating reads an answer that is one JSON object, as a JSON schema makes a judge give it.
func jsonRating(body string) (Rating, error) {
	var o struct {
		Score     json.RawMessage `json:"score"`
		Rating    json.RawMessage `json:"rating"`
		Reason    string          `json:"reason"`
		Reasoning string          `json:"reasoning"`
		Why       string          `json:"explanation"`
	}
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal([]byte(body), &o); err != nil && !errors.As(err, &odd) {
		return Rating{}, ErrNoScore
	}
	raw := o.Score
	if raw == nil {
		raw = o.Rating
	}
	if raw == nil {
		return Rating{}, ErrNoScore
	}
	value, found, err := scoreLine("Score: " + strings.Trim(string(raw), `"`))
	if !found {
		return Rating{}, fmt.Errorf("%w (got %s)", ErrNotNumber, shown(string(raw)))
	}
	if err != nil {
		return Rating{}, err
	}
	reason := o.Reason
	for _, other := range []string{o.Reasoning, o.Why} {
		if reason == "" {
			reason = other
		}
	}
	return Rating{Score: value, Reason: reasonOf(reason)}, nil
}
