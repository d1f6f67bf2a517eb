package corpus

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// seedsOf lists what is made of a file of seeds: pairs, or reasons with their place and detail.
func seedsOf(t testing.TB, name, data string, opts SeedOptions) (out []string) {
	t.Helper()
	for item, err := range Seeds(t.Context(), name, strings.NewReader(data), opts) {
		check(t, item, err)
		if s := item.Seed; s != nil {
			out = append(out, s.Document+" "+s.Instruction+" → "+s.Output)
		} else {
			out = append(out, item.Reject.Document+" "+item.Reject.Reason+": "+item.Reject.Detail)
		}
	}
	return out
}

func TestCSV(t *testing.T) {
	t.Parallel()
	small := SeedOptions{Bounds: Bounds{MaxLineBytes: 40}}
	for about, c := range map[string]struct {
		name, data string
		opts       SeedOptions
		want       []string
	}{
		"commas":               {data: "instruction,output\nSay hi,Hi.\n", want: []string{"1 Say hi → Hi."}},
		"no break at the end":  {data: "instruction,output\r\nSay hi,Hi.", want: []string{"1 Say hi → Hi."}},
		"byte order mark":      {data: "\xef\xbb\xbfinstruction,output\na,b\n", want: []string{"1 a → b"}},
		"quoted":               {data: "instruction,output\n\"a, \"\"b\"\"\",\"c\r\nd\"\n\ne,f\n", want: []string{"1 a, \"b\" → c\nd", "2 e → f"}},
		"quoted header":        {data: "\"instruction\",\"output\",\"a,b\"\na,b,c\n", want: []string{"1 a → b"}},
		"semicolons":           {data: "instruction;output\na, b;c\n", want: []string{"1 a, b → c"}},
		"tabs by their number": {data: "instruction\toutput\na, b\tc\n", want: []string{"1 a, b → c"}},
		"tabs by the name":     {name: "s.TSV", data: "instruction\toutput,x\na;b\tc\n", want: []string{`1 missing_field: no field "output"`}},
		"other names":          {data: "id,question,answer\n7,a,b\n", want: []string{"1 a → b"}},
		"names that were said": {data: "Frage,Antwort\na,b\n", opts: SeedOptions{Instruction: "Frage", Output: "Antwort"}, want: []string{"1 a → b"}},
		"no such column":       {data: "q,a\nx,y\n", want: []string{`1 missing_field: no field "instruction"`}},
		"an input":             {data: "instruction,input,output\na,b,c\nd,,f\n", want: []string{"1 a\n\nb → c", "2 d → f"}},
		"a conversation":       {data: "messages\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"a\"\"},{\"\"role\"\":\"\"assistant\"\",\"\"content\"\":\"\"b\"\"}]\"\n", want: []string{"1 a → b"}},
		"an empty side":        {data: "instruction,output\na,\n", want: []string{"1 empty_field: output"}},
		"an index, twins":      {data: ",instruction,output,output\n0,a,b,c\n", want: []string{"1 a → b"}},
		"a quote in a text":    {data: "instruction,output\na 5\" disk,b\n", want: []string{"1 a 5\" disk → b"}},
		"fields too many":      {data: "instruction,output\na,b,c\nd,e\n", want: []string{"1 bad_record: fields: 3, where the header has 2", "2 d → e"}},
		"fields too few":       {data: "instruction,output\na\nd,e\n", want: []string{"1 bad_record: fields: 1, where the header has 2", "2 d → e"}},
		"never closed":         {data: "instruction,output\na,b\nc,\"d\ne,f\n", want: []string{"1 a → b", "2 bad_record: a quotation mark that is never closed"}},
		"marks amiss":          {data: "instruction,output\n\"a\" b,\"\"\"\nc\"\nd,e\n", want: []string{"1 bad_record: quotation marks that do not match", "2 d → e"}},
		"not UTF-8":            {data: "instruction,output\na,\xff\nd,e\n", want: []string{"1 invalid_utf8: at byte 2 of the record", "2 d → e"}},
		"UTF-16":               {data: "\xff\xfei\x00,\x00o\x00\n\x00", want: []string{"1 invalid_utf8: the header is not UTF-8; save the table as CSV UTF-8"}},
		"no names":             {data: ",,\na,b,c\n", want: []string{"1 bad_record: a header without names"}},
		"a header alone":       {data: "instruction,output\n"},
		"nothing":              {data: "\n\r\n"},
		"too long": {opts: small, data: "instruction,output\na,\"" + strings.Repeat("x\n", 400) + "\"\nd,e\n", want: []string{
			"1 line_too_long: more than 40 bytes", "2 d → e",
		}},
		"a header too long": {opts: small, data: strings.Repeat("x", 41) + "\na\n", want: []string{"1 line_too_long: a header of more than 40 bytes"}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			if c.name == "" {
				c.name = "s.csv"
			}
			if diff := cmp.Diff(c.want, seedsOf(t, c.name, c.data, c.opts)); diff != "" {
				t.Error(diff)
			}
			if c.opts.Bounds.MaxLineBytes > 0 {
				return
			}
			if diff := cmp.Diff(c.want, seedsOf(t, c.name+".gz", string(gzipOf(t, []byte(c.data))), c.opts)); diff != "" {
				t.Errorf("compressed: %s", diff)
			}
		})
	}
}

// The other readers of records take CSV too: documents, prompts, evaluation sets, and archives.
func TestCSVElsewhere(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("Chop the onions and let them sweat, \"slowly\", in butter. ", 20)
	var file bytes.Buffer
	w := csv.NewWriter(&file)
	if err := w.WriteAll([][]string{{"title", "body"}, {"Soup", long}, {"Nothing", ""}}); err != nil {
		t.Fatal(err)
	}
	opts := DocumentOptions{Text: "body", Segments: SegmentRules{MinChars: 20, MaxChars: 5000, RepeatNGram: 1000}}
	documents := func(name string, items func(func(Item, error) bool)) {
		var got []string
		for item, err := range items {
			check(t, item, err)
			if s := item.Segment; s != nil {
				got = append(got, s.Document+" "+s.Title)
				if !strings.Contains(s.Text, `"slowly"`) {
					t.Errorf("%s: %s", name, s.Text)
				}
			} else {
				got = append(got, item.Reject.Document+" "+item.Reject.Reason)
			}
		}
		at := strings.TrimPrefix(name, "f.csv")
		if diff := cmp.Diff([]string{at + "1 Soup", at + "2 no_content"}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	documents("f.csv", Documents(t.Context(), "f.csv", bytes.NewReader(file.Bytes()), opts))
	packed := zipOf(t, "in/a.csv", file.String())
	documents("in/a.csv#", ZipDocuments(t.Context(), "f.zip", bytes.NewReader(packed), int64(len(packed)), opts))

	prompts := 0
	for item, err := range Prompts(t.Context(), "p.tsv", strings.NewReader("prompt\tsystem\nWhy?\tBe brief.\n"), PromptOptions{System: "system"}) {
		if err != nil || item.Prompt == nil || item.Prompt.Instruction != "Why?" || item.Prompt.System != "Be brief." {
			t.Errorf("%+v, %v", item, err)
		}
		prompts++
	}
	var texts []string
	for r, err := range Records(t.Context(), "e.csv", strings.NewReader("q,a\nWhy?,\"So, there\"\n"), "", nil, Bounds{}) {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, r.Texts...)
	}
	if prompts != 1 || fmt.Sprint(texts) != "[So, there Why?]" {
		t.Errorf("%d prompts, texts %q", prompts, texts)
	}
	for _, err := range Records(t.Context(), "e.csv", strings.NewReader("q,a\nWhy?\n"), "", nil, Bounds{}) {
		if err == nil || !strings.Contains(err.Error(), "line 1: bad_record: fields: 1") {
			t.Errorf("a broken evaluation set: %v", err)
		}
	}
}

// What a CSV writer wrote comes back as it was, whatever stands in it.
func TestCSVRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab,;\"\n\t é")), 1, 12, -1)
		rows := rapid.SliceOfN(rapid.SliceOfN(text, 2, 2), 1, 6).Draw(t, "rows")
		comma := rapid.SampledFrom([]rune{',', ';', '\t'}).Draw(t, "comma")
		var file bytes.Buffer
		w := csv.NewWriter(&file)
		w.Comma, w.UseCRLF = comma, rapid.Bool().Draw(t, "crlf")
		if err := w.WriteAll(append([][]string{{"x", "y"}}, rows...)); err != nil {
			t.Fatal(err)
		}
		lines := newLineReader(&file, 1000, FormatCSV)
		for i, row := range rows {
			if !lines.next() {
				t.Fatalf("no record %d", i+1)
			}
			fields, bad := lines.fields()
			x, errX := stringField(fields, "x")
			y, errY := stringField(fields, "y")
			if bad.reason != "" || errors.Join(errX, errY) != nil || x != row[0] || y != row[1] || lines.number != int64(i+1) {
				t.Fatalf("record %d: %q, %q, want %q; %+v", lines.number, x, y, row, bad)
			}
		}
		if lines.next() {
			t.Fatalf("more than was written: %s", lines.line)
		}
	})
}

// An endless record is stepped over without being held.
func TestCSVHoldsNoGiant(t *testing.T) {
	t.Parallel()
	giant := io.MultiReader(strings.NewReader("text\n\""), io.LimitReader(endless{}, 64<<20), strings.NewReader("\"\nlast\n"))
	lines := newLineReader(giant, 1<<10, FormatCSV)
	if !lines.next() || !lines.tooLong || !lines.next() || string(lines.line) != `{"text":"last"}` || lines.number != 2 || lines.next() {
		t.Errorf("record %d: %s", lines.number, lines.line)
	}
	if cap(lines.line) > 1<<14 {
		t.Errorf("%d bytes are held", cap(lines.line))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "x\n,"[i%3]
	}
	return len(p), nil
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("instruction,output\n\"a\"\"\n\",b\n\"c\" d,\"\"\"\n"))
	f.Add([]byte("\xef\xbb\xbftext;messages;rank\n\"\r\n\";\"[]\";\"\"\n;;\n\""))
	add(f, hostileLines()...)
	f.Fuzz(func(t *testing.T, data []byte) {
		began := time.Now()
		for _, name := range []string{"f.csv", "f.tsv"} {
			fuzzDocuments(t, name, data)
			fuzzSeeds(t, name, data, FormatAuto, FormatChat)
			var out bytes.Buffer
			lines := newLineReader(bytes.NewReader(data), 500, named(name))
			for n := int64(1); lines.next(); n++ {
				fields, bad := lines.fields()
				if !lines.tooLong && bad.reason == "" && (fields == nil || lines.number != n) {
					t.Errorf("record %d of %q: %s", lines.number, data, lines.line)
				}
				out.Write(lines.line)
			}
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("%d bytes took %v", len(data), d)
		}
	})
}
