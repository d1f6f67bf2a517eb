package report

import (
	"fmt"
	"html/template"
	"regexp"
	"strings"

	"github.com/selfalign/selfalign/internal/dataset"
)

// modelOf is what people call the model of an iteration: M0, M1 …
func modelOf(iteration int) string { return fmt.Sprintf("M%d", iteration) }

// modelBackward is the model that writes instructions for outputs.
const modelBackward = "Myx"

var (
	jobName  = regexp.MustCompile(`^m(\d{1,3}|yx)$`)
	indexed  = regexp.MustCompile(`^([AM])(\d{1,3}|yx|k)$`)
	wordsIn  = regexp.MustCompile(`[^\s(),.:;]+`)
	trainJob = regexp.MustCompile(`^train m(\d{1,3}|yx)\b`)
)

// modelName turns the name of a training job, such as m1, into what the model is called. Others stay as they are.
func modelName(job string) string { return jobName.ReplaceAllString(job, "M$1") }

// stageName is a stage as people know it.
func stageName(s Stage) string { return trainJob.ReplaceAllString(s.Name, "train M$1") }

// sub sets the index of models and sets, M2 or A5, as one. All of the text is escaped; words that only hold such a name are left
// alone.
func sub(text string) template.HTML {
	escaped := wordsIn.ReplaceAllStringFunc(template.HTMLEscapeString(strings.ToValidUTF8(text, "\uFFFD")), func(word string) string {
		return indexed.ReplaceAllString(word, "$1<sub>$2</sub>")
	})
	return template.HTML(escaped) //nolint:gosec // escaped, and nothing but sub is added
}

// judgeName is who rated: a model of the run by what it is called, others by their names.
func judgeName(d Data, judge dataset.ModelRef) string {
	for _, r := range d.Rounds {
		if r.Model == judge && judge.Name != "" {
			return modelOf(r.Iteration)
		}
	}
	return orDash(judge.Name)
}
