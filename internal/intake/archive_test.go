package intake_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
)

func zipped(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err == nil {
			_, err = io.WriteString(f, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600, Typeflag: tar.TypeReg})
		if err == nil {
			_, err = io.WriteString(w, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(body)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t testing.TB, body []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(body, nil)
}

// TestSeedArchives reads seeds of every shape out of each kind of archive, whatever it is called.
func TestSeedArchives(t *testing.T) {
	t.Parallel()
	pairs := `{"instruction":"Q1","output":"A1"}` + "\n{broken\n" + `{"instruction":"Q2","output":"A2"}` + "\n"
	tree := `{"message_tree_id":"t","prompt":{"message_id":"t","text":"Q3","role":"prompter","lang":"en","replies":[{"text":"A3","role":"assistant","lang":"en","rank":0}]}}`
	lonely := `{"message_id":"m","parent_id":null,"message_tree_id":"m","role":"prompter","lang":"en","text":"Q5"}`
	chats := `[{"messages":[{"role":"user","content":"Q4"},{"role":"assistant","content":"A4"}]}]`
	files := []string{
		"pairs.jsonl", pairs, "in/oasst.jsonl.zst", string(zstded(t, []byte(tree))), "chats.json.gz", string(gzipped(t, []byte(chats))),
		"lonely.jsonl", lonely, "README.md", "# Seeds", "rows.parquet", "PAR1", "noname", `{"prompt":"Q6","completion":"A6"}`, "picture", "\x89PNG",
		".hidden.jsonl", pairs, "cut.jsonl.gz", string(gzipped(t, []byte(pairs))[:40]),
	}
	const want = "pairs.jsonl#1 Q1>A1; pairs.jsonl#2 bad_record; pairs.jsonl#3 Q2>A2; in/oasst.jsonl.zst#1 Q3>A3; chats.json.gz#1 Q4>A4; " +
		"lonely.jsonl#1 no_reply; README.md not_records; rows.parquet not_records; noname#1 Q6>A6; picture not_records; cut.jsonl.gz bad_gzip"
	rolled := tarred(t, files...)
	for name, body := range map[string][]byte{
		"a.zip": zipped(t, files...), "a": zipped(t, files...), "a.tar": rolled, "a.tar.gz": gzipped(t, rolled), "a.tgz": gzipped(t, rolled), "a.tar.zst": zstded(t, rolled), "b": gzipped(t, rolled),
	} {
		if got := seeds(t, memory(name, body), corpus.SeedOptions{}); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	if got := seeds(t, memory("a.zip", zipped(t, "x.json", `{"q":"Q","a":"A"}`)), corpus.SeedOptions{Format: corpus.FormatPairs, Instruction: "q", Output: "a"}); got != "x.json#1 Q>A" {
		t.Errorf("pairs by name: %s", got)
	}
	whole := zipped(t, files...)
	if got := seeds(t, memory("a.zip", whole[:len(whole)-30]), corpus.SeedOptions{}); got != "a.zip bad_archive" {
		t.Errorf("cut off: %s", got)
	}
	if got := seeds(t, memory("a.zip", table(t, alpaca{"Add.", "", "3"})), corpus.SeedOptions{}); got != "1 Add.>3" {
		t.Errorf("a table called zip: %s", got)
	}
}

// TestPromptArchives counts prompts over the files of an archive.
func TestPromptArchives(t *testing.T) {
	t.Parallel()
	files := []string{"a.jsonl", `{"prompt":"P1"}` + "\n" + `{"prompt":"P2"}`, "b.jsonl", `{"prompt":"P3"}` + "\n" + `{"prompt":"P4"}`, "c.jsonl", `{"prompt":"P5"}`}
	for name, body := range map[string][]byte{"a.zip": zipped(t, files...), "a.tgz": gzipped(t, tarred(t, files...))} {
		var got []string
		for item, err := range intake.Prompts(t.Context(), memory(name, body), corpus.PromptOptions{Limit: 3}) {
			if err != nil || item.Prompt == nil {
				t.Fatal(item.Reject, err)
			}
			got = append(got, item.Prompt.Document+" "+item.Prompt.Instruction)
		}
		if s := strings.Join(got, "; "); s != "a.jsonl#1 P1; a.jsonl#2 P2; b.jsonl#1 P3" {
			t.Errorf("%s: %s", name, s)
		}
	}
}
