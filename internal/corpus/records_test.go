package corpus

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRecords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, file, in string
		fields         []string
		want           string // records, or what the error says
	}{
		{"all fields", "a.jsonl", `{"q":"one","n":3,"choices":["two",{"x":"three"}]}` + "\n\n" + `{"q":"four"}`, nil, "[{1 [two three one]} {3 [four]}]"},
		{"named fields", "a.jsonl", `{"q":"one","in":{"a":"two"},"c":"x"}`, []string{"in.a", "q"}, "[{1 [two one]}]"},
		{"array", "a.json", `[{"q":"one"},{"q":"two"}]`, nil, "[{1 [one]} {2 [two]}]"},
		{"text", "a.txt", "one\ntwo\n\n\n\nthree\n", nil, "[{1 [one\ntwo]} {2 [three\n]}]"},
		{"zipped", "a.jsonl.gz", string(gzipOf(t, []byte(`{"q":"one"}`))), nil, "[{1 [one]}]"},
		{"missing field", "a.jsonl", `{"q":"one"}`, []string{"p"}, `line 1: no field "p"`},
		{"broken", "a.jsonl", `{"q":"one"}` + "\n{", nil, "line 2: bad_record"},
		{"cut off", "a.jsonl.gz", string(cut(gzipOf(t, []byte(`{"q":"one"}`)), 4)), nil, "bad_gzip"},
		{"bomb", "a.jsonl.gz", string(bomb(t)), nil, "bytes"},
		{"a page", "a.html", "<html>", nil, "format html"},
		{"a table", "a.parquet", "PAR1", nil, ErrRandomAccess.Error()},
	} {
		type texts struct {
			Number int64
			Texts  []string
		}
		var got []texts
		said := ""
		for record, err := range Records(t.Context(), tt.file, strings.NewReader(tt.in), FormatAuto, tt.fields, Bounds{MaxLineBytes: 1 << 20}) {
			if err != nil {
				said = err.Error()
				break
			}
			got = append(got, texts{record.Number, record.Texts})
		}
		if s := fmt.Sprint(got); s != tt.want && (said == "" || !strings.Contains(said, tt.want)) {
			t.Errorf("%s: %s, error %q; want %s", tt.name, s, said, tt.want)
		}
	}
}

func TestNamedFields(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`[{"q": "one", "label": true, "x": {"y": "deep"}}, {"q": null, "label": 0}]`: `map[label:true q:one x.y:deep] map[label:0] `,
		"{\"q\": [1, \"two\"]}\n{\"z\": 1}":                                          `map[q:[1, "two"]] map[] `,
		`{"q": "one"`:                                                                "bad_record",
	} {
		got := ""
		for record, err := range NamedFields(t.Context(), "a.json", strings.NewReader(in), FormatAuto, []string{"q", "label", "x.y"}, Bounds{}) {
			if err != nil {
				got += err.Error()
				break
			}
			got += fmt.Sprint(record.Fields) + " "
		}
		if got != want && !strings.Contains(got, want) {
			t.Errorf("%s: %s; want %s", in, got, want)
		}
	}
	for _, err := range NamedFields(t.Context(), "a.txt", strings.NewReader("a text"), FormatAuto, []string{"q"}, Bounds{}) {
		if err == nil {
			t.Error("a text has no fields")
		}
	}
}

// FuzzRecords ends on any bytes, with records in order or one error.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"q":"one","choices":["two",{"x":"three"}]}`), "q")
	f.Add([]byte(`[{"a":{"a":{"a":[[[["x"]]]]}}}]`), "a.a")
	f.Add(gzipOf(f, []byte("text\n\ntext")), "")
	f.Fuzz(func(t *testing.T, data []byte, field string) {
		for _, name := range []string{"f.jsonl", "f.txt", "f"} {
			var fields []string
			if field != "" {
				fields = []string{field}
			}
			last := int64(0)
			for record, err := range Records(t.Context(), name, bytes.NewReader(data), FormatAuto, fields, hostile) {
				if errors.Is(err, ErrRandomAccess) || err != nil {
					break
				}
				if record.Number <= last {
					t.Fatalf("record %d after %d", record.Number, last)
				}
				last = record.Number
			}
		}
	})
}
