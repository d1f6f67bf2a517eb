package hub_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/hub"
)

func readAll(content []byte, cols hub.Columns) ([]map[string]string, error) {
	var out []map[string]string
	for row, err := range hub.Parquet(bytes.NewReader(content), int64(len(content)), cols) {
		if err != nil {
			return out, err
		}
		out = append(out, row.Values)
	}
	return out, nil
}

// TestForeignFiles reads files that pyarrow wrote in several compressions, page versions and list layouts. All of them
// hold the same four rows.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	want := []map[string]string{
		{
			"prompt": "a", "big": "xxx", "cat": "u", "n": "1", "u": "1", "f": "0.5", "g": "0.1", "ok": "true",
			"tags": `["x","y"]`, "messages": `[{"role":"user","content":"hi"},{"role":"assistant","content":null}]`,
			"meta": `{"lang":"en","deep":{"k":[[1,2],[]]}}`, "map": `[["a",1],["b",null]]`,
		},
		{"prompt": "é\n\"q\"", "big": "y", "cat": "v", "u": "9223372036854775809", "f": "NaN", "g": "2.5", "ok": "false", "tags": "[]", "messages": "[]", "map": "[]"},
		{"big": "z", "cat": "u", "n": "-3", "u": "3", "g": "3", "meta": `{"lang":null,"deep":null}`},
		{
			"prompt": "d", "big": "w", "n": "4", "u": "4", "f": "1e+300", "ok": "true", "tags": "[null]",
			"messages": `[{"role":"user","content":"<b>"}]`, "meta": `{"lang":"de","deep":{"k":null}}`, "map": `[["c",3]]`,
		},
	}
	files, err := filepath.Glob("testdata/parquet/*.parquet")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(content, nil)
		if strings.Contains(f, "refused-") {
			if err == nil || !strings.Contains(err.Error(), "write the file anew") {
				t.Errorf("%s: %v", f, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", f, diff)
		}
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/parquet/zstd.parquet")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		cols hub.Columns
		want map[string]string // first row
		says string
	}{
		{hub.Columns{"instruction": "prompt", "copy": "prompt", "lang": "meta.lang", "deep": "meta.deep"}, map[string]string{"instruction": "a", "copy": "a", "lang": "en", "deep": `{"k":[[1,2],[]]}`}, ""},
		{hub.Columns{"k": "meta.deep.k"}, map[string]string{"k": "[[1,2],[]]"}, ""},
		{hub.Columns{"instruction": "instruction"}, nil, `instruction (wanted as "instruction"): no such column; the file has prompt, big`},
		{hub.Columns{"x": "messages.role"}, nil, "messages is a list"},
		{hub.Columns{"x": ""}, nil, "no such column"},
		{hub.Columns{}, nil, "no column"},
	}
	for _, tc := range cases {
		got, err := readAll(content, tc.cols)
		if tc.says != "" {
			if !errors.Is(err, hub.ErrSchema) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v: %v", tc.cols, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tc.cols, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got[0]); diff != "" {
			t.Error(diff)
		}
		if len(got[1]) > 2 { // meta is null there
			t.Errorf("second row %v", got[1])
		}
	}
}

// TestManyRows reads over row groups and pages, and stops where the caller does.
func TestManyRows(t *testing.T) {
	t.Parallel()
	const n = 1234
	content := pairs(t, n, 3)
	got, err := readAll(content, hub.Columns{"instruction": "prompt", "score": "score", "answer": "completion"})
	if err != nil || len(got) != n {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i, row := range got {
		_, has := row["answer"]
		if !strings.HasPrefix(row["instruction"], "prompt ") || has != (i%7 != 3) || row["score"] == "" {
			t.Fatalf("row %d is %v", i, row)
		}
	}
	seen := 0
	for row, err := range hub.Parquet(bytes.NewReader(content), int64(len(content)), nil) {
		if err != nil || row.Index != int64(seen) {
			t.Fatalf("row %d: %v", row.Index, err)
		}
		if seen++; seen == 150 {
			break
		}
	}
}

// TestCallersPanic checks that only the library's panics become errors.
func TestCallersPanic(t *testing.T) {
	t.Parallel()
	defer func() {
		if r := recover(); r != "mine" {
			t.Errorf("recovered %v", r)
		}
	}()
	content := pairs(t, 10, 3)
	for range hub.Parquet(bytes.NewReader(content), int64(len(content)), nil) {
		panic("mine")
	}
}

// TestBroken flips and cuts bytes of real files: rows or an error, never a panic, and never more rows than there are.
func TestBroken(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	files, err := filepath.Glob("testdata/parquet/*.parquet")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for range 400 {
			bad := bytes.Clone(content)
			for range 1 + rnd.IntN(4) {
				bad[rnd.IntN(len(bad))] = byte(rnd.Uint32())
			}
			if rnd.IntN(4) == 0 {
				bad = bad[rnd.IntN(len(bad)):]
			}
			rows := 0
			for range hub.Parquet(bytes.NewReader(bad), int64(len(bad)), nil) {
				if rows++; rows > 100_000 {
					break // a footer may claim any number of rows
				}
			}
		}
	}
}

func FuzzParquet(f *testing.F) {
	files, err := filepath.Glob("testdata/parquet/*.parquet")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		rows := 0
		for range hub.Parquet(bytes.NewReader(content), int64(len(content)), nil) {
			if rows++; rows > 10_000 {
				break
			}
		}
	})
}

// BenchmarkParquet reads two columns of text, each page of which is unpacked twice.
func BenchmarkParquet(b *testing.B) {
	content := pairs(b, 50_000, 1)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		rows, err := readAll(content, hub.Columns{"instruction": "prompt", "output": "completion"})
		if err != nil || len(rows) != 50_000 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*50_000/b.Elapsed().Seconds(), "rows/s")
}
