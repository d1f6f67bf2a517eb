package intake

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/corpus"
)

// Exercise is one record of a prompt set, of a model's outputs or of a labelled set. What it lacks is empty.
type Exercise struct {
	Number      int64 // from 1
	Instruction string
	Output      string
	Generator   string // who wrote the output
	Label       string
}

// ExerciseOptions say under which names (a.b for one inside another) a file keeps things; empty ones are the usual.
type ExerciseOptions struct {
	Format      string
	Instruction string // instruction, else prompt or question; Alpaca's input continues it
	Output      string // output
	Label       string // label
}

// InstructionNames are the names that hold the instruction, the first that a record has.
func (o ExerciseOptions) InstructionNames() []string {
	names := []string{cmp.Or(o.Instruction, "instruction")}
	if names[0] == "instruction" {
		names = append(names, "prompt", "question")
	}
	return names
}

// Exercises reads a file of an evaluation in any format that has fields, with errors as those of NamedFields.
func Exercises(ctx context.Context, f File, o ExerciseOptions) iter.Seq2[Exercise, error] {
	names, output, label := o.InstructionNames(), cmp.Or(o.Output, "output"), cmp.Or(o.Label, "label")
	wanted := append(slices.Clone(names), output, label, "generator", "model", "input")
	if o.Format == corpus.FormatPairs {
		o.Format = corpus.FormatAuto
	}
	return func(yield func(Exercise, error) bool) {
		for record, err := range NamedFields(ctx, f, o.Format, wanted) {
			fields := record.Fields
			x := Exercise{
				Number: record.Number, Output: clean(fields[output]), Generator: clean(cmp.Or(fields["generator"], fields["model"])), Label: clean(fields[label]),
			}
			for _, name := range names {
				x.Instruction = cmp.Or(x.Instruction, clean(fields[name]))
			}
			if more := clean(fields["input"]); more != "" && len(names) > 1 {
				x.Instruction = strings.TrimSpace(x.Instruction + "\n\n" + more)
			}
			if !yield(x, err) || err != nil {
				return
			}
		}
	}
}

// clean makes a text one that can be a column.
func clean(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(s, string(utf8.RuneError)), "\x00", ""))
}
