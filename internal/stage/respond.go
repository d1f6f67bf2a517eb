package stage

import (
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/prompt"
)

// respond makes a row of every sample, so that several answers to a prompt can be rated and compared one by one. What a
// model says instead of an answer, such as that it will not help, is an answer; what an endpoint refuses, what was cut at
// max_tokens and what is empty is rejected.
var respond = &task[dataset.Prompt, dataset.Response, string]{
	name:   TaskRespond,
	prompt: func(*Work) string { return prompt.Respond },
	vars: func(p dataset.Prompt) prompt.Vars {
		return prompt.Vars{Instruction: p.Instruction, System: p.System}
	},
	read: func(_ *Work, e *ledger.Entry) (string, error) { return prompt.ParseResponse(e.Text) },
	each: func(p dataset.Prompt, sample int, answer string, w made) dataset.Response {
		return dataset.Response{
			ID: dataset.ResponseID(p.ID, sample), PromptID: p.ID, Sample: int32(sample),
			System: p.System, Instruction: p.Instruction, Output: answer, Generator: w.revision, Prompt: w.template,
			Source: p.Source, Document: p.Document, Offset: p.Offset,
		}
	},
	reject: func(p dataset.Prompt, sample int) dataset.Reject {
		return dataset.Reject{
			ID: dataset.ResponseID(p.ID, sample), Instruction: p.Instruction, Source: p.Source, Document: p.Document, Offset: p.Offset,
		}
	},
}

// rateResponses is rate over responses: the same questions under the same names in the ledger, and ratings that keep the
// responses' ids.
var rateResponses = ratingOf(TaskRate, func(r dataset.Response) dataset.Candidate {
	return dataset.Candidate{
		ID: r.ID, Instruction: r.Instruction, Output: r.Output, Source: r.Source, Document: r.Document, Offset: r.Offset,
		Generator: r.Generator, Prompt: r.Prompt,
	}
})
