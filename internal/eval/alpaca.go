package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Bounds of the files that are read.
const (
	MaxFile    = 64 << 20 // bytes
	MaxRecords = 1_000_000
)

// Annotation is one record of an annotations.json as AlpacaEval writes it: which of two outputs a judge preferred. Output 1 is the
// baseline's, output 2 that of the model.
type Annotation struct {
	Instruction string   `json:"instruction"`
	Output1     string   `json:"output_1"`
	Output2     string   `json:"output_2"`
	Generator1  string   `json:"generator_1"`
	Generator2  string   `json:"generator_2"`
	Annotator   string   `json:"annotator"`
	Dataset     string   `json:"dataset"`
	Preference  *float64 `json:"preference"` // 1: the baseline, 2: the model, 1.5 or 0: neither, between: weighted; nil: not told
}

// Published is what AlpacaEval tells of annotations, in its own words and units: rates in percent.
type Published struct {
	WinRate         float64 `json:"win_rate"`       // mean preference
	StandardError   float64 `json:"standard_error"` // of WinRate
	Wins            int64   `json:"n_wins"`
	WinsBase        int64   `json:"n_wins_base"`
	Draws           int64   `json:"n_draws"`
	Total           int64   `json:"n_total"`           // records with a preference; those without one are left out, as AlpacaEval does
	DiscreteWinRate float64 `json:"discrete_win_rate"` // each preference rounded to a win or a loss
	AverageLength   float64 `json:"avg_length"`        // of the model's outputs, in characters
	Model           string  `json:"model"`
	Baseline        string  `json:"baseline"`
	Annotator       string  `json:"annotator"`
}

// ReadAnnotations reads a list of annotations: a JSON array, or an object a line. NaN counts as null.
func ReadAnnotations(r io.Reader) ([]Annotation, error) { return records[Annotation](r, "annotations") }

// Import counts annotations as AlpacaEval's own leaderboard does.
func Import(annotations []Annotation) (Published, error) {
	var p Published
	var shares, discrete []float64
	var chars int64
	for i, a := range annotations {
		if i == 0 {
			p.Model, p.Baseline, p.Annotator = a.Generator2, a.Generator1, a.Annotator
		}
		chars += int64(utf8.RuneCountInString(a.Output2))
		if a.Preference == nil || math.IsNaN(*a.Preference) {
			continue
		}
		v := *a.Preference
		if v == 0 {
			v = 1.5
		}
		if v < 1 || v > 2 {
			continue // no preference; AlpacaEval drops it too
		}
		share := v - 1
		shares = append(shares, share)
		switch {
		case share > Draw:
			p.Wins++
			discrete = append(discrete, Win)
		case share < Draw:
			p.WinsBase++
			discrete = append(discrete, Loss)
		default:
			p.Draws++
			discrete = append(discrete, Draw)
		}
	}
	p.Total = int64(len(shares))
	if p.Total == 0 {
		return p, errors.New("no record has a preference from 1 to 2")
	}
	m, se := meanAndError(shares)
	p.WinRate, p.StandardError, p.DiscreteWinRate = 100*m, 100*se, 100*mean(discrete)
	p.AverageLength = float64(chars) / float64(len(annotations))
	return p, nil
}

// Shares returns the annotations as comparisons for Rate and ControlLength. Those without a preference are left out.
func Shares(annotations []Annotation) []Compared {
	var out []Compared
	for _, a := range annotations {
		if a.Preference == nil || math.IsNaN(*a.Preference) {
			continue
		}
		v := *a.Preference
		if v == 0 {
			v = 1.5
		}
		if v >= 1 && v <= 2 {
			out = append(out, Compared{
				Share: v - 1, Chars: int64(utf8.RuneCountInString(a.Output2)), BaselineChars: int64(utf8.RuneCountInString(a.Output1)),
			})
		}
	}
	return out
}

// records reads a JSON array of objects, or an object a line.
func records[T any](r io.Reader, what string) ([]T, error) {
	body, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", what, err)
	case len(body) > MaxFile:
		return nil, fmt.Errorf("read %s: more than %d bytes", what, MaxFile)
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(nullNaN(body), []byte("\xef\xbb\xbf")))
	d := json.NewDecoder(bufio.NewReader(bytes.NewReader(body)))
	array := len(body) > 0 && body[0] == '['
	if array {
		if _, err := d.Token(); err != nil {
			return nil, fmt.Errorf("read %s: %w", what, err)
		}
	}
	var out []T
	for d.More() {
		var v T
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("read %s: record %d: %w", what, len(out)+1, err)
		}
		if len(out) == MaxRecords {
			return nil, fmt.Errorf("read %s: more than %d records", what, MaxRecords)
		}
		out = append(out, v)
	}
	if array {
		if _, err := d.Token(); err != nil {
			return nil, fmt.Errorf("read %s: the list does not end: %w", what, err)
		}
	}
	if d.More() {
		return nil, fmt.Errorf("read %s: something follows the list", what)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read %s: no records", what)
	}
	return out, nil
}

// nullNaN writes null for NaN outside of strings: Python's json writes it so, and JSON does not know it.
func nullNaN(body []byte) []byte {
	if !bytes.Contains(body, []byte("NaN")) {
		return body
	}
	out := make([]byte, 0, len(body)+64)
	quoted := false
	for i := 0; i < len(body); i++ {
		c := body[i]
		switch {
		case quoted && c == '\\' && i+1 < len(body):
			out = append(out, c)
			i++
			c = body[i]
		case c == '"':
			quoted = !quoted
		case !quoted && bytes.HasPrefix(body[i:], []byte("NaN")):
			out = append(out, "null"...)
			i += len("NaN") - 1
			continue
		}
		out = append(out, c)
	}
	return out
}

// IsGood reads a label of a labelled set: true, 1, good, positive or yes; false, 0, bad, negative or no. ok is false where it is none.
func IsGood(label string) (good, ok bool) {
	switch strings.ToLower(strings.TrimSpace(label)) {
	case "true", "1", "1.0", "good", "positive", "yes":
		return true, true
	case "false", "0", "0.0", "bad", "negative", "no":
		return false, true
	}
	return false, false
}
