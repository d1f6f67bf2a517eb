package corpus

import (
	"strings"
	"testing"
)

// filler is prose in which what is looked at stands, as it does on real pages.
const filler = `<p>The workshop has been open for eleven years, and most of what is written here was learned the slow way, by doing it wrong first and asking later.</p>`

// pageWith is a page of a common shape with some markup inside its article.
func pageWith(markup string) string {
	return `<!doctype html><html lang="en"><head><title>Notes - The Workshop</title></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li><li><a href="/shop">Shop</a></li></ul></nav>
<main><article><h1>Notes</h1>` + filler + markup + filler + `</article></main>
<aside><h3>Popular this week</h3><ul><li><a href="/a">Ten tools you need</a></li></ul></aside>
<footer><p>Copyright The Workshop. All rights reserved.</p></footer></body></html>`
}

// between returns what became of the markup of pageWith.
func between(t *testing.T, markup string) string {
	t.Helper()
	var texts []string
	opts := DocumentOptions{Segments: SegmentRules{MinChars: 1, MaxChars: 100_000, RepeatJaccard: -1}}
	for item, err := range Documents(t.Context(), "a.html", strings.NewReader(pageWith(markup)), opts) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Segment == nil {
			t.Fatalf("%+v", item.Reject)
		}
		texts = append(texts, item.Segment.Text)
	}
	plain := strings.TrimSuffix(strings.TrimPrefix(filler, "<p>"), "</p>")
	all := strings.Join(texts, "\n\n")
	for _, gone := range []string{"Home", "About us", "Popular", "Ten tools", "Copyright"} {
		if strings.Contains(all, gone) {
			t.Errorf("furniture is left: %q in\n%s", gone, all)
		}
	}
	before, rest, ok := strings.Cut(all, plain)
	inner, after, also := strings.Cut(rest, plain)
	if !ok || !also || strings.TrimSpace(before+after) != "" {
		t.Fatalf("the prose around is not whole:\n%s", all)
	}
	return strings.Trim(inner, "\n")
}

// Code, lists, tables and quotes come out as text that keeps their shape.
func TestStructureSurvives(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ markup, want string }{
		"code with a language": {
			`<pre><code class="language-go">func main() {
	if a &lt; b &amp;&amp; b != nil {

		fmt.Println("x")
	}
}
</code></pre>`,
			"```go\nfunc main() {\n\tif a < b && b != nil {\n\n\t\tfmt.Println(\"x\")\n\t}\n}\n```",
		},
		"pre with the class": {`<pre class="language-python">print(1)
print(2)</pre>`, "```python\nprint(1)\nprint(2)\n```"},
		"pre alone":            {"<pre>$ make\n  ok</pre>", "```\n$ make\n  ok\n```"},
		"highlighted":          {`<div class="highlight highlight-source-shell"><pre><span class="pl-c1">cd</span> src <span class="pl-k">&amp;&amp;</span> <span>make</span></pre></div>`, "```shell\ncd src && make\n```"},
		"sphinx":               {`<div class="highlight-python notranslate"><div class="highlight"><pre><span></span><span class="k">def</span> <span class="nf">f</span><span class="p">():</span>` + "\n" + `    <span class="k">return</span> <span class="mi">1</span></pre></div></div>`, "```python\ndef f():\n    return 1\n```"},
		"lines broken by br":   {"<pre>one<br>two<br>  three</pre>", "```\none\ntwo\n  three\n```"},
		"a fence inside":       {"<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````"},
		"inline code":          {"<p>Call <code>os.Exit(1)</code> or press <kbd>Ctrl</kbd>+<kbd>C</kbd>, then look at <samp>exit status 1</samp>.</p>", "Call `os.Exit(1)` or press `Ctrl`+`C`, then look at `exit status 1`."},
		"line numbers":         {`<table class="highlighttable"><tr><td class="linenos"><pre>1` + "\n" + `2</pre></td><td class="code"><pre>a = 1` + "\n" + `b = 2</pre></td></tr></table>`, "```\na = 1\nb = 2\n```"},
		"list":                 {"<ul><li>salt</li><li>two <b>large</b> eggs</li><li>flour</li></ul>", "- salt\n- two **large** eggs\n- flour"},
		"numbered":             {"<ol><li>Boil.</li><li>Wait.</li></ol>", "1. Boil.\n2. Wait."},
		"nested":               {"<ul><li>one<ul><li>a</li><li>b<ol><li>deep</li></ol></li></ul></li><li>two</li></ul>", "- one\n  - a\n  - b\n    1. deep\n- two"},
		"items of paragraphs":  {"<ol><li><p>First.</p></li><li><p>Second.</p><p>More of it.</p></li></ol>", "1. First.\n2. Second.\n\n   More of it."},
		"code in a list":       {"<ol><li>Run it:<pre><code>make\nmake test</code></pre></li><li>Done.</li></ol>", "1. Run it:\n\n   ```\n   make\n   make test\n   ```\n2. Done."},
		"table":                {"<table><thead><tr><th>Tool</th><th>Use</th></tr></thead><tbody><tr><td>Saw</td><td>cuts | rips</td></tr><tr><td>Plane</td><td>smooths</td></tr></tbody></table>", "| Tool | Use |\n|---|---|\n| Saw | cuts \\| rips |\n| Plane | smooths |"},
		"table without a head": {"<table><tr><td>Monday</td><td>9</td></tr><tr><td>Tuesday</td><td>10</td></tr></table>", "| Monday | 9 |\n|---|---|\n| Tuesday | 10 |"},
		"table with headers":   {"<table><tr><th>Day</th><th>Hour</th></tr><tr><th>Mon</th><td>9</td></tr></table>", "| Day | Hour |\n|---|---|\n| Mon | 9 |"},
		"table with a caption": {"<table><caption>Opening hours</caption><tr><th>Day</th><th>Hour</th></tr><tr><td>Mon</td><td>9</td></tr></table>", "| Day | Hour |\n|---|---|\n| Mon | 9 |\n\nOpening hours"},
		"paragraphs in cells":  {"<table><tr><th>A</th><th>B</th></tr><tr><td><p>one</p><p>two</p></td><td>x<br>y</td></tr></table>", "| A | B |\n|---|---|\n| one two | x y |"},
		"list in a cell":       {"<table><tr><th>A</th><th>B</th></tr><tr><td><ul><li>one</li><li>two</li></ul></td><td>x</td></tr></table>", "| A | B |\n|---|---|\n| one; two | x |"},
		"spanning cells":       {`<table><tr><th colspan="2">Both</th></tr><tr><td>1</td><td>2</td></tr></table>`, "| Both |  |\n|---|---|\n| 1 | 2 |"},
		"definitions":          {"<dl><dt>Kerf</dt><dd>The width of a cut.</dd><dt>Rip</dt><dd>To cut along the grain.</dd></dl>", "**Kerf**\n\nThe width of a cut.\n\n**Rip**\n\nTo cut along the grain."},
		"quote":                {"<blockquote><p>Measure twice.</p><p>Cut once.</p></blockquote>", "> Measure twice.\n>\n> Cut once."},
		"emphasis":             {"<p>A <em>sharp</em> tool is a <strong>safe</strong> tool, H<sub>2</sub>O and x<sup>2</sup>.</p>", "A *sharp* tool is a **safe** tool, H2O and x2."},
		"links and pictures":   {`<p>See <a href="/x">the plans</a>.</p><figure><img src="a.png" alt="a bench"><figcaption>The bench in 2019</figcaption></figure>`, "See the plans.\n\nThe bench in 2019"},
		"verse":                {"<p>Roses are red,<br>violets are blue,<br>wood is brown.</p>", "Roses are red,\nviolets are blue,\nwood is brown."},
		"details":              {"<details><summary>Why?</summary><p>Because it warps when it dries.</p></details>", "Why?\n\nBecause it warps when it dries."},
		"signs of markdown":    {"<p>2 * 3 * 4, snake_case_name, # not a header, 1. no list, &lt;div&gt;</p>", "2 * 3 * 4, snake_case_name, # not a header, 1. no list, <div>"},
		"mathematics":          {`<p>Then <math><mi>x</mi><mo>=</mo><mn>1</mn></math> holds.</p>`, "Then x=1 holds."},
		"rule":                 {"<p>One.</p><hr><p>Two.</p>", "One.\n\n---\n\nTwo."},
		"list that goes on":    {`<ol start="4"><li>Sand it.</li><li>Oil it.</li></ol>`, "4. Sand it.\n5. Oil it."},
		"list of contents":     {`<ul><li><a href="#a">Saws</a></li><li><a href="#b">Planes</a><ul><li><a href="#c">Jack</a></li></ul></li></ul>`, ""},
		"list of links":        {`<ul><li><a href="/a">Saws</a> cut.</li><li><a href="/b">Planes</a> smooth.</li><li><a href="#c">Jack</a> planes do both.</li></ul>`, "- Saws cut.\n- Planes smooth.\n- Jack planes do both."},
		"bold without an end":  {"<p><b>" + strings.Repeat("It goes on and on. ", 15) + "</b></p>", strings.TrimSpace(strings.Repeat("It goes on and on. ", 15))},
		"prose with signs":     {"<p>If a &lt; b &amp;&amp; b &gt; c, then &amp;amp; is <b>&lt;x&gt;</b>.</p>", "If a < b && b > c, then &amp; is **<x>**."},
		"code in a cell":       {"<table><tr><th>Sign</th><th>Means</th></tr><tr><td><code>a | b</code></td><td>or</td></tr></table>", "| Sign | Means |\n|---|---|\n| `a \\| b` | or |"},
		"checkboxes":           {`<ul><li><input type="checkbox" checked> done</li><li><input type="checkbox"> open</li></ul>`, "- done\n- open"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := between(t, c.markup); got != c.want {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", c.markup, got, c.want)
			}
		})
	}
}

// A page that is laid out by tables loses the menu in its side cell.
func TestMenuInATable(t *testing.T) {
	t.Parallel()
	page := `<html><head><title>Kites</title></head><body><table><tr><td><b>Kite Page</b><br><a href="a">Home</a><br><a href="b">Plans</a><br>
<a href="c">Links</a></td><td><h1>Kites</h1>` + strings.Repeat(filler, 3) + `</td></tr></table></body></html>`
	for item, err := range Documents(t.Context(), "a.html", strings.NewReader(page), DocumentOptions{Segments: SegmentRules{MinChars: 1, RepeatJaccard: -1}}) {
		if err != nil || item.Segment == nil || !strings.HasPrefix(item.Segment.Text, "The workshop") {
			t.Errorf("%+v %+v, %v", item.Segment, item.Reject, err)
		}
	}
}
