package diversity

import (
	"strings"

	pluralize "github.com/gertd/go-pluralize"
)

var nouns = pluralize.NewClient()

// rootVerb looks for the first verb of a clause with a noun phrase right behind it.
func rootVerb(words []word) (Pair, bool) {
	for i, w := range words {
		verb, ok := baseForm(w)
		if !ok || auxiliaries[verb] || introduces(words, i) {
			continue
		}
		if noun, ok := object(words[i+1:]); ok {
			return Pair{verb, noun}, true
		}
	}
	return Pair{}, false
}

// baseForm is the infinitive of a verb in the present tense; past tenses and participles are seldom what is asked for.
func baseForm(w word) (string, bool) {
	if !plain(w.text) {
		return "", false
	}
	switch w.tag {
	case "VB", "VBP":
		return w.text, true
	case "VBZ":
		switch s := w.text; {
		case strings.HasPrefix(s, "'"):
			return "", false
		case s == "is" || s == "has" || s == "does" || s == "goes":
			return map[string]string{"is": "be", "has": "have", "does": "do", "goes": "go"}[s], true
		case strings.HasSuffix(s, "ies") && len(s) > 4:
			return s[:len(s)-3] + "y", true
		case strings.HasSuffix(s, "sses"), strings.HasSuffix(s, "shes"), strings.HasSuffix(s, "ches"), strings.HasSuffix(s, "xes"):
			return s[:len(s)-2], true
		case strings.HasSuffix(s, "s") && len(s) > 2:
			return s[:len(s)-1], true
		}
	}
	return "", false
}

// introduces says whether the verb only leads to what is asked: "can you help me write", "I want you to list", "let us find".
func introduces(words []word, i int) bool {
	if !leading[words[i].text] {
		return false
	}
	for _, w := range words[i+1 : min(len(words), i+5)] {
		switch {
		case w.tag == "VB":
			return true
		case w.tag == "PRP" || w.tag == "TO" || w.tag == "RB":
		default:
			return false
		}
	}
	return false
}

// object is the head of the noun phrase that words begin with: "me a beginner 's workout" is a workout, "the table of contents" a table.
func object(words []word) (string, bool) {
	i, seen := 0, false
	for i < len(words) && (words[i].tag == "RP" || words[i].tag == "PRP" && indirect[words[i].text] || words[i].text == `"`) {
		i++
	}
	head := ""
	for ; i < len(words); i++ {
		w := words[i]
		switch {
		case w.tag == "NN" || w.tag == "NNS" || w.tag == "NNP" || w.tag == "NNPS":
			if !plain(w.text) {
				return head, head != ""
			}
			head, seen = w.text, true
			if w.tag == "NNS" || w.tag == "NNPS" {
				head = nouns.Singular(head)
			}
		case w.tag == "POS" && seen: // the owner was not yet the object
			head = ""
		case seen && head != "" && (w.tag == "CC" || w.text == ","):
			return head, true
		case !seen && (w.tag == "DT" || w.tag == "PRP$" || w.tag == "CD" || w.tag == "PDT" || w.tag == "," || w.tag == "CC"),
			w.tag == "JJ" || w.tag == "JJS" || w.tag == "JJR", head == "" && (w.tag == "RBS" || w.tag == "RB" || w.tag == "VBN" || w.tag == "VBG"):
			if head != "" {
				return head, true
			}
		case head == "" && between[w.text] && i > 0 && partitive[words[i-1].text]: // "a few of the", "all of the"
		default:
			return head, head != ""
		}
	}
	return head, head != ""
}

// plain says whether a word is one of letters, perhaps with a hyphen: markup and numbers are no verbs or nouns.
func plain(s string) bool {
	if len(s) < 2 || len(s) > 40 {
		return false
	}
	for _, r := range s {
		if r < 'a' || r > 'z' {
			if r != '-' && r != '\'' && r < 0x80 {
				return false
			}
		}
	}
	return s[0] != '\'' && s[0] != '-'
}

func opensClause(before string) bool {
	switch before {
	case "and", "then", "please", "to", "also", ",", "you":
		return true
	}
	return false
}

func set(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

var (
	auxiliaries = set("be is are am was were been have has do does did can could will would shall should may might must am're 're 've 's 'm 'll 'd")
	leading     = set("want need like help let try have get make ask love wish hope going go allow")
	indirect    = set("me us you him her them")
	between     = set("of")
	partitive   = set("few all some many each both most any several")

	// imperatives begin what people ask of an assistant; the tagger takes some of them for nouns or names at the start of a sentence.
	imperatives = set(`
		act add adapt address advise analyse analyze answer apply argue arrange assess assume brainstorm break build calculate categorise categorize change
		check choose cite clarify classify combine come comment compare compile complete compose compute conduct consider construct contrast
		convert convince correct count craft create criticise criticize critique debate decide deduce define demonstrate derive describe design detail detect determine develop
		devise diagnose differentiate discuss display divide draft draw edit elaborate enumerate estimate evaluate examine expand explain explore express extend extract
		fill find fix follow form format formulate gather generate give grade guess guide highlight identify illustrate imagine implement improve include
		infer insert interpret introduce invent investigate justify keep label list look make match mention modify name narrate offer optimise optimize order organise organize outline
		paraphrase parse perform pick plan plot point predict prepare present pretend produce proofread propose prove provide put quote rank rate read rearrange recall recommend reconstruct
		reduce refactor reflect remove rename reorder rephrase replace report reply research respond restate reverse review revise rewrite run say select send separate
		set share shorten show simplify simulate sketch solve sort specify split state structure study substitute suggest sum summarise summarize support swap take talk teach tell
		test think trace track transcribe transform translate turn understand unscramble update use verify visualise visualize walk weigh write`)
)
