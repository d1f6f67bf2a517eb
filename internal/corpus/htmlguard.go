package corpus

import (
	"strings"

	"github.com/zeebo/xxh3"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A parsed element takes about fifty times the bytes of its tag, and a parser that follows the standard opens every
// formatting element that was left open again in each block. These bound both before anything is built.
const (
	maxTags     = 300_000
	maxReopened = 500_000
	arkLimit    = 3 // equal formatting elements that the standard keeps open at a time (the "Noah's Ark clause")
)

// formatting are the elements of the standard's list of active formatting elements.
var formatting = map[atom.Atom]bool{
	atom.A: true, atom.B: true, atom.Big: true, atom.Code: true, atom.Em: true, atom.Font: true, atom.I: true,
	atom.Nobr: true, atom.S: true, atom.Small: true, atom.Strike: true, atom.Strong: true, atom.Tt: true, atom.U: true,
}

// explosive says why a page would take more memory than it is worth.
func explosive(markup string) string {
	if n := strings.Count(markup, "<"); n*n/4 < maxReopened { // half of them left open, the other half opening them again
		return ""
	}
	z := html.NewTokenizer(strings.NewReader(markup))
	open := map[atom.Atom][]uint64{}
	same := map[uint64]int{}
	tags, reopened, total := 0, 0, 0
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return ""
		}
		if kind != html.StartTagToken && kind != html.EndTagToken {
			continue
		}
		raw := xxh3.Hash(z.Raw())
		name, _ := z.TagName()
		tag := atom.Lookup(name)
		if tags++; tags > maxTags {
			return "too many elements"
		}
		stack := open[tag]
		switch {
		case !formatting[tag]:
			if reopened += total; reopened > maxReopened {
				return "formatting elements left open"
			}
		case kind == html.StartTagToken && same[raw] < arkLimit:
			open[tag] = append(stack, raw)
			same[raw]++
			total++
		case kind == html.EndTagToken && len(stack) > 0:
			last := len(stack) - 1
			same[stack[last]]--
			total--
			open[tag] = stack[:last]
		}
	}
}
