package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/starter/screen"
)

type explainCmd struct {
	asJSON
	settings
	Source      string `arg:"" help:"Documents, or seeds with --seeds, as path of a spec has them: a local file, folder or pattern, s3://, hf:// or https://."`
	Config      string `placeholder:"NAME" help:"hf://: config."`
	Split       string `placeholder:"NAME" help:"hf://: split."`
	Revision    string `placeholder:"NAME" help:"hf://: branch, tag or commit."`
	Limit       int    `placeholder:"N" help:"Files to read at most (default: all)."`
	Documents   int    `placeholder:"N" help:"Documents to read at most (default: all of local files, 100 of others)."`
	Seeds       bool   `help:"Read seed pairs in place of documents."`
	Spec        string `short:"f" placeholder:"FILE" help:"Take the rules of segments from this run spec (default: the defaults)."`
	Format      string `default:"auto" placeholder:"FORMAT" help:"Format of the source, as in a spec (default: ${default})."`
	Text        string `default:"text" placeholder:"FIELD" help:"Field or column of a document's text (default: ${default})."`
	Instruction string `default:"instruction" placeholder:"FIELD" help:"Field or column of a seed's instruction (default: ${default})."`
	Output      string `default:"output" placeholder:"FIELD" help:"Field or column of a seed's output (default: ${default})."`
	Language    string `default:"en" placeholder:"CODE" help:"Language kept, any for all (default: ${default})."`
	Explain     bool   `hidden:""` // starter ingest --explain SOURCE, as it was called
	Most        int    `default:"500" placeholder:"N" help:"Pieces to print; all are counted (default: ${default}; 0: all)."`
}

// Help teaches by example.
func (explainCmd) Help() string {
	return `
Shows what would become of each piece of a source: the segments kept, with their lengths, and what is turned away, with the reason. Nothing is uploaded or written. Near-duplicates are only known among all sources, so they are not shown.

Examples:

    starter explain page.html
    starter explain crawl.warc.gz -f run.yaml --most 50
    starter explain pages/ --json | jq .reasons
    starter explain alpaca.json --seeds
    starter explain hf://owner/name --split train --text content --documents 20
    starter explain 's3://bucket/crawl/**/*.warc.gz' -w worker.yaml --limit 1
`
}

// piece is one row of what came out of a source.
type piece struct {
	Source   string `json:"source"`
	Document string `json:"document"`
	Offset   int64  `json:"offset"`
	Kept     bool   `json:"kept"`
	Reason   string `json:"reason,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Header   string `json:"header,omitempty"`
	Chars    int    `json:"chars"`
	Begins   string `json:"begins"`

	Masked map[string]int64 `json:"masked,omitempty"` // placeholders in the text, by kind
}

// explained is what a source comes to.
type explained struct {
	Files     int              `json:"files"`
	Documents int              `json:"documents"`
	Kept      int64            `json:"kept"`
	KeptChars int64            `json:"kept_chars"`
	Rejected  int64            `json:"rejected"`
	Reasons   map[string]int64 `json:"reasons"`
	Masked    map[string]int64 `json:"masked,omitempty"`
	Pieces    []piece          `json:"pieces"`
	Hidden    int64            `json:"hidden,omitempty"` // pieces counted and not listed

	unit string // what a document is: a document, or a record of seeds
}

// Run is the command.
func (c *explainCmd) Run(a *app) error {
	rules := config.DefaultRun().Segments
	var contaminated func(string) []corpus.Hit
	if c.Spec != "" {
		spec, err := config.LoadRun(c.Spec)
		if err != nil {
			return err
		}
		rules = spec.Segments
		if !c.Seeds {
			if contaminated, err = localIndex(a, spec, filepath.Dir(c.Spec)); err != nil {
				return err
			}
		}
	}
	source := config.Source{
		Path: c.Source, Format: c.Format, Config: c.Config, Split: c.Split, Revision: c.Revision, Limit: c.Limit,
	}
	worker := config.DefaultWorker()
	if _, err := os.Stat(c.Worker); err == nil || !source.Local() && c.Worker != "worker.yaml" {
		if worker, err = c.settings.load(); err != nil {
			return err
		}
	}
	files, format, err := filesOf(a.ctx, source, "", worker)
	if err != nil {
		return err
	}
	c.Format = format
	most := c.Documents
	if most == 0 && !source.Local() {
		most = 100
	}
	out := explained{unit: "document", Files: len(files), Reasons: map[string]int64{}, Pieces: []piece{}}
	seen := map[string]bool{}
	last := [2]string{}
reading:
	for _, f := range files {
		for item, err := range c.read(a, f.File, rules, contaminated) {
			var column *corpus.ColumnError
			if errors.As(err, &column) {
				return usage(err.Error())
			}
			if err != nil {
				return fmt.Errorf("explain: %w", err)
			}
			p := pieceOf(item, seen)
			if at := [2]string{p.Source, p.Document}; at != last {
				if most > 0 && out.Documents == most {
					a.warn("only %d documents were read. Try: --documents N for more", most)
					break reading
				}
				out.Documents++
				last = at
			}
			out.add(p, c.Most)
		}
	}
	if c.JSON {
		return a.print(out)
	}
	if c.Seeds {
		out.unit = "record"
	}
	return out.write(a)
}

func (c *explainCmd) read(a *app, file intake.File, rules config.Segments, contaminated func(string) []corpus.Hit) func(func(corpus.Item, error) bool) {
	if c.Seeds {
		return intake.Seeds(a.ctx, file, corpus.SeedOptions{
			Format: c.Format, Instruction: c.Instruction, Output: c.Output, Language: c.Language,
		})
	}
	return intake.Documents(a.ctx, file, corpus.DocumentOptions{
		Format: c.Format, Text: c.Text, Language: c.Language, Segments: corpus.SegmentRules(rules), Contaminated: contaminated,
	})
}

// pieceOf describes a row. A text that came before is a duplicate, which ingest finds when it merges.
func pieceOf(item corpus.Item, seen map[string]bool) piece {
	var p piece
	var id, text string
	switch {
	case item.Segment != nil:
		s := item.Segment
		id, text = s.ID, s.Text
		p = piece{Source: s.Source, Document: s.Document, Offset: s.Offset, Kept: true, Header: s.Header}
	case item.Seed != nil:
		s := item.Seed
		id, text = s.ID, s.Output
		p = piece{Source: s.Source, Document: s.Document, Offset: s.Offset, Kept: true, Header: clip(s.Instruction, 80)}
	default:
		r := item.Reject
		text = r.Text
		p = piece{Source: r.Source, Document: r.Document, Offset: r.Offset, Reason: r.Reason, Detail: r.Detail, Header: clip(r.Instruction, 80)}
	}
	if p.Kept && seen[id] {
		p.Kept, p.Reason, p.Detail = false, "duplicate", "the same text came before"
	}
	if id != "" {
		seen[id] = true
	}
	p.Masked = item.Masked
	p.Chars, p.Begins = utf8.RuneCountInString(text), clip(text, 80)
	return p
}

// clip returns the beginning of a text on one line.
func clip(text string, chars int) string {
	line := []rune(strings.Join(strings.Fields(text[:min(len(text), 8*chars)]), " "))
	if len(line) > chars {
		return string(line[:chars-1]) + "…"
	}
	return string(line)
}

func (e *explained) add(p piece, most int) {
	if p.Kept {
		e.Kept++
		e.KeptChars += int64(p.Chars)
	} else {
		e.Rejected++
		e.Reasons[p.Reason]++
	}
	for kind, n := range p.Masked {
		if e.Masked == nil {
			e.Masked = map[string]int64{}
		}
		e.Masked[kind] += n
	}
	if most > 0 && len(e.Pieces) >= most {
		e.Hidden++
		return
	}
	e.Pieces = append(e.Pieces, p)
}

// length is what is known of a piece's length: of a document that was turned away whole nothing, of a long reject its beginning.
func (p piece) length() string {
	switch {
	case p.Chars == 0:
		return "–"
	case !p.Kept && p.Chars >= corpus.RejectTextChars:
		return fmt.Sprintf("%d+", p.Chars)
	}
	return strconv.Itoa(p.Chars)
}

func (e *explained) write(a *app) error {
	last := [2]string{}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	for _, p := range e.Pieces {
		if at := [2]string{p.Source, p.Document}; at != last {
			if err := w.Flush(); err != nil {
				return err
			}
			last = at
			a.say("%s", strings.TrimSuffix(p.Source+": "+p.Document, ": "+filepath.Base(p.Source)))
		}
		what, why := "kept", p.Begins
		if !p.Kept {
			what = p.Reason
			if p.Detail != "" {
				why = p.Detail
			}
		}
		head := ""
		if p.Header != "" {
			head = clip(p.Header, 40)
		}
		if len(p.Masked) > 0 {
			what += ", masked: " + counts(p.Masked)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", what, p.length(), head, clip(why, 100))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if e.Hidden > 0 {
		a.say("… and %s pieces more. Try: --most 0", screen.Count(e.Hidden))
	}
	mean := int64(0)
	if e.Kept > 0 {
		mean = e.KeptChars / e.Kept
	}
	each := ""
	if e.Kept > 0 {
		each = fmt.Sprintf(", %s characters each on average", screen.Count(mean))
	}
	a.say("%s kept%s; %s rejected, in %s of %s", screen.Count(e.Kept), each, screen.Count(e.Rejected),
		plural(int64(e.Documents), e.unit), plural(int64(e.Files), "file"))
	for _, reason := range byCount(e.Reasons) {
		a.say("  %s  %s", screen.Count(e.Reasons[reason]), reason)
	}
	if len(e.Masked) > 0 {
		a.say("masked: %s", counts(e.Masked))
	}
	return nil
}

// plural writes a count with its noun.
func plural(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return screen.Count(n) + " " + noun
}

// byCount returns the keys, those of the highest counts first.
func byCount(of map[string]int64) []string {
	keys := slices.Collect(maps.Keys(of))
	slices.SortFunc(keys, func(x, y string) int {
		return cmp.Or(cmp.Compare(of[y], of[x]), strings.Compare(x, y))
	})
	return keys
}

// counts writes counts in words, such as "2 email, 1 phone".
func counts(of map[string]int64) string {
	var b strings.Builder
	for _, key := range byCount(of) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", screen.Count(of[key]), key)
	}
	return b.String()
}
