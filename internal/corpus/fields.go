package corpus

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// errNoField is that a record lacks the field asked for.
var errNoField = errors.New("no field")

// fieldReason is why a record whose field could not be read is turned away.
func fieldReason(err error) string {
	if errors.Is(err, errNoField) {
		return ReasonNoField
	}
	return ReasonBadRecord
}

// Names that the sides of a pair and the text of a document often have, the likeliest first.
var (
	likelyQuestions = []string{"instruction", "question", "prompt", "query", "input", "problem", "title", "user", "human"}
	likelyAnswers   = []string{"output", "answer", "response", "completion", "target", "solution", "chosen", "reply", "assistant"}
	likelyTexts     = []string{"text", "content", "body", "document", "raw_content", "article", "markdown", "html", "passage"}
)

// SuggestPairs writes the settings of a source whose fields these are, as a person would.
func SuggestPairs(have []string) string {
	return "instruction: " + likely(have, likelyQuestions) + ", output: " + likely(have, likelyAnswers)
}

// SuggestPrompts is SuggestPairs for prompts, with their answers where pairs are wanted.
func SuggestPrompts(pairs bool) func(have []string) string {
	return func(have []string) string {
		out := "instruction: " + likely(have, likelyQuestions)
		if pairs {
			out += ", generation: " + likely(have, likelyAnswers)
		}
		return out
	}
}

// SuggestText is SuggestPairs for documents.
func SuggestText(have []string) string { return "text: " + likely(have, likelyTexts) }

func likely(have, names []string) string {
	for _, name := range names {
		for _, h := range have {
			if strings.EqualFold(h, name) || strings.HasSuffix(strings.ToLower(h), "."+name) {
				return h
			}
		}
	}
	return "FIELD"
}

// FieldsOf lists the fields of a JSON object, or of what there is of its beginning, sorted.
func FieldsOf(line string) []string {
	dec := json.NewDecoder(strings.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	var out []string
	for dec.More() && len(out) < 100 {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			break
		}
		out = append(out, clip(cleanLine(name), 100))
		var skip json.RawMessage
		if dec.Decode(&skip) != nil {
			break
		}
	}
	slices.Sort(out)
	return out
}
