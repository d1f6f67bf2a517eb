package runs

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// mostOpinions bounds what is read of each judge.
const mostOpinions = 200_000

// opinion is what one judge said of an item, and what it saw.
type opinion struct {
	instruction, seen, word string
	contradicts             bool
	score                   float64
}

// judged is what one judge said.
type judged struct {
	label     string
	threshold float64 // 0: comparisons
	items     map[string]opinion
	order     []string // ids
}

// Judges tells how far two judges agree about the items that both judged. Each name is an evaluation (run/eval/name, or run/02/eval
// for that of an iteration) or the ratings of a run's iteration (run@2; run alone is the newest). Errors: ErrNotFound, ConflictError.
func (c *Client) Judges(ctx context.Context, a, b string) (eval.Judges, error) {
	ja, err := c.opinions(ctx, a)
	if err != nil {
		return eval.Judges{}, err
	}
	jb, err := c.opinions(ctx, b)
	if err != nil {
		return eval.Judges{}, err
	}
	if (ja.threshold == 0) != (jb.threshold == 0) {
		return eval.Judges{}, &ConflictError{What: fmt.Sprintf("%s and %s: one compared and the other rated", a, b), Try: "two evaluations, or the ratings of two iterations"}
	}
	var both []eval.Opinion
	alone := int64(len(ja.items) + len(jb.items))
	for _, id := range ja.order {
		x := ja.items[id]
		y, ok := jb.items[id]
		if !ok || x.seen != y.seen {
			continue
		}
		alone -= 2
		both = append(both, eval.Opinion{
			ID: id, Instruction: x.instruction, A: x.word, B: y.word, ContradictsA: x.contradicts, ContradictsB: y.contradicts, ScoreA: x.score, ScoreB: y.score,
		})
	}
	out := eval.CompareJudges(both, ja.threshold)
	out.A, out.B, out.Alone = ja.label, jb.label, alone
	return out, nil
}

func (c *Client) opinions(ctx context.Context, name string) (judged, error) {
	if strings.Contains(name, "/") {
		return c.comparisons(ctx, name)
	}
	run, number, given := strings.Cut(name, "@")
	seen, err := c.Status(ctx, run)
	if err != nil {
		return judged{}, err
	}
	out := judged{items: map[string]opinion{}}
	var ratings dataset.Ref
	for _, s := range seen.Sets {
		if !given || strconv.Itoa(s.Iteration) == number {
			ratings, out.threshold, out.label = s.Ratings, s.Threshold, fmt.Sprintf("%s in iteration %d of %s", s.Judge.Name, s.Iteration, run)
		}
	}
	if ratings.IsZero() {
		return out, fmt.Errorf("ratings of %s: %w. Try: RUN@ITERATION, of an iteration that has ended", name, ErrNotFound)
	}
	for r, err := range dataset.Rows[dataset.Rating](ctx, c.Store, ratings) {
		if err != nil {
			return out, c.storeError(err)
		}
		if len(out.order) == mostOpinions {
			break
		}
		out.take(r.ID, opinion{
			instruction: r.Instruction, seen: r.Instruction, score: r.Score, word: strconv.FormatFloat(math.Round(r.Score), 'f', -1, 64),
		})
	}
	return out, nil
}

func (c *Client) comparisons(ctx context.Context, name string) (judged, error) {
	var result eval.Result
	if err := c.getJSON(ctx, "runs/"+name+"/result.json", &result); err != nil {
		return judged{}, fmt.Errorf("result of %s: %w", name, err)
	}
	out := judged{label: fmt.Sprintf("%s in %s", result.Judge, name), items: map[string]opinion{}}
	_, rows, err := dataset.Open(ctx, c.Store, result.Outcomes)
	if err != nil {
		return out, c.storeError(err)
	}
	words := map[string]string{"win": "model", "draw": "neither", "loss": "baseline"}
	for j, err := range dataset.Rows[dataset.Judgement](ctx, c.Store, rows) {
		if err != nil {
			return out, c.storeError(err)
		}
		if word := words[j.Outcome]; word != "" && j.Forward+j.Backward != "" {
			out.take(j.ID, opinion{
				instruction: j.Instruction, seen: j.Output + "\x00" + j.Baseline, word: word,
				contradicts: j.Forward != "" && j.Backward != "" && j.Forward != j.Backward,
			})
		}
	}
	return out, nil
}

func (j *judged) take(id string, o opinion) {
	if _, twice := j.items[id]; !twice {
		j.items[id] = o
		j.order = append(j.order, id)
	}
}
