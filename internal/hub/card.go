package hub

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Card is what a dataset's README.md says of how it came to be. Empty fields leave their part of the page out.
type Card struct {
	Title       string
	Description string   // Markdown of our own making; never text from rows or models
	License     string   // the Hub's identifier, such as apache-2.0; "" writes other
	Languages   []string // ISO codes
	Tags        []string // more tags
	Tasks       []string // task categories; nil is text-generation
	Distilled   bool     // texts come from models whose terms may bind their use

	Configs []CardConfig

	Method  []string          // one sentence each, in order
	Models  []CardModel       // who wrote what
	Prompts map[string]string // task → template id, such as rate@1-3fa2b1c4
	Counts  []CardCount       // rows from input to output
	Scores  map[string]int64  // score → rows
	Sources []string          // where the texts come from, with their licences
	Lineage []CardLink        // datasets and models that this one was made from
	Samples []CardSample

	SpecName string // such as run.yaml
	Spec     string // the spec itself: all that is needed to make it again
	Run      string
	Version  string // of the program
}

// CardConfig is one config (subset), in the order in which the Hub shows them.
type CardConfig struct {
	Name    string
	Default bool
	Splits  []CardSplit
}

// CardSplit is a split of a config.
type CardSplit struct {
	Name string
	Path string // glob of its files; "" is ShardGlob(config, split)
	Rows int64
}

// CardModel is a model that had a part in the dataset.
type CardModel struct {
	Role, Name, Revision string
}

// CardCount is a step of the way from input to output.
type CardCount struct {
	Step       string
	In, Out    int64
	Rejected   int64
	MostCommon string // reasons, as text
}

// CardLink is a thing that the dataset was made from.
type CardLink struct {
	What, Name, Digest string
}

// CardSample is a row shown on the card: fields in order.
type CardSample struct {
	Fields [][2]string // name, text
}

// ShardPath names the n-th of all files of a split, as the datasets library does: CONFIG/SPLIT-00000-of-00003.parquet,
// and data/… for the config called default.
func ShardPath(config, split string, n, all int) string {
	return fmt.Sprintf("%s/%s-%05d-of-%05d.parquet", ConfigDir(config), split, n, all)
}

// ShardGlob matches every file that ShardPath names for a split.
func ShardGlob(config, split string) string { return ConfigDir(config) + "/" + split + "-*" }

// ConfigDir is the folder of a config's files.
func ConfigDir(config string) string {
	if config == "" || config == "default" {
		return "data"
	}
	return config
}

// Validate finds what the Hub or the datasets library would refuse.
func (c Card) Validate() error {
	names, defaults := map[string]bool{}, 0
	for _, conf := range c.Configs {
		switch {
		case !configRE.MatchString(conf.Name) || strings.HasPrefix(conf.Name, ".") || strings.HasPrefix(conf.Name, "__"):
			return fmt.Errorf("card: config %q: expected a name without any of <>:\"/\\|?* that can be a folder", conf.Name)
		case names[conf.Name]:
			return fmt.Errorf("card: config %q is there twice", conf.Name)
		case len(conf.Splits) == 0:
			return fmt.Errorf("card: config %q has no split", conf.Name)
		}
		names[conf.Name] = true
		if conf.Default || conf.Name == "default" {
			defaults++
		}
		splits := map[string]bool{}
		for _, s := range conf.Splits {
			if !splitRE.MatchString(s.Name) || splits[s.Name] {
				return fmt.Errorf("card: config %q: split %q: expected letters, digits and '_', once", conf.Name, s.Name)
			}
			splits[s.Name] = true
		}
	}
	if defaults > 1 {
		return fmt.Errorf("card: %d default configs, expected one at most", defaults)
	}
	return nil
}

// README writes the card. Equal cards give equal bytes.
func (c Card) README() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var b strings.Builder
	c.frontMatter(&b)
	c.body(&b)
	return []byte(b.String()), nil
}

func (c Card) frontMatter(b *strings.Builder) {
	b.WriteString("---\n")
	fmt.Fprintf(b, "license: %s\n", yamlText(cmp.Or(c.License, "other")))
	if c.Title != "" {
		fmt.Fprintf(b, "pretty_name: %s\n", yamlText(c.Title))
	}
	yamlList(b, "language", c.Languages)
	tasks := c.Tasks
	if tasks == nil {
		tasks = []string{"text-generation"}
	}
	yamlList(b, "task_categories", tasks)
	if size := sizeCategory(c.rows()); size != "" {
		yamlList(b, "size_categories", []string{size})
	}
	tags := []string{"selfalign", "synthetic"}
	if c.Distilled {
		tags = append(tags, "distilled")
	}
	for _, t := range c.Tags {
		if !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	yamlList(b, "tags", tags)
	if len(c.Configs) > 0 {
		b.WriteString("configs:\n")
	}
	for _, conf := range c.Configs {
		fmt.Fprintf(b, "- config_name: %s\n", yamlText(conf.Name))
		if conf.Default {
			b.WriteString("  default: true\n")
		}
		b.WriteString("  data_files:\n")
		for _, s := range conf.Splits {
			fmt.Fprintf(b, "  - split: %s\n    path: %s\n", yamlText(s.Name), yamlText(cmp.Or(s.Path, ShardGlob(conf.Name, s.Name))))
		}
	}
	b.WriteString("---\n")
}

func (c Card) rows() int64 {
	n := int64(0)
	for _, conf := range c.Configs {
		for _, s := range conf.Splits {
			n += s.Rows
		}
	}
	return n
}

// sizeCategory returns the Hub's word for a number of rows.
func sizeCategory(rows int64) string {
	if rows <= 0 {
		return ""
	}
	steps := []struct {
		below int64
		name  string
	}{
		{1e3, "n<1K"},
		{1e4, "1K<n<10K"},
		{1e5, "10K<n<100K"},
		{1e6, "100K<n<1M"},
		{1e7, "1M<n<10M"},
		{1e8, "10M<n<100M"},
		{1e9, "100M<n<1B"},
	}
	for _, s := range steps {
		if rows < s.below {
			return s.name
		}
	}
	return "n>1B"
}

func (c Card) body(b *strings.Builder) {
	fmt.Fprintf(b, "\n# %s\n", inlineText(cmp.Or(c.Title, "Dataset")))
	if c.Description != "" {
		fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(c.Description))
	}
	if c.Distilled {
		b.WriteString("\n> **Distilled.** Texts or scores in this dataset were written by the models below. The terms of those models may limit what the dataset may be used for, training other models included.\n")
	}
	if len(c.Configs) > 0 {
		b.WriteString("\n## Contents\n")
		table(b, []string{"config", "split", "rows"}, func(row func(...string)) {
			for _, conf := range c.Configs {
				for _, s := range conf.Splits {
					row(conf.Name, s.Name, thousands(s.Rows))
				}
			}
		})
	}
	if len(c.Method) > 0 {
		b.WriteString("\n## How it was made\n\n")
		for i, m := range c.Method {
			fmt.Fprintf(b, "%d. %s\n", i+1, inlineText(m))
		}
	}
	if len(c.Models) > 0 {
		b.WriteString("\n### Models\n")
		table(b, []string{"part", "model", "revision"}, func(row func(...string)) {
			for _, m := range c.Models {
				row(m.Role, m.Name, m.Revision)
			}
		})
	}
	if len(c.Prompts) > 0 {
		b.WriteString("\n### Prompts\n")
		table(b, []string{"task", "template"}, func(row func(...string)) {
			for _, task := range slices.Sorted(maps.Keys(c.Prompts)) {
				row(task, c.Prompts[task])
			}
		})
	}
	if len(c.Counts) > 0 {
		b.WriteString("\n## From input to output\n")
		table(b, []string{"step", "in", "kept", "rejected", "most common reasons"}, func(row func(...string)) {
			for _, n := range c.Counts {
				row(n.Step, thousands(n.In), thousands(n.Out), thousands(n.Rejected), n.MostCommon)
			}
		})
	}
	c.histogram(b)
	c.origins(b)
	c.samples(b)
	c.reproduce(b)
}

func (c Card) histogram(b *strings.Builder) {
	most := int64(0)
	for _, n := range c.Scores {
		most = max(most, n)
	}
	if most == 0 {
		return
	}
	b.WriteString("\n## Scores\n")
	table(b, []string{"score", "rows", ""}, func(row func(...string)) {
		for _, score := range slices.Sorted(maps.Keys(c.Scores)) {
			n := c.Scores[score]
			const width = 30
			row(score, thousands(n), strings.Repeat("█", int((n*width+most-1)/most)))
		}
	})
}

func (c Card) origins(b *strings.Builder) {
	if len(c.Sources) > 0 {
		b.WriteString("\n## Sources and licences\n\n")
		for _, s := range c.Sources {
			fmt.Fprintf(b, "- %s\n", inlineText(s))
		}
	}
	if len(c.Lineage) > 0 {
		b.WriteString("\n## Lineage\n")
		table(b, []string{"what", "name", "digest"}, func(row func(...string)) {
			for _, l := range c.Lineage {
				row(l.What, l.Name, l.Digest)
			}
		})
	}
}

const (
	maxSamples = 10
	maxField   = 1200 // characters of a sample's field
)

func (c Card) samples(b *strings.Builder) {
	if len(c.Samples) == 0 {
		return
	}
	b.WriteString("\n## Sample rows\n")
	for i, s := range c.Samples[:min(len(c.Samples), maxSamples)] {
		fmt.Fprintf(b, "\n### Row %d\n", i+1)
		for _, f := range s.Fields {
			fmt.Fprintf(b, "\n%s:\n\n%s", inlineText(f[0]), fenced("text", shorten(f[1], maxField)))
		}
	}
}

func (c Card) reproduce(b *strings.Builder) {
	if c.Spec == "" && c.Run == "" {
		return
	}
	b.WriteString("\n## How to make it again\n")
	if c.Run != "" {
		fmt.Fprintf(b, "\nRun: %s", inlineText(c.Run))
		if c.Version != "" {
			fmt.Fprintf(b, ", version %s", inlineText(c.Version))
		}
		b.WriteString("\n")
	}
	if c.Spec != "" {
		fmt.Fprintf(b, "\n%s:\n\n%s", inlineText(cmp.Or(c.SpecName, "spec.yaml")), fenced("yaml", c.Spec))
	}
}
