package corpus

import (
	"fmt"
	"strings"
)

// What becomes of a text above MaxChars that has no lower headers.
const (
	LongReject = "reject"
	LongCut    = "cut" // between paragraphs
)

// SegmentRules are the rules by which documents are cut. A zero field takes the value given with it; a negative one
// switches the rule off where that makes sense. Those from Signs on are off when zero; they are the selection of REInstruct
// (Chen et al., Findings of ACL 2024), whose values are named with each.
type SegmentRules struct {
	MinChars       int      // 600; REInstruct: 1200
	MaxChars       int      // 3000
	Long           string   // reject
	RepeatNGram    int      // words in an n-gram; 3
	RepeatJaccard  float64  // two sentences above this are a repetition; 0.6, negative: off
	UppercaseRatio float64  // a header whose letters are capitals to more than this is dropped; 0.9, negative: off
	Navigation     []string // headers with one of these phrases are dropped, in any case; nil: DefaultNavigation

	Languages          []string // kept, as ISO 639-1 codes, any for all; none: the language of the source
	LanguageConfidence float64  // of the detector in another language, from which on a text is turned away; 0.8

	Signs          []string // a text with one of these is turned away; REInstruct: ... … ™ # & * ® @
	Pronouns       int      // likewise with so many personal pronouns; REInstruct: 3
	Questions      int      // question marks; 2
	CapitalWords   int      // words in capitals; 3
	VerbParagraphs int      // with fewer paragraphs that begin with a verb, each with another; 4

	Mask []string // kinds of personal data that are replaced by placeholders: see MaskKinds
}

// DefaultNavigation are phrases that mark the header of a page's furniture: the four named in the paper and their kin.
func DefaultNavigation() []string {
	return []string{
		"advertisement", "forum", "quick link", "free newsletter", // the paper's
		"newsletter", "related articles", "related posts", "share this", "follow us", "cookie policy", "cookie settings",
		"cookie preferences", "we use cookies", "leave a comment", "leave a reply", "site map", "sitemap", "sign up for",
		"subscribe to", "recent posts", "you may also like", "privacy policy", "terms of use", "table of contents",
	}
}

func (s SegmentRules) withDefaults(language string) SegmentRules {
	if s.MinChars == 0 {
		s.MinChars = 600
	}
	if s.MaxChars <= 0 {
		s.MaxChars = 3000
	}
	if s.Long == "" {
		s.Long = LongReject
	}
	if s.RepeatNGram <= 0 {
		s.RepeatNGram = 3
	}
	if s.RepeatJaccard == 0 {
		s.RepeatJaccard = 0.6
	}
	if s.UppercaseRatio == 0 {
		s.UppercaseRatio = 0.9
	}
	if s.Navigation == nil {
		s.Navigation = DefaultNavigation()
	}
	if len(s.Languages) == 0 {
		s.Languages = []string{language}
	}
	for _, l := range s.Languages {
		if l == "any" {
			s.Languages = nil
			break
		}
	}
	if s.LanguageConfidence == 0 {
		s.LanguageConfidence = 0.8
	}
	return s
}

// Hit is an evaluation set with which a text shares an n-gram of words.
type Hit struct {
	Set   string
	Row   int64  // of the set, from 1
	Words string // the first n-gram shared
}

// unfit says by which rule a text of fitting length is turned away; an empty reason keeps it.
func (c *cutter) unfit(text string) (reason, detail string, sets []string) {
	rules := c.opts.Segments
	if strings.Contains(text, "\uFFFD") {
		return ReasonInvalidUTF8, fmt.Sprintf("%d characters lost", strings.Count(text, "\uFFFD")), nil
	}
	said := prose(text)
	if detail := wrongLanguage(said, rules.Languages, rules.LanguageConfidence); detail != "" {
		return ReasonLanguage, detail, nil
	}
	if rules.RepeatJaccard > 0 {
		if detail := repetition(said, rules.RepeatNGram, rules.RepeatJaccard); detail != "" {
			return ReasonRepetitive, detail, nil
		}
	}
	if reason, detail := strict(text, said, rules); reason != "" {
		return reason, detail, nil
	}
	if c.opts.Contaminated == nil {
		return "", "", nil
	}
	hits := c.opts.Contaminated(text)
	if len(hits) == 0 {
		return "", "", nil
	}
	for _, h := range hits {
		sets = append(sets, h.Set)
	}
	return ReasonContaminated, Named(hits), sets
}

// Named lists hits for a reject's detail.
func Named(hits []Hit) string {
	named := make([]string, len(hits))
	for i, h := range hits {
		named[i] = fmt.Sprintf("%s row %d: %q", h.Set, h.Row, clip(h.Words, 200))
	}
	return strings.Join(named, "; ")
}
