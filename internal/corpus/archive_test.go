package corpus

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// zipOf makes an archive of pairs of names and contents.
func zipOf(t testing.TB, files ...string) []byte {
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

func tarOf(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		kind := byte(tar.TypeReg)
		if strings.HasSuffix(files[i], "/") {
			kind = tar.TypeDir
		}
		err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600, Typeflag: kind})
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

func zipOutcome(t testing.TB, r io.ReaderAt, size int, opts DocumentOptions) string {
	t.Helper()
	opts.Segments.RepeatJaccard = -1
	var got []string
	for item, err := range ZipDocuments(t.Context(), "a.zip", r, int64(size), opts) {
		check(t, item, err)
		if item.Segment != nil {
			got = append(got, item.Segment.Document)
		} else {
			got = append(got, item.Reject.Reason)
		}
	}
	return strings.Join(got, " ")
}

// TestArchives reads the same files out of each kind of archive.
func TestArchives(t *testing.T) {
	t.Parallel()
	md := "# Title\n\n" + para(700)
	files := []string{
		"site/", "", "site/a.html", webPage(1), `win\b.HTM`, webPage(2), "../../etc/c.md", md, "README", md, "style.css", "body {}",
		"site/.hidden.html", webPage(3), "__MACOSX/site/._a.html", "x", "d.txt", "", "in.zip", "PK", "photo.html", "\x89PNG\x00", "page", webPage(4),
	}
	const want = `site/a.html win\b.HTM ../../etc/c.md README not_text no_content not_text binary page`
	packed := zipOf(t, files...)
	if got := zipOutcome(t, bytes.NewReader(packed), len(packed), DocumentOptions{}); got != want {
		t.Errorf("zip: %q, want %q", got, want)
	}
	rolled := tarOf(t, files...)
	for name, in := range map[string][]byte{"a.tar": rolled, "a.tgz": gzipOf(t, rolled), "a.tar.gz": gzipOf(t, rolled), "a.tar.zst": []byte(zstded(t, string(rolled))), "a": rolled, "b": gzipOf(t, rolled)} {
		if got := strings.Join(outcome(t, name, bytes.NewReader(in), DocumentOptions{}), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, err := range Documents(t.Context(), "a", bytes.NewReader(packed), DocumentOptions{}) {
		if !errors.Is(err, ErrRandomAccess) {
			t.Errorf("a zip as a stream: %v", err)
		}
	}
}

// TestArchiveBounds breaks archives and packs them to burst.
func TestArchiveBounds(t *testing.T) {
	t.Parallel()
	whole := zipOf(t, "a.html", webPage(1), "b.html", webPage(2))
	flipped := bytes.Clone(whole)
	for i := 100; i < 140; i++ {
		flipped[i] ^= 0x5a
	}
	letters := strings.Repeat(" ", 30<<20)
	var many []string
	for i := range 5 {
		many = append(many, fmt.Sprintf("%d.txt", i), letters)
	}
	large := zipOf(t, "big.txt", letters, "b.html", webPage(2))
	burst := zipOf(t, many...)
	for _, tt := range []struct {
		name string
		in   []byte
		opts DocumentOptions
		want string
	}{
		{"broken entry", flipped, DocumentOptions{}, "bad_archive b.html"},
		{"cut off", whole[:len(whole)-30], DocumentOptions{}, "bad_archive"},
		{"nothing", nil, DocumentOptions{}, "bad_archive"},
		{"no files", zipOf(t), DocumentOptions{}, ""},
		{"large entry", large, DocumentOptions{Bounds: Bounds{MaxDocumentBytes: 1 << 20}}, "too_large b.html"},
		{"bomb", burst, DocumentOptions{Language: "any"}, "no_content no_content bomb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := zipOutcome(t, bytes.NewReader(tt.in), len(tt.in), tt.opts); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	rolled := tarOf(t, "a.html", webPage(1), "b.html", webPage(2))
	for _, tt := range []struct{ name, in, want string }{
		{"cut off", string(rolled[:len(rolled)-1300]), "a.html bad_archive bad_archive"},
		{"broken header", strings.Replace(string(rolled), "b.html", "c.html", 1), "a.html bad_archive"},
		{"sparse", string(sparseTar()), "bad_archive"},
	} {
		if got := strings.Join(outcome(t, "a.tar", strings.NewReader(tt.in), DocumentOptions{}), " "); got != tt.want {
			t.Errorf("tar, %s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// sparseTar says that its one file has 8 GiB, of which nothing is there.
func sparseTar() []byte {
	block := make([]byte, 512)
	copy(block, "hole.txt")
	copy(block[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00        S")
	copy(block[257:], "ustar  \x00")
	copy(block[483:], "77777777777\x00") // real size
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(block, make([]byte, 1024)...)
}

// TestZipLimits holds the directory of an archive, and a failing reader, to their bounds.
func TestZipLimits(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range 3000 {
		if _, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%06d%s", i, strings.Repeat("n", 6000)), Method: zip.Store}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := zipOutcome(t, bytes.NewReader(b.Bytes()), b.Len(), DocumentOptions{}); got != "too_many_pieces" {
		t.Errorf("got %q", got)
	}
	lost := errors.New("connection lost")
	var last error
	for _, err := range ZipDocuments(t.Context(), "a.zip", failingAt{lost}, 1000, DocumentOptions{}) {
		last = err
	}
	if !errors.Is(last, lost) {
		t.Errorf("got %v", last)
	}
	rolled := tarOf(t, "a.html", webPage(1), "b.html", webPage(2))
	for item, err := range Documents(t.Context(), "a.tar", io.MultiReader(bytes.NewReader(rolled[:3000]), iotest.ErrReader(lost)), DocumentOptions{Segments: SegmentRules{RepeatJaccard: -1}}) {
		if last = err; item.Reject != nil {
			t.Errorf("a lost connection made a reject: %+v", item.Reject)
		}
	}
	if !errors.Is(last, lost) {
		t.Errorf("got %v", last)
	}
}

type failingAt struct{ err error }

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func FuzzZip(f *testing.F) {
	add(f, hostileZips(f)...)
	f.Fuzz(func(t *testing.T, data []byte) {
		zipOutcome(t, bytes.NewReader(data), len(data), DocumentOptions{Bounds: hostile, Segments: SegmentRules{MinChars: 5}})
		for item, err := range ZipSeeds(t.Context(), "f.zip", bytes.NewReader(data), int64(len(data)), SeedOptions{Bounds: hostile}) {
			check(t, item, err)
		}
	})
}

func FuzzTar(f *testing.F) {
	add(f, hostileTars(f)...)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzDocuments(t, "f.tar", data)
		fuzzSeeds(t, "f.tar", data, FormatAuto)
	})
}
