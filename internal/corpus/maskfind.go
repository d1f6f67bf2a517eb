package corpus

import (
	"math/big"
	"net/netip"
	"strings"
)

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlnum(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// wordBefore reports whether the byte before at belongs to the same word or number.
func wordBefore(text string, at int) bool {
	return at > 0 && (isAlnum(text[at-1]) || text[at-1] == '_' || text[at-1] >= 0x80)
}

func wordAfter(text string, at int) bool {
	return at < len(text) && (isAlnum(text[at]) || text[at] == '_' || text[at] >= 0x80)
}

// findEmail looks around an @ (RFC 5322's dot-atom, as people write it). Domains reserved for examples (RFC 2606) are left.
func findEmail(text string, at int) (from, to int) {
	const maxLocal, maxDomain = 64, 253
	from = at
	for from > 0 && at-from < maxLocal && (isAlnum(text[from-1]) || strings.IndexByte(".!#$%&'*+/=?^_`{|}~-", text[from-1]) >= 0) {
		from--
	}
	for from < at && !isAlnum(text[from]) { // markdown's emphasis, quotes
		from++
	}
	to = at + 1
	for to < len(text) && to-at <= maxDomain && (isAlnum(text[to]) || text[to] == '.' || text[to] == '-') {
		to++
	}
	for to > at+1 && !isAlnum(text[to-1]) {
		to--
	}
	domain := strings.ToLower(text[at+1 : to])
	dot := strings.LastIndexByte(domain, '.')
	if from == at || dot <= 0 || strings.Contains(domain, "..") || len(domain)-dot < 3 || strings.ContainsAny(domain[dot+1:], "0123456789") {
		return at, at
	}
	for _, reserved := range []string{"example.com", "example.org", "example.net"} {
		if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
			return at, at
		}
	}
	if top := domain[dot+1:]; top == "example" || top == "test" || top == "invalid" {
		return at, at
	}
	return from, to
}

// findIPv4 finds public addresses. Version numbers, which follow "v" or "version", are none.
func findIPv4(text string, at int) (from, to int) {
	if wordBefore(text, at) || at > 0 && (text[at-1] == '.' || text[at-1] == '-') {
		return at, at
	}
	to = at
	for to < len(text) && to-at < 16 && (isDigit(text[to]) || text[to] == '.') {
		to++
	}
	for to > at && text[to-1] == '.' {
		to--
	}
	if to-at < 7 || wordAfter(text, to) {
		return at, at
	}
	before := strings.ToLower(strings.TrimRight(text[max(0, at-12):at], " "))
	if strings.HasSuffix(before, "version") || strings.HasSuffix(before, " v") || strings.HasSuffix(before, "release") || strings.HasSuffix(before, "section") {
		return at, at
	}
	if addr, err := netip.ParseAddr(text[at:to]); err != nil || !public(addr) {
		return at, at
	}
	return at, to
}

// findIPv6 finds public addresses of at least three groups.
func findIPv6(text string, at int) (from, to int) {
	if wordBefore(text, at) || at > 0 && (text[at-1] == ':' || text[at-1] == '.') {
		return at, at
	}
	to = at
	colons := 0
	for to < len(text) && to-at < 40 && (isHex(text[to]) || text[to] == ':') {
		if text[to] == ':' {
			colons++
		}
		to++
	}
	for to > at && text[to-1] == ':' {
		to--
		colons--
	}
	if colons < 2 || to-at < 6 || wordAfter(text, to) {
		return at, at
	}
	if addr, err := netip.ParseAddr(text[at:to]); err != nil || !public(addr) {
		return at, at
	}
	return at, to
}

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

// reserved are networks for documentation, shared and local use that netip does not know (RFC 5737, 6598, 3849, 1122).
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001:db8::/32"),
}

func public(addr netip.Addr) bool {
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(addr) {
			return false
		}
	}
	return addr.Is4() || addr.As16()[0]>>5 == 1 // 2000::/3 is what is given out
}

// digitsOf reads digits that stand apart by at most one of the separators, and returns where the last one ends.
func digitsOf(text string, at, most int, separators string) (digits string, to int) {
	var b [32]byte
	n := 0
	to = at
	for i := at; i < len(text) && n < min(most, len(b)); i++ {
		switch {
		case isDigit(text[i]):
			b[n] = text[i]
			n++
			to = i + 1
		case i > at && isDigit(text[i-1]) && strings.IndexByte(separators, text[i]) >= 0:
		default:
			return string(b[:n]), to
		}
	}
	return string(b[:n]), to
}

// findCard finds 13 to 19 digits of a known issuer whose check digit is right (Luhn), alone or in groups.
func findCard(text string, at int) (from, to int) {
	if wordBefore(text, at) || at > 0 && (text[at-1] == '.' || text[at-1] == '-' || text[at-1] == '+') {
		return at, at
	}
	if len(text)-at < 13 || !isDigit(text[at+1]) || !isDigit(text[at+2]) || !isDigit(text[at+3]) {
		return at, at
	}
	digits, to := digitsOf(text, at, 20, " -")
	if len(digits) < 13 || len(digits) > 19 || wordAfter(text, to) || !issuer(digits) || !luhn(digits) {
		return at, at
	}
	return at, to
}

// issuer knows the beginnings and lengths of the numbers of the large networks.
func issuer(d string) bool {
	n := len(d)
	two := d[:2]
	switch {
	case d[0] == '4':
		return n == 13 || n == 16 || n == 19
	case two >= "51" && two <= "55", d[:4] >= "2221" && d[:4] <= "2720":
		return n == 16
	case two == "34", two == "37":
		return n == 15
	case two == "36", two == "38", d[:3] >= "300" && d[:3] <= "305":
		return n == 14
	case two == "35", two == "65", d[:4] == "6011", two == "62", d[:3] >= "644" && d[:3] <= "649":
		return n >= 16
	}
	return false
}

func luhn(digits string) bool {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// findIBAN finds two letters, two check digits and up to 30 more, alone or in groups of four.
func findIBAN(text string, at int) (from, to int) {
	if len(text)-at < 15 || wordBefore(text, at) || text[at+1] < 'A' || text[at+1] > 'Z' || !isDigit(text[at+2]) || !isDigit(text[at+3]) {
		return at, at
	}
	var bare []byte
	for i := at; i < len(text) && len(bare) < 34; i++ {
		c := text[i]
		switch {
		case isDigit(c) || c >= 'A' && c <= 'Z':
			bare = append(bare, c)
			to = i + 1
		case c == ' ' && len(bare)%4 == 0 && i > at && text[i-1] != ' ':
		default:
			i = len(text)
		}
	}
	if len(bare) < 15 || wordAfter(text, to) || !mod97(bare) {
		return at, at
	}
	return at, to
}

// mod97 checks an IBAN's check digits (ISO 7064, MOD 97-10).
func mod97(bare []byte) bool {
	var b strings.Builder
	for _, c := range append(append([]byte{}, bare[4:]...), bare[:4]...) {
		if c >= 'A' {
			b.WriteByte('1' + (c-'A')/10)
			b.WriteByte('0' + (c-'A')%10)
			continue
		}
		b.WriteByte(c)
	}
	n, ok := new(big.Int).SetString(b.String(), 10)
	return ok && new(big.Int).Mod(n, big.NewInt(97)).Int64() == 1
}

// phoneCues are words after which a number is one to be called.
var phoneCues = []string{"phone", "tel", "tel.", "telephone", "fax", "mobile", "cell", "call", "whatsapp", "hotline", "sms"}

// findPhone finds international numbers (+ and 8 to 15 digits, ITU-T E.164), North American ones in their usual groups, and
// numbers of 7 to 15 digits right after a word such as phone.
func findPhone(text string, at int) (from, to int) {
	const separators = " -./()"
	if wordBefore(text, at) || at > 0 && (isDigit(text[at-1]) || strings.IndexByte(".-/+(", text[at-1]) >= 0) {
		return at, at
	}
	start := at
	if text[at] == '+' || text[at] == '(' {
		if start++; start >= len(text) || !isDigit(text[start]) {
			return at, at
		}
	}
	digits, to := phoneDigits(text, start, separators)
	if wordAfter(text, to) || strings.Contains(text[at:to], "\n") {
		return at, at
	}
	switch {
	case text[at] == '+':
		if len(digits) >= 8 && len(digits) <= 15 {
			return at, to
		}
	case northAmerican(text[at:to], digits):
		return at, to
	case len(digits) >= 7 && len(digits) <= 15 && cued(text[max(0, at-24):at]):
		return at, to
	}
	return at, at
}

// phoneDigits reads digits in groups that stand apart by up to two separators.
func phoneDigits(text string, at int, separators string) (digits string, to int) {
	var b []byte
	to = at
	gap := 0
	for i := at; i < len(text) && len(b) <= 16; i++ {
		if isDigit(text[i]) {
			b = append(b, text[i])
			to, gap = i+1, 0
			continue
		}
		if gap++; gap > 2 || strings.IndexByte(separators, text[i]) < 0 {
			break
		}
	}
	return string(b), to
}

// northAmerican reports whether a number is written as 555-123-4567, (555) 123-4567, 555.123.4567 or with a 1 before.
func northAmerican(written, digits string) bool {
	if len(digits) == 11 && digits[0] == '1' {
		digits = digits[1:]
		written = strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(written, "("), "1"), " -.")
	}
	if len(digits) != 10 || digits[0] < '2' || digits[3] < '2' {
		return false
	}
	area, middle, end := digits[:3], digits[3:6], digits[6:]
	for _, form := range []string{area + "-" + middle + "-" + end, area + "." + middle + "." + end, "(" + area + ") " + middle + "-" + end, "(" + area + ")" + middle + "-" + end, area + " " + middle + "-" + end, "(" + area + ") " + middle + " " + end} {
		if written == form {
			return true
		}
	}
	return false
}

// cued reports whether what stands before a number says that it can be called.
func cued(before string) bool {
	words := strings.Fields(strings.ToLower(strings.TrimRight(before, " :.(*#_")))
	if len(words) == 0 {
		return false
	}
	last := strings.Trim(words[len(words)-1], "*_(:")
	if (last == "number" || last == "no" || last == "us" || last == "on" || last == "at") && len(words) > 1 {
		last = strings.Trim(words[len(words)-2], "*_(:")
	}
	for _, cue := range phoneCues {
		if last == cue {
			return true
		}
	}
	return false
}

// tokenForm is how a provider's keys look: what they begin with and how many letters, digits, - and _ follow at least.
type tokenForm struct {
	prefix string
	least  int
}

// tokenForms are published by the providers for secret scanning.
var tokenForms = []tokenForm{
	{"sk-", 20},
	{"sk_live_", 16},
	{"sk_test_", 16},
	{"rk_live_", 16},
	{"pk_live_", 16},
	{"ghp_", 30},
	{"gho_", 30},
	{"ghu_", 30},
	{"ghs_", 30},
	{"ghr_", 30},
	{"github_pat_", 30},
	{"glpat-", 20},
	{"AKIA", 16},
	{"ASIA", 16},
	{"AIza", 30},
	{"xoxb-", 20},
	{"xoxp-", 20},
	{"xoxa-", 20},
	{"xoxr-", 20},
	{"xoxs-", 20},
	{"hf_", 30},
	{"npm_", 30},
	{"eyJ", 40},
}

// findKey finds access keys and tokens by their forms, bearer tokens, and private keys in PEM.
func findKey(text string, at int) (from, to int) {
	const begin, bearer = "-----BEGIN ", "bearer "
	if text[at] == '-' {
		if !strings.HasPrefix(text[at:], begin) {
			return at, at
		}
		head, _, ok := strings.Cut(text[at+len(begin):min(len(text), at+100)], "-----")
		if !ok || !strings.HasSuffix(head, "PRIVATE KEY") {
			return at, at
		}
		end := strings.Index(text[at:], "-----END "+head+"-----")
		if end < 0 {
			return at, len(text) // it was cut off: all that follows may be the key
		}
		return at, at + end + len("-----END ") + len(head) + len("-----")
	}
	if wordBefore(text, at) || at > 0 && text[at-1] == '-' {
		return at, at
	}
	if len(text)-at > len(bearer) && strings.EqualFold(text[at:at+len(bearer)], bearer) {
		start := at + len(bearer)
		if to := tokenEnd(text, start); to-start >= 20 && strings.ContainsAny(text[start:to], "0123456789") {
			return start, to
		}
	}
	for _, f := range tokenForms {
		if !strings.HasPrefix(text[at:], f.prefix) {
			continue
		}
		if to := tokenEnd(text, at+len(f.prefix)); to-at-len(f.prefix) >= f.least && strings.ContainsAny(text[at+len(f.prefix):to], "0123456789") {
			return at, to
		}
	}
	return at, at
}

func tokenEnd(text string, at int) int {
	for at < len(text) && (isAlnum(text[at]) || text[at] == '-' || text[at] == '_' || text[at] == '.' && at+1 < len(text) && isAlnum(text[at+1])) {
		at++
	}
	return at
}
