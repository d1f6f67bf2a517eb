package activities

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/corpus"
)

// Reasons why a selection turns away a pair that is rated well.
const (
	reasonLongInstruction = "long_instruction"
	reasonInstructionWord = "instruction_word"
)

// instructionRules returns what says why an instruction is unfit; an empty reason keeps it. The index of evaluation sets is
// built once in a process, whichever of its partitions asks first.
func (s *Sets) instructionRules(ctx context.Context, w SelectWork) (func(instruction string) (reason, detail string), error) {
	find := func(string) []corpus.Hit { return nil }
	if w.Evaluation != "" {
		index, err := s.Sources.indexAt(ctx, w.Evaluation)
		if err != nil {
			return nil, err
		}
		find = index.Find
	}
	words := map[string]bool{}
	for _, word := range w.InstructionWords {
		words[strings.ToLower(word)] = true
	}
	return func(instruction string) (reason, detail string) {
		if n := utf8.RuneCountInString(instruction); w.MaxInstructionChars > 0 && n > w.MaxInstructionChars {
			return reasonLongInstruction, fmt.Sprintf("%d characters, at most %d", n, w.MaxInstructionChars)
		}
		if word := wordIn(instruction, words); word != "" {
			return reasonInstructionWord, fmt.Sprintf("%q", word)
		}
		if hits := find(instruction); len(hits) > 0 {
			return corpus.ReasonContaminated, corpus.Named(hits)
		}
		return "", ""
	}, nil
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
