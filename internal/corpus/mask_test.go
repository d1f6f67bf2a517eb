package corpus

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/dataset"
)

func TestMask(t *testing.T) {
	t.Parallel()
	m := newMasker(MaskKinds())
	for _, tt := range []struct{ in, want string }{
		{"Write to jane.doe+news@mail.kelling.co.uk.", "Write to [EMAIL]."},
		{"Write to **ann@kelling.org**, or <bob@kelling.org>", "Write to **[EMAIL]**, or <[EMAIL]>"},
		{"user@example.com and @handle and a @ b and x@y and git@v1.2", "user@example.com and @handle and a @ b and x@y and git@v1.2"},
		{"Call +44 20 7946 0958 now", "Call [PHONE] now"},
		{"Call (212) 736-5000 or 212-736-5000 or 212.736.5000 or 1-212-736-5000.", "Call [PHONE] or [PHONE] or [PHONE] or [PHONE]."},
		{"Tel.: 030 1234567, Fax: 030/1234568", "Tel.: [PHONE], Fax: [PHONE]"},
		{"Phone number: 555 0199 22", "Phone number: [PHONE]"},
		{"In 2023-10-11 there were 1234567890 of them, ISBN 978-3-16-148410-0, 100 000 000 in all", "In 2023-10-11 there were 1234567890 of them, ISBN 978-3-16-148410-0, 100 000 000 in all"},
		{"Server 8.8.4.4:53 and 192.168.0.1, 127.0.0.1, 203.0.113.9", "Server [IP]:53 and 192.168.0.1, 127.0.0.1, 203.0.113.9"},
		{"version 1.2.3.4, v 1.2.3.4, 1.2.3.4.5 and 300.1.1.1", "version 1.2.3.4, v 1.2.3.4, 1.2.3.4.5 and 300.1.1.1"},
		{"2a00:1450:4001:81b::200e is not fe80::1 or 2001:db8::1 or 10:20:30", "[IP] is not fe80::1 or 2001:db8::1 or 10:20:30"},
		{"Card 4111 1111 1111 1111 or 4111-1111-1111-1112 or 378282246310005", "Card [CARD] or 4111-1111-1111-1112 or [CARD]"},
		{"IBAN DE89 3704 0044 0532 0130 00 and GB82WEST12345698765432, not DE89 3704 0044 0532 0130 01", "IBAN [IBAN] and [IBAN], not DE89 3704 0044 0532 0130 01"},
		{"AKIAIOSFODNN7EXAMPLE is one, sk-" + strings.Repeat("a1", 20) + " another; sk-learn is none", "[KEY] is one, [KEY] another; sk-learn is none"},
		{"Authorization: Bearer abc123def456ghi789jkl0 and a bearer of bad news", "Authorization: Bearer [KEY] and a bearer of bad news"},
		{"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- after", "[KEY] after"},
		{"-----BEGIN CERTIFICATE-----\nMIIE", "-----BEGIN CERTIFICATE-----\nMIIE"},
		{"ghp_" + strings.Repeat("x1", 18), "[KEY]"},
	} {
		got, counts := m.mask(tt.in)
		if got != tt.want {
			t.Errorf("%q\n got %q\nwant %q", tt.in, got, tt.want)
		}
		if !maps.Equal(counts, m.count(got)) {
			t.Errorf("%q: counted %v, there are %v", tt.in, counts, m.count(got))
		}
	}
	only := newMasker([]string{MaskEmail})
	if got, _ := only.mask("a@kelling.org 8.8.8.8"); got != "[EMAIL] 8.8.8.8" {
		t.Errorf("only addresses: %q", got)
	}
}

// TestMaskedBeforeHashing checks that ids, headers, rejects and details all follow the masked text, and that two texts that
// differ in an address alone are one.
func TestMaskedBeforeHashing(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, mail := range []string{"ann@kelling.org", "bob@kelling.org"} {
		text := "# About " + mail + "\n\n" + para(700) + " Write to " + mail + ".\n\n# Short\n\n" + mail + "\n\n# Forum\n\n" + mail + "\n"
		masked := int64(0)
		for item, err := range Documents(t.Context(), "a.md", strings.NewReader(text), DocumentOptions{Segments: SegmentRules{RepeatJaccard: -1, Mask: []string{MaskEmail}}}) {
			check(t, item, err)
			masked += item.Masked[MaskEmail]
			if s := item.Segment; s != nil {
				ids[s.ID] = true
				if s.ID != dataset.SegmentID(s.Text) || strings.Contains(s.Text+s.Header+s.Title, "@") || s.Header != "About [EMAIL]" {
					t.Errorf("segment %+v", s)
				}
			}
			if r := item.Reject; r != nil && strings.Contains(r.Text+r.Detail, "@") {
				t.Errorf("reject %+v", r)
			}
		}
		if masked != 3 {
			t.Errorf("%d placeholders counted, want 3", masked)
		}
	}
	if len(ids) != 1 {
		t.Errorf("%d ids, want 1", len(ids))
	}
	bad := `{"text": "ann@kelling.org"` + "\n"
	for item := range Documents(t.Context(), "a.jsonl", strings.NewReader(bad), DocumentOptions{Segments: SegmentRules{Mask: []string{MaskEmail}}}) {
		if strings.Contains(item.Reject.Text, "@") || !item.Whole {
			t.Errorf("a broken record is not masked: %+v", item.Reject)
		}
	}
}

// FuzzMask holds masking to what it promises of any text: it ends, masking again changes nothing, it touches nothing without
// a reason, and what it counts is there.
func FuzzMask(f *testing.F) {
	f.Add([]byte("a@b.co +1 212 736 5000 4111111111111111 DE89370400440532013000 8.8.8.8 sk-aaaaaaaaaaaaaaaaaaa11 -----BEGIN PRIVATE KEY-----"))
	f.Add([]byte("@@@@....----++++((((1-2-3-4::::aaaa[EMAIL]tel 12345678"))
	f.Add(bytes.Repeat([]byte("a.b-c_d@"), 200))
	m := newMasker(MaskKinds())
	f.Fuzz(func(t *testing.T, data []byte) {
		text := strings.ToValidUTF8(string(data), "?")
		got, counts := m.mask(text)
		if len(counts) == 0 && got != text {
			t.Fatalf("%q became %q, and nothing was counted", text, got)
		}
		again, more := m.mask(got)
		if again != got || len(more) > 0 {
			t.Fatalf("masked again: %s", cmp.Diff(got, again))
		}
	})
}
