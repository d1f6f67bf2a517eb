package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problem is one mistake in a file.
type Problem struct {
	Line int    // from 1; 0 where the value did not come from a file
	Path string // such as seeds[0].path; "" for the file as a whole
	What string // what is wrong
	Got  string // the value, quoted and shortened, or "" where there is none or it may be a secret
	Try  string // the way out, or ""
}

// String returns the problem as one line, without the name of the file.
func (p Problem) String() string {
	var b strings.Builder
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.What)
	if p.Got != "" {
		b.WriteString(" (got " + p.Got + ")")
	}
	if p.Try != "" {
		b.WriteString(". Try: " + p.Try)
	}
	return b.String()
}

// Error holds every mistake found, in the order of the lines they stand on.
type Error struct {
	File     string // "" for values that did not come from a file
	Problems []Problem
}

// Error returns one line for each problem: file:line: path: what is wrong (got value). Try: the way out.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		where := ""
		if e.File != "" {
			where = e.File + ":"
			if p.Line > 0 {
				where += strconv.Itoa(p.Line) + ":"
			}
			where += " "
		}
		lines = append(lines, where+p.String())
	}
	return strings.Join(lines, "\n")
}

// problems collects mistakes.
type problems []Problem

func (ps *problems) add(path, what, got, try string) {
	*ps = append(*ps, Problem{Path: path, What: what, Got: got, Try: try})
}

// err returns nil where nothing is wrong.
func (ps problems) err(file string) error {
	if len(ps) == 0 {
		return nil
	}
	ps = slices.Clone(ps)
	slices.SortStableFunc(ps, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &Error{File: file, Problems: ps}
}

// In returns err with its problems said to be in file, where err is an *Error of this package.
func In(file string, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.File != "" {
		return err
	}
	return &Error{File: file, Problems: e.Problems}
}

// quote shows a value in a message: quoted where it is text, and never longer than 80 characters.
func quote(v any) string {
	s, ok := v.(string)
	if !ok {
		return shorten(fmt.Sprint(v))
	}
	return strconv.Quote(shorten(s))
}

func shorten(s string) string {
	const limit = 80
	s = strings.ToValidUTF8(s, "\uFFFD")
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit]) + "…"
}

// nearest returns the known word that is closest to name, or "" when none is close.
func nearest(name string, known []string) string {
	best, bestDistance := "", 1+min(3, (len(name)+2)/3)
	for _, k := range known {
		d := distance(strings.ToLower(name), strings.ToLower(k))
		if d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the number of single-character edits and swaps of neighbours between two short words.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
