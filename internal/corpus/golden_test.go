package corpus

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files from what the code does now")

// TestGolden cuts the first file of each archive and compares the rows with the file called want. A comment line
// "min=40 max=200" sets lengths, so that the examples stay readable.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := ar.Files[0]
			got := rows(t, in.Name, in.Data, string(ar.Comment))
			if *update {
				ar.Files = []txtar.File{in, {Name: "want", Data: []byte(got)}}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) != 2 {
				t.Fatalf("%s holds %d files, want 2", file, len(ar.Files))
			}
			if diff := cmp.Diff(string(ar.Files[1].Data), got); diff != "" {
				t.Errorf("rows differ (-want +got):\n%s", diff)
			}
		})
	}
}

// rows writes the rows of one source in a form that people can check.
func rows(t *testing.T, name string, data []byte, comment string) string {
	t.Helper()
	var b strings.Builder
	if strings.HasPrefix(name, "seeds") {
		for item, err := range Seeds(t.Context(), name, strings.NewReader(string(data)), SeedOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if s := item.Seed; s != nil {
				fmt.Fprintf(&b, "seed line %s\n\tQ: %s\n\tA: %s\n", s.Document, s.Instruction, s.Output)
				continue
			}
			fmt.Fprintf(&b, "reject line %s: %s: %s\n", item.Reject.Document, item.Reject.Reason, item.Reject.Detail)
		}
		return b.String()
	}
	var opts DocumentOptions
	for _, line := range strings.Split(comment, "\n") {
		if strings.HasPrefix(line, "min=") {
			if _, err := fmt.Sscanf(line, "min=%d max=%d", &opts.Segments.MinChars, &opts.Segments.MaxChars); err != nil {
				t.Fatal(err)
			}
		}
	}
	for item, err := range Documents(t.Context(), name, strings.NewReader(string(data)), opts) {
		if err != nil {
			t.Fatal(err)
		}
		if s := item.Segment; s != nil {
			fmt.Fprintf(&b, "segment %q of %q in %s at %d\n%s\n", s.Header, s.Title, s.Document, s.Offset, indent(s.Text))
			continue
		}
		r := item.Reject
		fmt.Fprintf(&b, "reject %s (%s) in %s at %d\n%s\n", r.Reason, r.Detail, r.Document, r.Offset, indent(clip(r.Text, 80)))
	}
	return b.String()
}

func indent(s string) string {
	if s == "" {
		return ""
	}
	return "\t" + strings.ReplaceAll(s, "\n", "\n\t")
}
