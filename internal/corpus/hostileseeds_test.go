package corpus

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
)

// hostile keeps fuzzing small and quick: bounds so low that a few bytes reach every one of them.
var hostile = Bounds{
	MaxDocumentBytes: 1 << 18, MaxLineBytes: 1 << 15, MaxPieces: 200, MaxFieldChars: 2000, bombFloor: 1 << 16, memberFloor: 1 << 14, maxWindow: 1 << 20,
}.withDefaults()

func add(f *testing.F, inputs ...string) {
	f.Helper()
	for _, in := range inputs {
		f.Add([]byte(in))
	}
}

// hostilePages are small pages of shapes that parsers, extractors and converters have been brought down by.
func hostilePages() []string {
	open := func(n int, tags string) string { return strings.Repeat(tags, n) }
	return []string{
		open(600, "<div>") + "<h1>a</h1>text", open(40, "<b id=1><i>") + open(40, "<p>x"), open(60, "<table><tr><td>") + "<h1>b", open(60, "<ul><li><ol><li>") + "x",
		open(50, "<blockquote><pre>") + "x\n\n\ty", open(40, "<select><option><template>") + "<h2>c", open(40, "<svg><math><mtext><p>") + "d",
		"<p " + strings.Repeat("a=b ", 800) + ">text", "<p a='" + strings.Repeat("v", 8000) + "'>text", "<p" + strings.Repeat(" x", 2000),
		"<svg><g id=a><use href=#a></g></svg><label for=b id=b><a href=#c id=c aria-labelledby='c b'>x</a>", // what refers to itself
		"<h1>a</h1>&#x110000;&#0;&#xD800;&notanentity;&lt&amp&" + strings.Repeat("&", 300), "<!--" + strings.Repeat("-", 500), "<![CDATA[" + strings.Repeat("]", 300), "<!doctype " + strings.Repeat("[", 300),
		"<script>" + strings.Repeat("</scrip", 200), "<title><h1>x", "<textarea><h1>", "<plaintext><h1>a</h1>", "<frameset><frame><noframes><h1>x", "<noscript><h1>a</h1><style>b",
		"<table><tr><td rowspan=99999999 colspan=-1>a<td rowspan=65534>b<caption><h3>c</table>", "<ol start=99999999999999999999><li value=-5>a<li value=x>b</ol>",
		"\xff\xfe<\x00h\x001\x00>\x00a\x00", "<meta charset=utf-7><h1>+ADw-h2+AD4-", "<meta charset=utf-16><h1>a</h1><p>b", "<meta http-equiv=content-type content='text/html; charset=iso-2022-jp'><h1>\x1b$B$\x1b(B</h1>x",
		"<h1>a\x00\x1e\r\n</h1><pre>\x1e2 e\x0b</pre><p>\u202e\ufeff\u2028\U000e0001b", "<h1>" + strings.Repeat("\u0301", 400) + "</h1>" + strings.Repeat("\U0001f468\u200d", 100),
		"<h9>a</h9><h1><h2><h3></h1>b</h2>c</h3><h2></h2><h2> </h2><h2>ADVERTISEMENT</h2><p>d", "<body><frameset></body></html><h1>late", "<a><a><a><p><a><table><a>x</table>", strings.Repeat("<p>a<br>\n", 200),
	}
}

func hostileTexts() []string {
	return []string{
		"---\ntitle: [a\n# no end", "# a\n" + strings.Repeat("=", 3000) + "\nb", strings.Repeat("#", 2000) + " a", strings.Repeat("```\n", 300), strings.Repeat("~", 500) + "\nx", strings.Repeat("> ", 500) + "x",
		strings.Repeat("* ", 300) + "x", strings.Repeat("\t", 300) + "x", "99999999999999999999. a\n1) b", strings.Repeat("|", 500) + "\n" + strings.Repeat("|-", 500), strings.Repeat("a\r\r\n", 200),
		"<h1>a</h1>\n# b\n<pre>\n# c", strings.Repeat("a@b.", 300), strings.Repeat("+1 212 ", 200), strings.Repeat("-----BEGIN PRIVATE KEY-----\n", 50), "DE" + strings.Repeat("0", 300), strings.Repeat("4111 ", 200),
		strings.Repeat("Same sentence of five words. ", 60), "# A\n\xe2\x28\xa1\xf0\x9f", "\xfe\xff\x00#\x00 \x00a", "\xef\xbb\xbf# a\n\x00", strings.Repeat("x", 5000), strings.Repeat("word ", 1000), strings.Repeat("\n\n# \n", 300),
		"# a\n" + strings.Repeat("\u00a0\u3000\u200b", 200), strings.Repeat("1.", 700), strings.Repeat("\u0e01", 700), strings.Repeat("!?", 500),
	}
}

func hostileLines() []string {
	return []string{
		`{"text":` + strings.Repeat("[", 12_000), `{"text":` + strings.Repeat(`{"text":`, 3000) + `"a"`, "[" + strings.Repeat("{},", 300), "[[[", "[{]}{[}]", "[\n{\"text\":\"a\"},,,\n]]]\n{", `{"text":"\ud800\udc00\udfff\u0000"}`,
		`{"text":"a","text":"b","TEXT":"c","title":[1]}`, `{"text":1e999}`, `{"text":null}` + "\n" + `{"text":""}`, "{\"text\":\"\xff\xfe\"}", "{\"text\":\"a\nb\"}", "\x00\x00{}", strings.Repeat(" ", 3000) + "{", `{"` + strings.Repeat("k", 3000) + `":1}`,
		`{"text":"` + strings.Repeat("a", 40_000) + "\"}\n{}", `{"text":"` + strings.Repeat(`\\`, 300), "[\"a\",\n{\"text\":\"b\"}]", "{}{}", strings.Repeat("{}\n", 300), "\xef\xbb\xbf\xef\xbb\xbf{}", `{"a.b":{"text":"x"},"a":{"b":"# y\n\nz"}}`,
	}
}

// hostileRecords are seeds whose messages go in circles, twice, or nowhere.
func hostileRecords() []string {
	m := func(id, parent, role string) string {
		return fmt.Sprintf(`{"message_id":"%s","parent_id":%s,"message_tree_id":"t","role":"%s","lang":"en","text":"x","rank":0}`+"\n", id, parent, role)
	}
	return []string{
		m("a", `"a"`, "assistant"), m("a", `"b"`, "prompter") + m("b", `"a"`, "assistant"), m("a", "null", "prompter") + m("a", "null", "prompter") + m("b", `"a"`, "assistant") + m("b", `"a"`, "assistant"),
		m("a", `{}`, "prompter"), `{"prompt":{"message_id":"t","text":"q","replies":[null,{"rank":-1},{"rank":1e9,"text":1}]},"message_tree_id":"t"}`, `{"prompt":null,"message_tree_id":"t"}`,
		`{"message_tree_id":"t","prompt":{"replies":` + strings.Repeat(`[{"replies":`, 2000), `{"messages":[{"role":"user"},{"role":["assistant"],"content":{}}]}`, `{"messages":` + strings.Repeat("[", 11_000),
		`{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":""}]}`, `{"messages":"[{\"role\":\"user\"}]"}`, `{"instruction":{},"output":[]}`, `{"instruction":" ","input":null,"output":"` + strings.Repeat("x", 2500) + `"}`,
		`{"question":"a","answer":"` + "\ufffd" + `","context":7}`, `{"message_id":1,"role":2,"parent_id":3}`,
	}
}

// hostilePacked are compressed files: bombs, members that break off, lengths that lie, headers without end.
func hostilePacked(t testing.TB) []string {
	t.Helper()
	line := gzipOf(t, []byte(`{"text":"# a\n\nbbbbbbb"}`+"\n"))
	wrongSize, wrongSum := bytes.Clone(line), bytes.Clone(line)
	wrongSize[len(wrongSize)-1] ^= 0x40
	wrongSum[len(wrongSum)-7] ^= 1
	named := append([]byte{0x1f, 0x8b, 8, 8 | 16 | 4, 0, 0, 0, 0, 0, 3, 0xff, 0xff}, strings.Repeat("n", 400)...) // extra, name and comment that never end
	return []string{
		string(gzipOf(t, bytes.Repeat([]byte{'a'}, 1<<20))), string(gzipOf(t, gzipOf(t, bytes.Repeat([]byte{'\n'}, 1<<20)))), zstded(t, strings.Repeat("a", 1<<20)), string(line) + string(line), string(line[:len(line)-3]),
		string(line) + "trailing", string(wrongSize), string(wrongSum), string(named), "\x1f\x8b\x08", "\x1f\x8b", strings.Repeat("\x1f\x8b\x08", 100),
		"\x28\xb5\x2f\xfd\x00\xff\x00\x00\x00", "\x28\xb5\x2f\xfd\xa4\xff\xff\xff\x7f\x00", "\x28\xb5\x2f\xfd\x03\x00\x01\x02\x03\x04", // a window of gigabytes, a size that lies, a dictionary
		strings.Repeat("\x50\x2a\x4d\x18\x00\x00\x00\x00", 40), zstded(t, "{}")[:8],
	}
}

// hostileCrawls are records with wrong lengths, headers without end, and bodies that burst.
func hostileCrawls(t testing.TB) []string {
	t.Helper()
	page := page200(1)
	reply := func(headers, body string) string {
		return record("response", "https://example.org/", "application/http; msgtype=response", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"+headers+"\r\n\r\n"+body)
	}
	var br bytes.Buffer
	w := brotli.NewWriter(&br)
	if _, err := w.Write(bytes.Repeat([]byte{'a'}, 1<<19)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	burst := string(gzipOf(t, bytes.Repeat([]byte{'a'}, 1<<19)))
	length := func(n string) string {
		return "WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: " + n + "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n<h1>a"
	}
	return []string{
		length("-1"), length("0"), length("9223372036854775807"), length("99999999999999999999"), length("5\r\nContent-Length: 7"), length("0x10"), length("1000000000"), length("20") + "\r\n\r\n" + page,
		"WARC/1.0\r\n" + strings.Repeat("X: y\r\n", 2000), "WARC/1.0\r\nX: " + strings.Repeat("y", 5000), "WARC/1.0\r\n" + strings.Repeat(" folded\r\n", 500), "WARC/9.9\r\n\r\n", strings.Repeat("WARC/1.0\r\n\r\n", 100), "WARC/", page[:len(page)/2],
		reply("Content-Encoding: gzip", burst), reply("Content-Encoding: br", br.String()), reply("Content-Encoding: zstd", zstded(t, strings.Repeat("a", 1<<19))), reply("Content-Encoding: gzip, gzip, gzip, gzip", burst),
		reply("Content-Encoding: deflate", "\x78\x9c\x00"), reply("Transfer-Encoding: chunked", "ffffffffffffffff\r\na"), reply("Transfer-Encoding: chunked", "-5\r\na"), reply("Transfer-Encoding: chunked", strings.Repeat("1\r\na\r\n", 300)),
		reply("Transfer-Encoding: chunked", "5;"+strings.Repeat("x", 5000)+"\r\nhello\r\n0\r\n"), reply(strings.Repeat("X: y\r\n", 500), "x"), record("response", strings.Repeat("u", 3000), "application/http", "HTTP/1.1 999"), record("conversion", "\xff\x00", "text/plain", "a\x00b"),
		members(t, page[:len(page)-10], page), members(t, strings.Repeat("a", 1<<15), page), string(gzipOf(t, []byte(page)))[:100] + members(t, page), members(t, page) + strings.Repeat("\x1f\x8b\x08", 60),
	}
}

// hostileZips are archives whose directories lie about what is in them.
func hostileZips(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, n := range []string{"../../etc/a.txt", `..\b.html`, "c\x00.md", "\xff\xfe.txt", strings.Repeat("d/", 300) + "e.html", "", "a.txt", "a.txt", ".h.txt", "con.jsonl"} {
		names = append(names, n, "# x\n\ny")
	}
	small := zipOf(t, "a.txt", "# a\n\nbcdefgh", "b.jsonl", `{"text":"x"}`)
	patched := func(signature string, at int, with ...byte) string {
		out := bytes.Clone(small)
		copy(out[bytes.Index(out, []byte(signature))+at:], with)
		return string(out)
	}
	var quoted bytes.Buffer // one file's bytes, named by many entries
	w := zip.NewWriter(&quoted)
	header := &zip.FileHeader{Name: "a.txt", Method: zip.Store, CRC32: crc32.ChecksumIEEE([]byte("# a\n\nb")), CompressedSize64: 6, UncompressedSize64: 6}
	if f, err := w.CreateRaw(header); err != nil {
		t.Fatal(err)
	} else if _, err := f.Write([]byte("# a\n\nb")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	body := quoted.Bytes()
	start := bytes.Index(body, []byte("PK\x01\x02"))
	end := bytes.Index(body, []byte("PK\x05\x06"))
	entry := bytes.Clone(body[start:end])
	over := append(bytes.Clone(body[:start]), bytes.Repeat(entry, 50)...)
	tail := bytes.Clone(body[end:])
	binary.LittleEndian.PutUint16(tail[8:], 50)
	binary.LittleEndian.PutUint16(tail[10:], 50)
	binary.LittleEndian.PutUint32(tail[12:], uint32(50*len(entry))) //nolint:gosec // small
	over = append(over, tail...)
	const local, central, last = "PK\x03\x04", "PK\x01\x02", "PK\x05\x06"
	return []string{
		string(zipOf(t, names...)), string(zipOf(t, "a.txt", strings.Repeat("a", 1<<20))), string(zipOf(t, "a.zip", string(small), "b.tar", "x", "c.jsonl.gz", string(gzipOf(t, bytes.Repeat([]byte{'\n'}, 1<<20))))), string(over),
		patched(central, 20, 0xff, 0xff, 0xff, 0xff), patched(central, 24, 0xff, 0xff, 0xff, 0x7f), patched(central, 42, 0xff, 0xff, 0xff, 0xff), patched(central, 28, 0xff, 0xff), patched(central, 8, 1), patched(central, 10, 99),
		patched(local, 26, 0xff, 0xff), patched(last, 8, 0xff, 0xff, 0xff, 0xff), patched(last, 12, 0xff, 0xff, 0xff, 0xff), patched(last, 16, 0xff, 0xff, 0xff, 0xff), patched(last, 20, 0xff, 0xff), string(small[:len(small)-5]), "PK\x05\x06" + strings.Repeat("\x00", 18), "PK\x03\x04",
	}
}

// hostileTars are archives with sizes, names and extended headers that lie.
func hostileTars(t testing.TB) []string {
	t.Helper()
	header := func(h tar.Header, body string) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		return b.String() + body
	}
	var fixed strings.Builder
	for _, change := range []struct {
		at   int
		with string
	}{{124, "77777777777\x00"}, {124, "-0000000001\x00"}, {124, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}, {124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}, {156, "S"}, {156, "L"}, {156, "K"}, {156, "x"}, {156, "g"}, {0, "\xff\xfe\x00"}, {329, "7777777\x00"}} {
		block := []byte(header(tar.Header{Name: "a.txt", Size: 5, Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatGNU}, ""))
		copy(block[change.at:], change.with)
		copy(block[148:], "        ")
		sum := 0
		for _, c := range block[:512] {
			sum += int(c)
		}
		copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
		fixed.Write(block)
		fixed.WriteString("# a\nb" + strings.Repeat("\x00", 507))
	}
	long := header(tar.Header{Name: strings.Repeat("n/", 700) + "a.txt", Size: 5, Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatPAX}, "# a\nb")
	out := []string{
		string(tarOf(t, "a.html", "<h1>a</h1><p>b", "b/c.txt", "d")), string(sparseTar()), long, strings.Repeat(long[:1024], 5), header(tar.Header{Name: "a", Linkname: "a", Typeflag: tar.TypeSymlink}, ""),
		header(tar.Header{Name: "a.txt", Size: 1 << 40, Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatGNU}, "short"), header(tar.Header{Name: "dev", Typeflag: tar.TypeChar}, ""), strings.Repeat("\x00", 1024), "ustar",
		header(tar.Header{Name: "a.txt", Size: 3, Mode: 0o600, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"GNU.sparse.map": "0,1", "comment": strings.Repeat("c", 2000)}}, "abc"),
		string(tarOf(t, "a.jsonl.gz", string(gzipOf(t, bytes.Repeat([]byte{'\n'}, 1<<20))))), string(gzipOf(t, tarOf(t, "a.txt", strings.Repeat("a", 1<<18)))), string(tarOf(t, "seeds.jsonl", `{"instruction":"a","output":"b"}`)),
	}
	for i := 0; i+1024 <= fixed.Len(); i += 1024 {
		out = append(out, fixed.String()[i:i+1024])
	}
	return out
}
