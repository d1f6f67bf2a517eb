package intake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
)

// table writes rows as Parquet.
func table[T any](t testing.TB, rows ...T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, parquet.MaxRowsPerRowGroup(10))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// memory is a file that says which way it was opened.
func memory(name string, body []byte) intake.File {
	return intake.File{
		Name:   name,
		Stream: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		At:     func(context.Context) (intake.ReaderAt, error) { return bytes.NewReader(body), nil },
	}
}

// seeds lists the rows of a file.
func seeds(t testing.TB, f intake.File, opts corpus.SeedOptions) string {
	t.Helper()
	var got []string
	for item, err := range intake.Seeds(t.Context(), f, opts) {
		switch {
		case err != nil:
			got = append(got, "error: "+err.Error())
		case item.Seed != nil:
			got = append(got, fmt.Sprintf("%s %s>%s", item.Seed.Document, strings.ReplaceAll(item.Seed.Instruction, "\n\n", "+"), item.Seed.Output))
		default:
			got = append(got, item.Reject.Document+" "+item.Reject.Reason)
		}
	}
	return strings.Join(got, "; ")
}

type pair struct {
	Q *string `parquet:"q,optional"`
	A struct {
		Text string `parquet:"text"`
	} `parquet:"a"`
	ID int64 `parquet:"id"`
}

type alpaca struct {
	Instruction string `parquet:"instruction"`
	Input       string `parquet:"input"`
	Output      string `parquet:"output"`
}

type said struct {
	Role    string `parquet:"role"`
	Content string `parquet:"content"`
}

type chat struct {
	Messages []said `parquet:"messages,list"`
}

type message struct {
	MessageID string  `parquet:"message_id"`
	ParentID  *string `parquet:"parent_id,optional"`
	Text      string  `parquet:"text"`
	Role      string  `parquet:"role"`
	Lang      string  `parquet:"lang"`
	Rank      *int32  `parquet:"rank,optional"`
	Deleted   bool    `parquet:"deleted"`
}

func ptr[T any](v T) *T { return &v }

// TestSeedTables reads each shape of seeds out of Parquet.
func TestSeedTables(t *testing.T) {
	t.Parallel()
	nested := pair{Q: ptr("Why?")}
	nested.A.Text = "Because."
	for _, tt := range []struct {
		name string
		file []byte
		opts corpus.SeedOptions
		want string
	}{
		{"alpaca", table(t, alpaca{"Add.", "1 2", "3"}, alpaca{"Say a.", "", "a"}, alpaca{"Say nothing.", "", ""}), corpus.SeedOptions{}, "1 Add.+1 2>3; 2 Say a.>a; 3 empty_field"},
		{"pairs by name", table(t, nested, pair{}), corpus.SeedOptions{Instruction: "q", Output: "a.text"}, "1 Why?>Because.; 2 missing_field"},
		{"chat", table(t, chat{[]said{{"system", "Be brief."}, {"user", "A?"}, {"assistant", "B."}}}, chat{}), corpus.SeedOptions{Format: "parquet"}, "1 A?>B.; 2 bad_record"},
		{"messages", table(
			t, message{"m1", nil, "Q", "prompter", "en", nil, false}, message{"m2", ptr("m1"), "worse", "assistant", "en", ptr[int32](1), false},
			message{"m3", ptr("m1"), "A", "assistant", "en", ptr[int32](0), false}, message{"m4", nil, "F", "prompter", "de", nil, false},
		), corpus.SeedOptions{}, "1 Q>A; 4 wrong_language"},
		{"missing column", table(t, nested), corpus.SeedOptions{}, "error: s.parquet: no column instruction; there are q, a, a.text, id. Try: under the source, instruction: FIELD, output: FIELD"},
		{"no table", []byte("hello, this is text"), corpus.SeedOptions{}, "s.parquet bad_parquet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := seeds(t, memory("s.parquet", tt.file), tt.opts); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.name == "no table" {
				return
			}
			if got := seeds(t, memory("s", tt.file), tt.opts); strings.ReplaceAll(got, "error: s:", "error: s.parquet:") != tt.want {
				t.Errorf("without the name: got %q, want %q", got, tt.want)
			}
		})
	}
	var column *corpus.ColumnError
	for _, err := range intake.Seeds(t.Context(), memory("s.parquet", table(t, nested)), corpus.SeedOptions{}) {
		if !errors.As(err, &column) {
			t.Errorf("%v is no column error", err)
		}
	}
}

type page struct {
	Title string `parquet:"title"`
	Body  struct {
		Text string `parquet:"text"`
	} `parquet:"body"`
	Bytes []byte `parquet:"bytes"`
}

func pages(n int) []page {
	out := make([]page, n)
	for i := range out {
		out[i].Title = fmt.Sprintf("Title %d", i)
		for j := range 30 {
			out[i].Body.Text += fmt.Sprintf("Sentence number %d of page %d speaks of thing %d.\n", j, i, i*j)
		}
		out[i].Bytes = bytes.Repeat([]byte{byte(i)}, 5000)
	}
	return out
}

// TestDocumentTables reads documents out of Parquet, whole and damaged.
func TestDocumentTables(t *testing.T) {
	t.Parallel()
	opts := corpus.DocumentOptions{Text: "body.text", Segments: corpus.SegmentRules{RepeatJaccard: -1}}
	count := func(body []byte) (kept int, reasons []string) {
		for item, err := range intake.Documents(t.Context(), memory("d.parquet", body), opts) {
			switch {
			case err != nil:
				t.Fatal(err)
			case item.Segment != nil:
				kept++
				if item.Segment.Title == "" || item.Segment.Document != fmt.Sprint(kept) {
					t.Errorf("segment %+v", item.Segment)
				}
			default:
				reasons = append(reasons, item.Reject.Reason)
			}
		}
		return kept, reasons
	}
	whole := table(t, pages(40)...)
	if kept, reasons := count(whole); kept != 40 || len(reasons) > 0 {
		t.Errorf("%d kept, rejects %v", kept, reasons)
	}
	broken := bytes.Clone(whole)
	for i := len(broken) / 2; i < len(broken)*3/4; i++ {
		broken[i] = 0xff
	}
	if kept, reasons := count(broken); kept >= 40 || len(reasons) != 1 || reasons[0] != corpus.ReasonBadParquet {
		t.Errorf("broken: %d kept, rejects %v", kept, reasons)
	}
	if kept, reasons := count(whole[:len(whole)-1]); kept > 0 || len(reasons) != 1 {
		t.Errorf("cut off: %d kept, rejects %v", kept, reasons)
	}
	n := 0
	for range intake.Documents(t.Context(), memory("d.parquet", whole), opts) {
		if n++; n == 5 {
			break
		}
	}
}

// TestOpen checks which way files are opened and that failures are errors.
func TestOpen(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	fail := intake.File{
		Name:   "d.parquet",
		Stream: func(context.Context) (io.ReadCloser, error) { return nil, errors.New("opened as a stream") },
		At:     func(context.Context) (intake.ReaderAt, error) { return broken{lost}, nil },
	}
	n := 0
	for _, err := range intake.Documents(t.Context(), fail, corpus.DocumentOptions{}) {
		if n++; !errors.Is(err, lost) || n > 1 {
			t.Errorf("item %d: %v", n, err)
		}
	}
	path := filepath.Join(t.TempDir(), "d.parquet")
	if err := os.WriteFile(path, table(t, pages(3)...), 0o600); err != nil {
		t.Fatal(err)
	}
	n = 0
	for item, err := range intake.Documents(t.Context(), intake.Local("d.parquet", path), corpus.DocumentOptions{Text: "body.text"}) {
		if err != nil || item.Segment == nil && item.Reject == nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d rows", n)
	}
	for _, err := range intake.Seeds(t.Context(), intake.Local("gone.jsonl", path+"x"), corpus.SeedOptions{}) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	}
}

type broken struct{ err error }

func (b broken) ReadAt([]byte, int64) (int, error) { return 0, b.err }
func (b broken) Size() int64                       { return 1000 }

func FuzzParquet(f *testing.F) {
	f.Add(table(f, alpaca{"Add.", "1 2", "3"}))
	f.Add(table(f, chat{[]said{{"user", "A?"}, {"assistant", "B."}}}))
	f.Fuzz(func(t *testing.T, data []byte) { seeds(t, memory("s.parquet", data), corpus.SeedOptions{}) })
}
