package config

import "fmt"

// What becomes of text that is longer than a segment may be and has no lower headers by which to open it.
const (
	// LongReject turns it away, as the paper does.
	LongReject = "reject"
	// LongCut cuts it between paragraphs.
	LongCut = "cut"
)

// Segments are the rules by which documents are cut and cleaned (paper, section 3.1 and appendix). The rules from signs on are
// off by default; they follow REInstruct (Chen et al., Findings of ACL 2024), whose values are named with each.
type Segments struct {
	// Shorter segments are rejected; in characters. REInstruct: 1200.
	MinChars int `yaml:"min_chars" json:"min_chars" jsonschema:"minimum=1,maximum=1000000"`
	// Longer segments are rejected or cut; in characters.
	MaxChars int `yaml:"max_chars" json:"max_chars" jsonschema:"minimum=1,maximum=1000000"`
	// Text above max_chars without lower headers: reject (the paper keeps texts of 600 to 3,000 characters and cuts none) or cut (between paragraphs, into parts of about equal length under the same header).
	Long string `yaml:"long" json:"long,omitempty" jsonschema:"enum=reject,enum=cut"`
	// Words in an n-gram when two sentences are compared. The paper names no value.
	RepeatNGram int `yaml:"repeat_ngram" json:"repeat_ngram" jsonschema:"minimum=1,maximum=20"`
	// A segment with two sentences whose n-grams have a Jaccard similarity above this is rejected as repetitive. The paper names no value.
	RepeatJaccard float64 `yaml:"repeat_jaccard" json:"repeat_jaccard" jsonschema:"exclusiveMinimum=0,maximum=1"`
	// A segment whose header has a larger share of capitals among its letters is rejected. The paper names no value.
	UppercaseRatio float64 `yaml:"uppercase_ratio" json:"uppercase_ratio" jsonschema:"exclusiveMinimum=0,maximum=1"`
	// Segments under a header that contains one of these phrases are rejected; case does not matter. Absent: a list of its own, the paper's four and their kin. An empty list: none.
	Navigation []string `yaml:"navigation" json:"navigation" jsonschema:"maxItems=1000"`
	// Languages that are kept, as ISO 639-1 codes; any for all. Absent: for each source the one that it names.
	Languages []string `yaml:"languages" json:"languages,omitempty" jsonschema:"maxItems=100,uniqueItems=true"`
	// A segment in another language is rejected when the detector is at least this confident of it.
	LanguageConfidence float64 `yaml:"language_confidence" json:"language_confidence,omitempty" jsonschema:"exclusiveMinimum=0,maximum=1"`
	// Segments that contain one of these are rejected. REInstruct: ... … ™ # & * ® @; markdown itself uses # & *.
	Signs []string `yaml:"signs" json:"signs,omitempty" jsonschema:"maxItems=1000"`
	// Segments with this many personal pronouns (I, we, he, she, my …) or more are rejected; 0: off. REInstruct: 3.
	Pronouns int `yaml:"pronouns" json:"pronouns,omitempty" jsonschema:"minimum=0,maximum=1000000"`
	// Segments with this many question marks or more are rejected; 0: off. REInstruct: 2.
	Questions int `yaml:"questions" json:"questions,omitempty" jsonschema:"minimum=0,maximum=1000000"`
	// Segments with this many words in capitals or more are rejected; 0: off. REInstruct: 3.
	CapitalWords int `yaml:"capital_words" json:"capital_words,omitempty" jsonschema:"minimum=0,maximum=1000000"`
	// Segments in which fewer paragraphs or list items than this begin with an English verb, each another one, are rejected; 0: off. REInstruct: 4.
	VerbParagraphs int `yaml:"verb_paragraphs" json:"verb_paragraphs,omitempty" jsonschema:"minimum=0,maximum=1000000"`
	// What is replaced by a placeholder such as [EMAIL] before a segment gets its id: email, phone, ip (public addresses), card (payment cards), iban (bank accounts), key (access keys and tokens).
	Mask []string `yaml:"mask" json:"mask,omitempty" jsonschema:"enum=email,enum=phone,enum=ip,enum=card,enum=iban,enum=key,uniqueItems=true"`
}

// Decontaminate keeps out of the training data what evaluation sets hold: a segment that shares an n-gram of words with one of
// their texts is rejected. Absent sets: off.
type Decontaminate struct {
	// The evaluation sets.
	Sets []EvalSet `yaml:"sets" json:"sets,omitempty" jsonschema:"maxItems=100"`
	// Words in an n-gram, in lower case and without punctuation. 13 is that of GPT-3 (Brown et al. 2020, appendix C). Shorter texts of at least 8 words count whole.
	NGram int `yaml:"ngram" json:"ngram,omitempty" jsonschema:"minimum=8,maximum=50"`
	// Also keeps out what the seeds hold.
	Seeds bool `yaml:"seeds" json:"seeds,omitempty"`
	// Generated instructions are compared too, as they are written and so before any is rated.
	Instructions bool `yaml:"instructions" json:"instructions,omitempty"`
}

// SeedSet is the name under which seeds are counted among evaluation sets.
const SeedSet = "seeds"

// On reports whether there is anything to keep out.
func (d Decontaminate) On() bool { return len(d.Sets) > 0 || d.Seeds }

// sources returns the sets as sources.
func (d Decontaminate) sources() []Source {
	out := make([]Source, len(d.Sets))
	for i, s := range d.Sets {
		out[i] = s.Source()
	}
	return out
}

// EvalSet is an evaluation set.
type EvalSet struct {
	// Name of the set in rejects and reports.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._-]{0\\,62}$"`
	// Where it is, as of any source.
	Path string `yaml:"path" json:"path" jsonschema:"required"`
	// What the files hold: auto, jsonl, csv, tsv, parquet or text (each paragraph a row). The default goes by the name and the first bytes.
	Format string `yaml:"format" json:"format" jsonschema:"enum=auto,enum=jsonl,enum=csv,enum=tsv,enum=parquet,enum=text"`
	// Fields or columns that hold the texts to be looked for; a.b for one inside another. Absent: every text of a row.
	Fields []string `yaml:"fields" json:"fields,omitempty" jsonschema:"maxItems=100,uniqueItems=true"`
	// Hub: config of the dataset.
	Config string `yaml:"config" json:"config,omitempty"`
	// Hub: split. Name one for sets that have several.
	Split string `yaml:"split" json:"split,omitempty"`
	// Hub: branch, tag or commit; default: main.
	Revision string `yaml:"revision" json:"revision,omitempty"`
}

func (s *EvalSet) setDefaults() { *s = EvalSet{Format: "auto"} }

// Source returns the set as a source.
func (s EvalSet) Source() Source {
	var out Source
	out.setDefaults()
	out.Path, out.Format, out.Config, out.Split, out.Revision = s.Path, s.Format, s.Config, s.Split, s.Revision
	return out
}

func (ps *problems) evaluationSets(sets []EvalSet) {
	seen := map[string]int{}
	for i, s := range sets {
		at := fmt.Sprintf("decontaminate.sets[%d].name", i)
		j, twice := seen[s.Name]
		switch {
		case s.Name == "":
		case s.Name == SeedSet:
			ps.add(at, "is the name under which the seeds are counted", quote(s.Name), "another one")
		case twice:
			ps.add(at, fmt.Sprintf("is the name of sets[%d] too", j), quote(s.Name), "another one")
		default:
			seen[s.Name] = i
		}
	}
	ps.sources("decontaminate.sets", Decontaminate{Sets: sets}.sources(), []string{"auto", "jsonl", "csv", "tsv", "parquet", "text"})
}
