package activities

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/stage"
)

// Reasons why a selection turns away a pair that is rated well.
const (
	reasonLongInstruction = "long_instruction"
	reasonInstructionWord = "instruction_word"
)

// instructionRules returns what says why an instruction is unfit; an empty reason keeps it. Found counts the
// evaluation sets as it is asked. The index of evaluation sets is
// built once in a process, whichever of its partitions asks first.
func (s *Sets) instructionRules(ctx context.Context, w SelectWork) (unfit func(instruction string) (reason, detail string), found map[string]int64, err error) {
	var clean stage.EvaluationSets
	if w.Evaluation != "" {
		defer newHeart(ctx).keep()()
		if clean, err = s.Sources.evaluationSets(ctx, w.Evaluation); err != nil {
			return nil, nil, err
		}
	}
	words := map[string]bool{}
	for _, word := range w.InstructionWords {
		words[strings.ToLower(word)] = true
	}
	found = clean.Count()
	return func(instruction string) (reason, detail string) {
		if n := utf8.RuneCountInString(instruction); w.MaxInstructionChars > 0 && n > w.MaxInstructionChars {
			return reasonLongInstruction, fmt.Sprintf("%d characters, at most %d", n, w.MaxInstructionChars)
		}
		if word := wordIn(instruction, words); word != "" {
			return reasonInstructionWord, fmt.Sprintf("%q", word)
		}
		if clean.Find == nil {
			return "", ""
		}
		sets, detail := clean.Find(instruction)
		for _, set := range sets {
			found[set]++
		}
		if len(sets) > 0 {
			return corpus.ReasonContaminated, detail
		}
		return "", ""
	}, found, nil
}

// wordIn returns the first of the words that stands in a text, in any case.
func wordIn(text string, words map[string]bool) string {
	if len(words) == 0 {
		return ""
	}
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != '\'' && r != '’'
	}) {
		if word = strings.ToLower(word); words[word] {
			return word
		}
	}
	return ""
}
