package corpus

import (
	"fmt"
	"strings"
	"sync"
	"unicode"
)

// strict applies the rules of REInstruct that are on to a text and its prose. It returns the first that a text breaks.
func strict(text, said string, rules SegmentRules) (reason, detail string) {
	for _, sign := range rules.Signs {
		if sign != "" && strings.Contains(text, sign) {
			return ReasonSigns, fmt.Sprintf("%q", sign)
		}
	}
	if rules.Pronouns <= 0 && rules.Questions <= 0 && rules.CapitalWords <= 0 && rules.VerbParagraphs <= 0 {
		return "", ""
	}
	text = said
	pronouns, capitals := 0, 0
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '’'
	}) {
		if personal(word) {
			pronouns++
		}
		if capitalWord(word) {
			capitals++
		}
	}
	over := func(limit, n int, what string) string {
		if limit <= 0 || n < limit {
			return ""
		}
		return fmt.Sprintf("%d %s, fewer than %d wanted", n, what, limit)
	}
	if detail := over(rules.Pronouns, pronouns, "personal pronouns"); detail != "" {
		return ReasonPronouns, detail
	}
	if detail := over(rules.Questions, strings.Count(text, "?"), "question marks"); detail != "" {
		return ReasonQuestions, detail
	}
	if detail := over(rules.CapitalWords, capitals, "words in capitals"); detail != "" {
		return ReasonCapitals, detail
	}
	if rules.VerbParagraphs > 0 {
		if n := verbParagraphs(text); n < rules.VerbParagraphs {
			return ReasonFewVerbs, fmt.Sprintf("%d paragraphs begin with a verb, each with another; at least %d wanted", n, rules.VerbParagraphs)
		}
	}
	return "", ""
}

// personal reports whether a word is a pronoun of the first person, or he or she. US is none.
func personal(word string) bool {
	if len(word) > 8 || word == "US" {
		return false
	}
	word, _, _ = strings.Cut(strings.ReplaceAll(strings.ToLower(word), "’", "'"), "'") // I've, we're
	switch word {
	case "i", "we", "us", "our", "ours", "my", "me", "mine", "he", "she":
		return true
	}
	return false
}

// capitalWord reports whether a word has at least two letters, all capitals.
func capitalWord(word string) bool {
	upper := 0
	for _, r := range word {
		if unicode.IsLower(r) {
			return false
		}
		if unicode.IsUpper(r) {
			upper++
		}
	}
	return upper > 1
}

// verbParagraphs counts the different verbs with which paragraphs and list items begin, as an order or with -ing.
func verbParagraphs(text string) int {
	seen := map[string]bool{}
	blank := true
	for line := range strings.Lines(text) {
		bare := strings.TrimSpace(line)
		item := itemStart(bare)
		begins := blank || item
		blank = bare == "" || endsParagraph(bare)
		if !begins || bare == "" {
			continue
		}
		if item {
			bare = strings.TrimLeft(bare, "0123456789.)-*+ ")
		}
		word, _, _ := strings.Cut(strings.TrimLeft(bare, "*_\"“("), " ")
		if verb := verbOf(strings.ToLower(strings.Trim(word, ".,:;!?*_\"”)"))); verb != "" {
			seen[verb] = true
		}
	}
	return len(seen)
}

// verbOf returns the verb that a word is the order or the -ing form of, "" for none.
func verbOf(word string) string {
	known := verbs()
	if known[word] {
		return word
	}
	stem, ok := strings.CutSuffix(word, "ing")
	if !ok || len(stem) < 2 {
		return ""
	}
	n := len(stem)
	switch {
	case known[stem]:
		return stem
	case known[stem+"e"]:
		return stem + "e"
	case stem[n-1] == stem[n-2] && known[stem[:n-1]]:
		return stem[:n-1]
	}
	return ""
}

// verbs are verbs with which instructions begin.
var verbs = sync.OnceValue(func() map[string]bool {
	known := map[string]bool{}
	for verb := range strings.FieldsSeq(`
accept add adjust agree allow analyse analyze answer apply arrange ask assemble assess assign attach avoid bake balance
be beat become begin bend blend boil book break bring browse brush build buy calculate call cancel carry change charge check
choose clean clear click climb close coat collect combine compare complete concentrate configure confirm connect consider
consult contact continue control cook cool copy count cover create cross crush cut decide decorate defer define delete describe
design determine develop dice dig dip discard discover discuss dissolve divide do document double download drag drain draw dress
drink drive drop dry eat edit eliminate email enable encourage end engage enjoy enlist ensure enter establish evaluate examine
exercise expand expect explain explore express face fasten feed feel fill filter find finish fit fix flip focus fold follow
force freeze fry gather get give glue go grab grate grease grill grind grow guide hang have heat help hold identify ignore
imagine improve include increase inform insert inspect install invest invite join keep kill knead label lay learn leave let
level lift light limit line list listen load locate lock look loosen lower lubricate maintain make manage mark marinate mash
match measure meet melt memorise memorize mention mix monitor mount move multiply name negotiate note notice obtain offer open
order organise organize own pack paint pass paste pat pause pay peel perform pick place plan plant play plug point polish pour
practice practise prepare preheat press prevent print promote protect prove provide prune pull purchase push put raise reach
read rearrange recognise recognize record reduce refer refrigerate register relax release remember remind remove repeat replace
report request rescue research reserve rest restart return review rewrite rinse roast roll rotate rub run save scan schedule
scoop score scrape scrub search season seal see select send separate serve set sew shake shape share shop show shut sift sign
simmer simplify sit skip sleep slice slide smooth soak solve sort spend split spray spread sprinkle squeeze stack stand start
stay step stir stop store strain stretch strip study submit subtract suggest supply support switch take talk tap taste teach
tear tell test thank think throw tie tighten tilt toast top toss touch trace track train transfer travel treat trim trust try
turn twist type understand unplug unscrew update upload use verify visit wait wake walk warm wash watch water wear weigh wet
whisk wipe wire wish work wrap write`) {
		known[verb] = true
	}
	return known
})
