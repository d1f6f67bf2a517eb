package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// spice is put into every text of a run: it tries to leave each context that a text is written into.
const spice = `"'><script>alert(1)</script><img src=x onerror=alert(2)></style></title></bdi>--><!--` +
	`<svg onload=alert(3)>{{.}}</pre><a href="javascript:alert(4)">x</a>&lt;script&gt;` + "\u202e\u2066\x1b[31m" + `<iframe srcdoc="x">|` + "`" + `[l](http://evil.example/x)![i](http://evil.example/p)`

// TestForeignTextStaysText reads the page as a browser does and looks for anything that our template does not hold.
func TestForeignTextStaysText(t *testing.T) {
	t.Parallel()
	d := build(t, 420, spice, Options{})
	d.Phase += spice
	d.Teachers = []string{"gpt-4o rated" + spice}
	d.Links = append(d.Links, Link{"l" + spice, "javascript:alert(5)"}, Link{"m", "https://user:pass@host/" + spice}, Link{"n", "data:text/html," + spice})
	var page bytes.Buffer
	if err := HTML(&page, d); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for tag := range strings.FieldsSeq("html head meta title style body header p h1 h2 h3 span strong nav a main section div table thead tbody tfoot tr th td caption figure figcaption svg line text rect g path circle script button label input output noscript link details summary article bdi b code small sub sup cite i br blockquote footer ol li pre") {
		allowed[tag] = true
	}
	whole := page.String()
	if n := strings.Count(whole, "<script>"+scriptText+"</script>"); n != 1 || strings.Count(whole, "<script") != 1 {
		t.Fatalf("our script stands %d times, of %d", n, strings.Count(whole, "<script"))
	}
	z := html.NewTokenizer(&page)
	texts := 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Fatal(z.Err())
			}
			if texts < 50 {
				t.Errorf("the hostile text shows only %d times: the test looks at nothing", texts)
			}
			return
		case html.TextToken:
			if strings.Contains(string(z.Text()), "alert(1)</script>") {
				texts++
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			if !allowed[tok.Data] && tok.Data != "title" {
				t.Fatalf("element <%s> came in: %v", tok.Data, tok)
			}
			for _, a := range tok.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "srcdoc" {
					t.Fatalf("attribute %s=%q came in", a.Key, a.Val)
				}
				if a.Key == "href" && !strings.HasPrefix(a.Val, "#") && a.Val != "http://127.0.0.1:8233/" && a.Val != "data:," {
					t.Errorf("link to %q", a.Val)
				}
				if a.Key == "style" && strings.ContainsAny(a.Val, "({<\"") {
					t.Errorf("style %q", a.Val)
				}
			}
		case html.CommentToken:
			t.Fatalf("a comment came in: %s", z.Text())
		}
	}
}

func TestPageLoadsNothing(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	if err := HTML(&page, build(t, 60, "", Options{})); err != nil {
		t.Fatal(err)
	}
	got := page.String()
	for _, word := range []string{"<script ", `<link rel="s`, "<img", "@import", "url(", "src=", "fetch(", "import(", "XMLHttp", "WebSocket"} {
		if strings.Contains(got, word) {
			t.Errorf("the page has %s", word)
		}
	}
	if !strings.Contains(got, `content="default-src 'none'; style-src 'unsafe-inline'; script-src '`+strings.ReplaceAll(scriptHash(), "+", "&#43;")+`';`) {
		t.Error("the page does not forbid loading")
	}
}

func TestTerminalAndMarkdownAreNotSteered(t *testing.T) {
	t.Parallel()
	d := build(t, 60, spice, Options{})
	d.Teachers = []string{"gpt-4o" + spice}
	d.Message = "line\r\x1b]0;title\x07" + spice
	var text, md bytes.Buffer
	if err := errors.Join(Text(&text, d), Markdown(&md, d)); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text.String(), "\x1b\x07\r\u202e\u2066") {
		t.Error("control characters reach the terminal")
	}
	for _, word := range []string{"<script", "<img", "](http", "://", "\x1b"} {
		if strings.Contains(md.String(), word) {
			t.Errorf("the Markdown has %q", word)
		}
	}
}

// TestSampleOfManyRatings reads a part of the ratings: counts stay exact, lengths and changes are marked.
func TestSampleOfManyRatings(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	in := example(t, st, 420, "")
	full, err := Build(t.Context(), st, in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	part, err := Build(t.Context(), st, in, Options{Scan: 100, PerScore: 2, PerReason: 1, MaxText: 50})
	if err != nil {
		t.Fatal(err)
	}
	if full.Partial || !part.Partial || full.Scanned != in.Rounds[2].Ratings.Rows || part.Scanned < 60 || part.Scanned > 150 {
		t.Errorf("%d of %d read, partial %v", part.Scanned, full.Scanned, part.Partial)
	}
	for i := range full.Sets {
		if full.Sets[i].Rows != part.Sets[i].Rows {
			t.Errorf("%s: %d rows, from a sample %d", full.Sets[i].Name, full.Sets[i].Rows, part.Sets[i].Rows)
		}
	}
	if c := part.Changes[0]; !c.Sampled || c.Rows == 0 || c.Rows >= full.Changes[0].Rows {
		t.Errorf("%+v", c)
	}
	for _, g := range part.Samples {
		if len(g.Pairs) > 2 {
			t.Errorf("%d pairs of score %d", len(g.Pairs), g.Score)
		}
		for _, p := range g.Pairs {
			if n := len([]rune(p.Output)); n > 51 {
				t.Errorf("a text of %d characters", n)
			}
		}
	}
	for _, r := range part.Rejections {
		if len(r.Examples) != 1 {
			t.Errorf("%s: %d examples", r.Reason, len(r.Examples))
		}
	}
	var page bytes.Buffer
	if err := HTML(&page, part); err != nil || !strings.Contains(page.String(), "a fair sample") {
		t.Errorf("the page does not say that it shows a sample, %v", err)
	}
}

func TestFiguresAddUp(t *testing.T) {
	t.Parallel()
	d := build(t, 420, "", Options{})
	for _, f := range d.Flow {
		if f.In != f.Out+f.Rejected {
			t.Errorf("%+v", f)
		}
	}
	var away int64
	for _, r := range d.Rejections {
		away += r.Rows
	}
	var flow int64
	for _, f := range d.Flow {
		flow += f.Rejected
	}
	if away != flow {
		t.Errorf("%d rejected by reason, %d by step", away, flow)
	}
	for _, h := range d.Histograms {
		var n, selected int64
		for _, b := range h.Bars {
			if n += b.Rows; b.Score >= h.Threshold {
				selected += b.Rows
			}
		}
		if n != h.Rows || selected != h.Selected {
			t.Errorf("iteration %d: %d of %d rows in bars, %d of %d selected", h.Iteration, n, h.Rows, selected, h.Selected)
		}
	}
	var cells int64
	for _, row := range d.Changes[0].Matrix {
		for _, n := range row {
			cells += n
		}
	}
	if cells != d.Changes[0].Rows {
		t.Errorf("%d pairs in the matrix, %d seen", cells, d.Changes[0].Rows)
	}
	for _, g := range d.Samples {
		for _, p := range g.Pairs {
			if whole(p.Score) != g.Score || len(p.Before) != 1 || p.Source == "" {
				t.Errorf("%+v in group %d", p, g.Score)
			}
		}
	}
}

// TestRunThatHasNotComeFar makes a report at every point of a run.
func TestRunThatHasNotComeFar(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	whole := example(t, st, 60, "")
	for i, cut := range []func(*Input){
		func(in *Input) { *in = Input{Run: "empty", Phase: "running"} },
		func(in *Input) { *in = Input{Phase: "running", Dir: "runs/none"} },
		func(in *Input) {
			in.Segments, in.Candidates, in.Rounds, in.Stages = dataset.Ref{}, dataset.Ref{}, nil, nil
		},
		func(in *Input) { in.Candidates, in.Rounds, in.Trainings = dataset.Ref{}, nil, nil },
		func(in *Input) { in.Rounds = in.Rounds[:1] },
		func(in *Input) { in.Rounds = in.Rounds[:2]; in.Rounds[1].Training = dataset.Ref{} },
		func(in *Input) { in.Rounds = in.Rounds[1:2] },
	} {
		in := whole
		in.Rounds = append([]Round(nil), whole.Rounds...)
		cut(&in)
		d, err := Build(t.Context(), st, in, Options{})
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if err := errors.Join(HTML(io.Discard, d), Text(io.Discard, d), Markdown(io.Discard, d)); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestDatasetThatIsNotThere(t *testing.T) {
	t.Parallel()
	in := Input{Run: "r", Seeds: dataset.Ref{Kind: dataset.KindSeeds, Dir: "nowhere"}}
	if _, err := Build(t.Context(), s3test.Store(t), in, Options{}); !errors.Is(err, blob.ErrNotFound) || !strings.HasPrefix(err.Error(), "report of r: datasets: ") {
		t.Errorf("%v", err)
	}
}

func TestCostIsNeverGuessed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		u    dataset.Usage
		want string
	}{
		{dataset.Usage{}, "–"},
		{dataset.Usage{Calls: 2, MicroUSD: 1_234_567}, "$1.23"},
		{dataset.Usage{Calls: 2, MicroUSD: 12}, "< $0.0001"},
		{dataset.Usage{Calls: 2}, "$0"},
		{dataset.Usage{Calls: 2, UnknownPrice: 2}, "unknown"},
		{dataset.Usage{Calls: 3, UnknownPrice: 1, MicroUSD: 5_000_000}, "≥ $5.00"},
		{dataset.Usage{Calls: 3, MicroUSD: 1_234_567_000_000}, "$1,234,567"},
	} {
		if got := cost(c.u); got != c.want {
			t.Errorf("%+v: %s, want %s", c.u, got, c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for in, want := range map[int64]string{0: "0 0", 999: "999 999", 1000: "1,000 1k", 1234: "1,234 1.2k", 99_960: "99,960 100k", 502_133: "502,133 502k", 999_960: "999,960 1M", -1234567: "-1,234,567 -1234567"} {
		if got := num(in) + " " + compact(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[float64]string{0: "0 %", 0.0004: "< 0.1 %", 0.036: "3.6 %", 0.5: "50 %", 1: "100 %"} {
		if got := percentOf(in); got != want {
			t.Errorf("%g: %s, want %s", in, got, want)
		}
	}
	if got := fmt.Sprint(whole(4.5), whole(4.49), whole(0), whole(9)); got != "5 4 1 5" {
		t.Error(got)
	}
}

// TestPageIsBounded: whatever the rows hold, the page stays of a size that a phone opens.
func TestPageIsBounded(t *testing.T) {
	t.Parallel()
	d := build(t, 420, strings.Repeat(`<"&'`, 3_000), Options{Scan: 300})
	var page bytes.Buffer
	if err := HTML(&page, d); err != nil {
		t.Fatal(err)
	}
	if page.Len() > 8<<20 {
		t.Errorf("a page of %d bytes", page.Len())
	}
}
