package stage

import (
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/prompt"
)

// Whom a judge chose.
const (
	choseModel    = "model"
	choseBaseline = "baseline"
	choseTie      = "tie"
)

// compared is one answer to a comparison, seen from the model whichever stood first.
type compared struct {
	chose   string
	swapped bool // the baseline's output stood first
	reason  string
}

// swaps reports whether a sample, counted from 1, shows the baseline's output first: every other one does, since judges lean to a
// place.
func swaps(sample int) bool { return sample%2 == 0 }

// compare asks which of two outputs is better, in both orders. An output wins when the judge prefers it in both; where it
// contradicts itself, or one order brought nothing readable, it is a draw.
var compare = &task[dataset.Comparison, dataset.Judgement, compared]{
	name:   TaskCompare,
	prompt: func(*Work) string { return prompt.Compare },
	sampled: func(c dataset.Comparison, sample int) prompt.Vars {
		v := prompt.Vars{Instruction: c.Instruction, First: c.Output, Second: c.Baseline}
		if swaps(sample) {
			v.First, v.Second = v.Second, v.First
		}
		return v
	},
	read: func(_ *Work, e *ledger.Entry) (compared, error) {
		v, err := prompt.ParseVerdict(e.Text)
		if err != nil {
			return compared{}, err
		}
		out := compared{swapped: swaps(e.Sample), reason: v.Reason, chose: choseTie}
		switch {
		case v.Choice == prompt.Tie:
		case (v.Choice == prompt.First) != out.swapped:
			out.chose = choseModel
		default:
			out.chose = choseBaseline
		}
		return out, nil
	},
	row: bothOrders,
	reject: func(c dataset.Comparison, _ int) dataset.Reject {
		return dataset.Reject{
			ID: c.ID, Instruction: c.Instruction, Text: c.Output, Source: c.Source, Document: c.Document, Offset: c.Offset,
		}
	},
}

// bothOrders sums up what the judge said in both orders.
func bothOrders(c dataset.Comparison, answers []compared, w made) dataset.Judgement {
	out := dataset.Judgement{
		ID: c.ID, Instruction: c.Instruction, Output: c.Output, Baseline: c.Baseline, Judge: w.revision, JudgePrompt: w.template,
		Generator: c.Generator, BaselineGenerator: c.BaselineGenerator, Source: c.Source, Document: c.Document, Offset: c.Offset,
	}
	out.Forward, out.Backward = majority(answers, false), majority(answers, true)
	out.Share, out.Outcome = 0.5, "draw"
	if out.Forward == out.Backward {
		switch out.Forward {
		case choseModel:
			out.Share, out.Outcome = 1, "win"
		case choseBaseline:
			out.Share, out.Outcome = 0, "loss"
		}
	}
	out.Reason = answers[0].reason
	return out
}

// majority is what the answers of one order say together; "" where none could be read.
func majority(answers []compared, swapped bool) string {
	n, lead := 0, 0
	for _, a := range answers {
		if a.swapped != swapped {
			continue
		}
		n++
		switch a.chose {
		case choseModel:
			lead++
		case choseBaseline:
			lead--
		}
	}
	switch {
	case n == 0:
		return ""
	case lead > 0:
		return choseModel
	case lead < 0:
		return choseBaseline
	}
	return choseTie
}
