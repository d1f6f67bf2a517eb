package endtoend

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// prose is a text of some 900 characters, each sentence and each number its own.
func prose(n int) string {
	words := strings.Fields("river stone lamp window garden letter harbour engine market winter ladder basket copper meadow signal pencil")
	var b strings.Builder
	for i := range 12 {
		at := func(k int) string { return words[(n*7+i*k+k)%len(words)] }
		fmt.Fprintf(&b, "In part %d of story %d the %s stood beside a %s, and a %s was carried to the %s. ", i, n, at(3), at(5), at(7), at(11))
	}
	return b.String()
}

func inGzip(t *testing.T, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, part := range parts { // a member each
		w := gzip.NewWriter(&b)
		_, err := w.Write([]byte(part))
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	return b.Bytes()
}

func crawlPage(n int) string {
	block := "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><head><title>Stories</title></head><body><article><h1>Story " +
		fmt.Sprint(n) + "</h1><p>" + prose(n) + "</p></article></body></html>"
	return fmt.Sprintf("WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://example.org/%d\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n", n, len(block), block)
}

func textLine(t *testing.T, n int) string {
	t.Helper()
	line, err := json.Marshal(map[string]string{"text": fmt.Sprintf("# Story %d\n\n%s", n, prose(n))})
	require.NoError(t, err)
	return string(line) + "\n"
}

type questionRow struct {
	Question string `parquet:"question"`
	Answer   string `parquet:"answer"`
}

type pageRow struct {
	Content string `parquet:"content"`
}

func parquetOf[T any](t *testing.T, rows []T) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, parquet.Write(&b, rows))
	return b.Bytes()
}

func inZip(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var zipped bytes.Buffer
	w := zip.NewWriter(&zipped)
	for name, body := range files {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write(body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return zipped.Bytes()
}

// crawlSite answers over TLS as a host of a crawl and of single files does. One file of the crawl it refuses.
func crawlSite(t *testing.T) *httptest.Server {
	t.Helper()
	all := map[string][]byte{"in/crawl.warc.gz": inGzip(t, crawlPage(20), crawlPage(21)), "lines.jsonl.gz": inGzip(t, textLine(t, 22)+"{broken\n"), "logo.png": []byte("\x89PNG")}
	more := map[string][]byte{"in/pairs.jsonl.gz": inGzip(t, `{"instruction":"Name a bird.","output":"A wren is one."}`+"\n"), "README.md": []byte("# Seeds")}
	files := map[string][]byte{
		"/data/seeds.jsonl":        []byte(`{"instruction":"Name a tree.","output":"An oak is one."}` + "\n{broken\n"),
		"/data/more.zip":           inZip(t, more),
		"/data/eval.jsonl":         []byte(`{"question":"Which of the seven old bridges over the river was built first, and by whom?"}` + "\n"),
		"/data/all.zip":            inZip(t, all),
		"/lists/warc.paths.gz":     inGzip(t, "crawl/1.warc.gz\ncrawl/2.warc.gz\ncrawl/lost.warc.gz\ncrawl/refused.warc.gz\n"),
		"/cc/crawl/1.warc.gz":      inGzip(t, crawlPage(1), crawlPage(2), crawlPage(3)),
		"/cc/crawl/2.warc.gz":      inGzip(t, crawlPage(4), crawlPage(5), crawlPage(1)),
		"/elsewhere/private.jsonl": []byte(textLine(t, 99)),
	}
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := files[r.URL.Path]
		if strings.Contains(r.URL.Path, "refused") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, len(body)))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	t.Cleanup(site.Close)
	return site
}

const sourcesSpec = `
name: short
seeds:
  - {path: "hf://ann/pairs", split: train, instruction: question, output: answer}
  - {path: "%[1]s/data/seeds.jsonl"}
  - {path: "%[1]s/data/more.zip"}
documents:
  - {path: "hf://ann/pages", text: content}
  - {path: "%[1]s/data/all.zip"}
  - {path: "%[1]s/lists/warc.paths.gz"}
decontaminate: {sets: [{name: bridges, path: "%[1]s/data/eval.jsonl"}]}
data: {min_partitions: 2}
model: {base: pocketlm-base, trainer: pocketlm, server: pocketlm, provider: pocketlm}
augment: {max_tokens: 64, in_flight: 8}
rate: {max_tokens: 96, in_flight: 8, calibration: {pairs: 4}}
curate: {threshold: 1}
iterations: 1
`

// TestSourcesElsewhere trains from a private dataset of the Hub, another one, a zip over HTTPS and a paths list of a crawl, with the
// commands that a user types: what plan counts is what the run finds.
func TestSourcesElsewhere(t *testing.T) {
	t.Parallel()
	remote, err := hubtest.Start(hubtest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = remote.Close() })
	token := "hf_" + t.Name()
	remote.AddToken(token, hubtest.Account{User: "ann"})
	remote.AddRepo("ann/pairs", true, false)
	remote.AddRepo("ann/pages", false, false)
	var asked []questionRow
	for i := range 12 {
		asked = append(asked, questionRow{fmt.Sprintf("What is %d and %d?", i, i), fmt.Sprintf("It is %d, as everybody can count.", 2*i)})
	}
	var pages []pageRow
	for i := 10; i < 16; i++ {
		pages = append(pages, pageRow{fmt.Sprintf("# Story %d\n\n%s", i, prose(i))})
	}
	pinned := remote.Put("ann/pairs", "main", map[string][]byte{"data/train-00000-of-00001.parquet": parquetOf(t, asked)})
	remote.Put("ann/pages", "main", map[string][]byte{"data/train-00000-of-00001.parquet": parquetOf(t, pages)})
	site := crawlSite(t)

	l := newLab(t)
	authority := filepath.Join(l.dir, "authority.pem")
	require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o600))
	env := fmt.Sprintf("E2E_HUB_SOURCES_%d", time.Now().UnixNano())
	l.secrets["Hub token"] = token
	l.more = fmt.Sprintf("\nhub: {endpoint: %q, token_env: %s}\nsources: {https: [%q, %q], paths_base: %q}\n",
		remote.URL(), env, site.URL+"/data/", site.URL+"/lists/", site.URL+"/cc/")
	l.moreEnv = []string{env + "=" + token, "SSL_CERT_FILE=" + authority}
	l.work(wiring{})
	spec := filepath.Join(l.dir, "run.yaml")
	require.NoError(t, os.WriteFile(spec, fmt.Appendf(nil, sourcesSpec, site.URL), 0o600))
	starter := l.starter()

	settings := filepath.Join(l.dir, "starter.yaml")
	out, err := starter("plan", "-f", spec, "-w", settings, "--json")
	require.NoError(t, err, out)
	var planned struct {
		Seeds    struct{ Rows int64 } `json:"seeds"`
		Segments struct{ Rows int64 } `json:"segments"`
	}
	t.Logf("%s", out)
	require.NoError(t, json.Unmarshal([]byte(out), &planned))

	for _, source := range []struct {
		args []string
		says []string
	}{
		{[]string{"hf://ann/pages", "--text", "content"}, []string{"6 kept"}},
		{[]string{"hf://ann/pairs", "--seeds", "--instruction", "question", "--output", "answer"}, []string{"12 kept"}},
		{[]string{site.URL + "/data/all.zip"}, []string{"3 kept", "in/crawl.warc.gz#https://example.org/20", "lines.jsonl.gz#1", "not_text", "bad_record"}},
		{[]string{site.URL + "/lists/warc.paths.gz"}, []string{"5 kept", "missing_file", "unreadable_file", "HTTP 403", "duplicate"}},
	} {
		out, err := starter(append([]string{"ingest", "-w", settings, "--explain"}, source.args...)...)
		require.NoError(t, err, out)
		t.Logf("%s", out)
		for _, text := range source.says {
			require.Contains(t, out, text)
		}
	}
	out, err = starter("ingest", "-w", settings, "--explain", site.URL+"/elsewhere/private.jsonl")
	require.ErrorContains(t, err, "exit status 2", out)
	require.Contains(t, out, "sources.https")

	out, err = starter("start", "-f", spec, "-w", settings)
	require.NoError(t, err, out)
	l.await("the end", func(s runs.Seen) bool { return s.Phase == workflows.PhaseCompleted && s.Live })
	st := l.client.Store
	seeds, _, err := dataset.Open(t.Context(), st, setDir("00/seeds"))
	require.NoError(t, err)
	require.Equal(t, []int64{14, 2}, []int64{seeds.Rows, seeds.Rejected})
	require.Equal(t, map[string]int64{"bad_record": 1, "not_records": 1}, seeds.Reasons)
	require.Len(t, seeds.Origins, 3)
	require.Equal(t, pinned, seeds.Origins[0].Commit)
	segments, _, err := dataset.Open(t.Context(), st, setDir("00/segments"))
	require.NoError(t, err)
	require.Equal(t, int64(14), segments.Rows, "6 of the Hub, 3 of the zip, 5 of the crawl: %v", segments.Reasons)
	require.Equal(t, map[string]int64{"duplicate": 1, "bad_record": 1, "not_text": 1, "missing_file": 1, "unreadable_file": 1}, segments.Reasons)
	candidates, _, err := dataset.Open(t.Context(), st, setDir("00/candidates"))
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"bridges": 0}, candidates.Contaminated, "instructions were held against the evaluation set")
	require.Equal(t, []int64{14, 14}, []int64{planned.Seeds.Rows, planned.Segments.Rows - 1}, "what plan counts, which knows no duplicates")
	from := map[string]int{}
	for _, s := range rowsOf[dataset.Segment](t, st, "00/segments") {
		from[s.Source]++
	}
	require.Len(t, from, 4, "%v", from)
	l.checkSecrets(runName)
}

// starter builds the starter and returns what runs it, with what it prints, and what it complains of where it fails.
func (l *lab) starter() func(args ...string) (string, error) {
	t := l.t
	t.Helper()
	root, err := gobuild.Root()
	require.NoError(t, err)
	binary := filepath.Join(l.dir, "starter")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./starter")
	build.Dir = root
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))
	return func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Dir = l.dir
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if t.Logf("starter %s\n%s", strings.Join(args, " "), said.String()); err != nil {
			out = append(out, said.Bytes()...)
		}
		return string(out), err
	}
}
