package corpus

import (
	"slices"
	"strings"
)

// Kinds of personal data and secrets that can be masked.
const (
	MaskEmail = "email"
	MaskPhone = "phone"
	MaskIP    = "ip"   // public addresses
	MaskCard  = "card" // payment cards, whose check digit is right (ISO/IEC 7812)
	MaskIBAN  = "iban" // bank accounts, whose check digits are right (ISO 13616)
	MaskKey   = "key"  // access keys, tokens and private keys, by their well-known forms
)

// MaskKinds lists them all.
func MaskKinds() []string {
	return []string{MaskEmail, MaskPhone, MaskIP, MaskCard, MaskIBAN, MaskKey}
}

// placeholder is what stands in the place of what was masked: the same for all of a kind.
func placeholder(kind string) string { return "[" + strings.ToUpper(kind) + "]" }

// masker replaces kinds of data. Masking twice changes nothing.
type masker struct {
	kinds []string // in order of MaskKinds
	find  [256][]finder
}

// finder looks at text[at:], whose first byte it was registered for, and returns where what it finds ends; at or less for
// nothing. It may find something that began before at: from is then less.
type finder struct {
	kind string
	find func(text string, at int) (from, to int)
}

// newMasker returns nil when nothing is to be masked.
func newMasker(kinds []string) *masker {
	if len(kinds) == 0 {
		return nil
	}
	m := &masker{}
	add := func(kind, first string, find func(string, int) (int, int)) {
		for i := range len(first) {
			m.find[first[i]] = append(m.find[first[i]], finder{kind, find})
		}
	}
	const digits, capitals = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, kind := range MaskKinds() {
		if !slices.Contains(kinds, kind) {
			continue
		}
		m.kinds = append(m.kinds, kind)
		switch kind {
		case MaskEmail:
			add(kind, "@", findEmail)
		case MaskPhone:
			add(kind, digits+"+(", findPhone)
		case MaskIP:
			add(kind, digits, findIPv4)
			add(kind, digits+"abcdefABCDEF", findIPv6)
		case MaskCard:
			add(kind, digits, findCard)
		case MaskIBAN:
			add(kind, capitals, findIBAN)
		case MaskKey:
			add(kind, "sgpAxheE-rnBb", findKey)
		}
	}
	for first := range m.find { // a card number is no phone number, and a key holds anything
		slices.SortStableFunc(m.find[first], func(a, b finder) int { return rank(a.kind) - rank(b.kind) })
	}
	return m
}

func rank(kind string) int {
	return slices.Index([]string{MaskKey, MaskEmail, MaskIBAN, MaskCard, MaskIP, MaskPhone}, kind)
}

// maxPasses bounds how often a text is gone over: what a placeholder took the place of may have hidden what stood beside it.
const maxPasses = 16

// mask returns the text with placeholders, and how many of each kind; nil where it changed nothing.
func (m *masker) mask(text string) (string, map[string]int64) {
	var counts map[string]int64
	for range maxPasses {
		masked, found := m.pass(text)
		if found == nil {
			break
		}
		text = masked
		if counts == nil {
			counts = found
			continue
		}
		for kind, n := range found {
			counts[kind] += n
		}
	}
	return text, counts
}

func (m *masker) pass(text string) (string, map[string]int64) {
	var b strings.Builder
	var counts map[string]int64
	done := 0
	for i := 0; i < len(text); {
		next := i + 1
		for _, f := range m.find[text[i]] {
			from, to := f.find(text, i)
			if to <= i || from < done {
				continue
			}
			b.WriteString(text[done:from])
			b.WriteString(placeholder(f.kind))
			if counts == nil {
				counts = map[string]int64{}
			}
			counts[f.kind]++
			done, next = to, to
			break
		}
		i = next
	}
	if done == 0 {
		return text, nil
	}
	b.WriteString(text[done:])
	return b.String(), counts
}

// count counts the placeholders in a text.
func (m *masker) count(text string) map[string]int64 {
	if !strings.Contains(text, "[") {
		return nil
	}
	var counts map[string]int64
	for _, kind := range m.kinds {
		if n := strings.Count(text, placeholder(kind)); n > 0 {
			if counts == nil {
				counts = map[string]int64{}
			}
			counts[kind] = int64(n)
		}
	}
	return counts
}

// page masks all that rows are made of: title, headers and bodies, before anything is counted or gets an id.
func (m *masker) page(p *page) {
	if m == nil {
		return
	}
	p.title, _ = m.mask(p.title)
	for i := range p.parts {
		p.parts[i].header, _ = m.mask(p.parts[i].header)
		p.parts[i].body, _ = m.mask(p.parts[i].body)
	}
}
