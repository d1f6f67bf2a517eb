package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Classes of trouble that are looked at. The others are for people.
const (
	troubleBudget  = "budget"
	troubleNoModel = "not_found" // llm.ClassNotFound: the endpoint does not know the model
)

// listen keeps the progress that ranges and fine-tuning jobs signal.
func (r *run) listen(ctx workflow.Context) {
	progress := workflow.GetSignalChannel(ctx, SignalProgress)
	training := workflow.GetSignalChannel(ctx, SignalTraining)
	workflow.Go(ctx, func(ctx workflow.Context) {
		selector := workflow.NewSelector(ctx)
		selector.AddReceive(progress, func(c workflow.ReceiveChannel, _ bool) {
			var p RangeProgress
			c.Receive(ctx, &p)
			if r.runs(p.Stage) {
				if r.ranges[p.Stage] == nil {
					r.ranges[p.Stage] = map[int]RangeProgress{}
				}
				r.ranges[p.Stage][p.From] = p
				r.sumRanges(ctx, p.Stage)
			}
		})
		selector.AddReceive(training, func(c workflow.ReceiveChannel, _ bool) {
			var p TrainProgress
			c.Receive(ctx, &p)
			if r.runs(p.Stage) {
				s := r.stage(p.Stage)
				s.Done, s.Total, s.Loss, s.Detail = int64(p.Step), int64(p.Steps), p.Loss, p.State
				if p.Queue != "" {
					s.Queue = p.Queue
				}
				r.changed(ctx)
			}
		})
		for ctx.Err() == nil {
			selector.Select(ctx)
		}
	})
}

// runs reports whether a stage is at work. What is signalled of any other came too late, or is not of this run.
func (r *run) runs(key string) bool {
	return slices.ContainsFunc(r.st.Stages, func(s StageStatus) bool { return s.Key == key && s.State == StageRunning })
}

// stage returns the status of the stage with this key; a stage that has not begun gets one.
func (r *run) stage(key string) *StageStatus {
	for i := range r.st.Stages {
		if r.st.Stages[i].Key == key {
			return &r.st.Stages[i]
		}
	}
	r.st.Stages = append(r.st.Stages, StageStatus{Key: key, Iteration: r.st.Iteration})
	return &r.st.Stages[len(r.st.Stages)-1]
}

func (r *run) stageBegins(ctx workflow.Context, key, name, unit string) {
	s := r.stage(key)
	s.Name, s.Unit, s.State = name, unit, StageRunning
	if s.StartedAt.IsZero() {
		s.StartedAt = workflow.Now(ctx)
	} else {
		s.ResumedAt, s.Before = workflow.Now(ctx), s.Done
	}
	r.tag(ctx, name)
	r.changed(ctx)
}

// stageWaits says that nothing is done for a stage until a person or a setting has it go on.
func (r *run) stageWaits(ctx workflow.Context, key string) {
	r.stage(key).State = StageStopped
	r.changed(ctx)
}

func (r *run) stageEnds(ctx workflow.Context, key, state string) {
	s := r.stage(key)
	s.State, s.EndedAt = state, workflow.Now(ctx)
	if state == StageDone && s.Total < s.Done {
		s.Total = s.Done
	}
	delete(r.ranges, key)
	r.changed(ctx)
}

// expect tells how many rows a stage has to do.
func (r *run) expect(key string, rows int64) { r.stage(key).Total = rows }

func (r *run) sumRanges(ctx workflow.Context, key string) {
	var sum RangeProgress
	parts := r.ranges[key]
	for _, from := range workflow.DeterministicKeys(parts) {
		sum.Join(parts[from])
	}
	s := r.stage(key)
	s.Done, s.Rejected, s.Reused = sum.Done, sum.Rejected, sum.Reused
	s.Usage, s.InDoubt, s.Histogram, s.Answers = sum.Paid.Spent, sum.Paid.InDoubt, sum.Histogram, sum.Answers
	r.changed(ctx)
}

// spent adds up what the stages of this run paid.
func (r *run) spent() activities.Spending {
	var sum activities.Spending
	for _, s := range r.st.Stages {
		sum = sum.Add(activities.Spending{Spent: s.Usage, InDoubt: s.InDoubt})
	}
	return sum
}

// status tells the run at a glance.
func (r *run) status() Status {
	spent := r.spent()
	s := Status{
		Run: r.name, Phase: PhaseRunning, Iteration: r.st.Iteration, Iterations: r.iterations(),
		StartedAt: r.st.StartedAt, UpdatedAt: r.updated, Stages: r.st.Stages, Sets: r.st.Sets,
		Spent: spent.Spent, InDoubt: spent.InDoubt, Unpriced: r.unpriced(), Budget: r.budget(), Report: r.st.Report,
		Distilled: r.fixedJudge(), Recipe: r.recipe, Results: r.st.Results, Pushed: r.st.Pushed,
		Serving: r.st.Serving,
	}
	if set := r.st.Settings; set != (Settings{}) {
		s.Set = &set
	}
	if r.trial != nil && r.trial.iteration == r.st.Iteration {
		s.Calibration = r.trial.result
	}
	s.Warnings = append(warnings(s.Stages, s.Sets, s.Calibration), append(r.leftServing(), r.unreturned...)...)
	switch {
	case r.phase != "":
		s.Phase = r.phase
		s.Evaluation, s.Scaling = r.evaluation, r.scaling
		switch {
		case s.Phase == PhaseCancelled:
		case r.st.Ending != nil:
			s.EndedBy, s.Message, s.Result = r.st.Ending.Rule, "it ended early: "+r.st.Ending.Reason, r.result()
		case s.Phase == PhaseConverged:
			s.EndedBy, s.Result = EndedConverged, r.result()
		case r.recipe == "":
			s.EndedBy, s.Result = EndedIterations, r.result()
		}
		if s.Phase == PhaseConverged {
			s.Message = "the training set did not change, so training again would give the same model"
			if n := len(s.Sets); n > 0 && s.Sets[n-1].Selected == 0 {
				s.Message = fmt.Sprintf("no candidate of iteration %d was rated %g or better, so nothing was selected and no model trained. "+
					"What was rated stays paid for: starter fork %s --from %d --name NEW --set curate.threshold=LOWER",
					s.Sets[n-1].Iteration, s.Sets[n-1].Threshold, r.name, s.Sets[n-1].Iteration)
			}
		}
		if r.unsent != "" && s.Phase != PhaseCancelled {
			s.Message = strings.TrimPrefix(s.Message+"\n"+r.unsent, "\n")
		}
	case len(r.blocked) > 0:
		s.Phase, s.Message = PhaseBlocked, strings.Join(append(r.troubles(), r.alsoPaused()...), "\n")
	case r.st.Paused:
		s.Phase, s.Message = PhasePaused, strings.Join(append([]string{"Go on with: starter resume " + r.name}, r.waitingGates()...), "\n")
		if len(r.gates) > 0 {
			s.Gate = r.gateName()
		}
	case len(r.gates) > 0:
		s.Phase, s.Gate = PhaseApproval, r.gateName()
		s.Message = strings.Join(r.waitingGates(), "\n")
	}
	return s
}

// gateName is the gate that the run waits at.
func (r *run) gateName() string {
	for _, key := range workflow.DeterministicKeys(r.gates) {
		switch {
		case strings.HasSuffix(key, " gate"):
			return GateRound
		case strings.HasSuffix(key, " push"):
			return config.GatePublish
		}
	}
	return GateFinetune
}

// troubles says what blocks the run and what to do.
func (r *run) troubles() []string {
	var lines []string
	retry, anew := false, false
	for _, key := range workflow.DeterministicKeys(r.blocked) {
		t := r.blocked[key]
		switch {
		case t.Class == troubleBudget:
		case strings.Contains(t.Way, "retry") || !strings.Contains(t.Way, "start a new run"):
			retry = true
		default:
			anew = true
		}
		way := []rune(strings.TrimSuffix(t.Way, ", then retry"))
		if len(way) > 0 {
			way[0] = unicode.ToUpper(way[0])
		}
		lines = append(lines, fmt.Sprintf("%s: %s. %s", key, strings.TrimSuffix(t.Message, "."), string(way)))
	}
	if retry {
		lines = append(lines, "Then: starter retry "+r.name)
	}
	if anew {
		lines = append(lines, "This one cannot go on as it is: starter cancel "+r.name)
	}
	return lines
}

func (r *run) alsoPaused() []string {
	if !r.st.Paused {
		return nil
	}
	return []string{"It is paused as well: starter resume " + r.name}
}

func (r *run) waitingGates() []string {
	var lines []string
	for _, key := range workflow.DeterministicKeys(r.gates) {
		lines = append(lines, fmt.Sprintf("%s waits for approval: %s", key, r.gates[key]))
	}
	if len(lines) > 0 {
		lines = append(lines, "Go on with: starter approve "+r.name)
		switch r.gateName() {
		case GateRound:
			lines = append(lines, "Or end it with what it has: starter approve "+r.name+" --reject")
		case config.GatePublish:
			lines = append(lines, "Or end it without publishing: starter approve "+r.name+" --reject")
		}
	}
	return lines
}

// told is the status for whoever asks. A run is said to have ended when its report and its records say so too: people and
// programs that wait for the end read these next, or stop the services.
func (r *run) told() Status {
	s := r.status()
	if r.phase != "" && !r.ended {
		s.Phase, s.Message, s.EndedBy, s.Result = PhaseRunning, "", "", nil
	}
	return s
}

// changed brings what the Temporal UI shows up to date.
func (r *run) changed(ctx workflow.Context) {
	r.updated = workflow.Now(ctx)
	workflow.SetCurrentDetails(ctx, details(r.status(), r.updated))
}

// describeBudget says what was spent of what a budget caps, as in: 98 of 100 calls. The next call could have crossed it.
func describeBudget(s activities.Spending, b config.Budget) string {
	u := s.Spent.Add(s.InDoubt)
	var caps []string
	if b.Calls > 0 {
		caps = append(caps, fmt.Sprintf("%d of %d calls", u.Calls, b.Calls))
	}
	if b.Tokens > 0 {
		caps = append(caps, fmt.Sprintf("%d of %d tokens", u.PromptTokens+u.CompletionTokens, b.Tokens))
	}
	if b.USD > 0 {
		text := fmt.Sprintf("$%.4f of $%g", float64(u.MicroUSD)/1e6, b.USD)
		if u.UnknownPrice > 0 {
			text += fmt.Sprintf(" and %d calls at an unknown price", u.UnknownPrice)
		}
		caps = append(caps, text)
	}
	if len(caps) == 0 { // it was lifted in the meantime
		return fmt.Sprintf("%d calls", u.Calls)
	}
	if s.InDoubt.Calls > 0 {
		caps = append(caps, fmt.Sprintf("%d calls in doubt among them", s.InDoubt.Calls))
	}
	return strings.Join(caps, ", ")
}

// describeStages says what a budget went into, by step over all iterations, in the unit of its first cap.
func describeStages(stages []StageStatus, b config.Budget) string {
	var names []string
	paid := map[string]dataset.Usage{}
	for _, s := range stages {
		u := s.Usage.Add(s.InDoubt)
		if u == (dataset.Usage{}) {
			continue
		}
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
		paid[s.Name] = paid[s.Name].Add(u)
	}
	for i, name := range names {
		switch u := paid[name]; {
		case b.USD > 0:
			names[i] += fmt.Sprintf(" $%.4f", float64(u.MicroUSD)/1e6)
		case b.Tokens > 0 && b.Calls == 0:
			names[i] += fmt.Sprintf(" %d tokens", u.PromptTokens+u.CompletionTokens)
		default:
			names[i] += fmt.Sprintf(" %d calls", u.Calls)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// raise returns the options of starter set that raise a budget.
func raise(b config.Budget) string {
	var options []string
	if b.USD > 0 {
		options = append(options, "--usd N")
	}
	if b.Calls > 0 {
		options = append(options, "--calls N")
	}
	if b.Tokens > 0 {
		options = append(options, "--tokens N")
	}
	return cmp.Or(strings.Join(options, " "), "--usd N")
}

func emptyDataset(kind dataset.Kind, ref dataset.Ref) error {
	why := fmt.Sprintf("all %d records were turned away", ref.Rejected)
	if ref.Rejected == 0 {
		why = "there is nothing in them"
	}
	way := "see why with starter explain (seeds: --seeds), mend the sources or the rules of the spec, then start a new run"
	if kind == dataset.KindPrompts || kind == dataset.KindResponses {
		way = "look at the reasons in " + ref.Dir + "/rejected, mend the source or load in the spec, then start a new run"
	}
	return activities.NewTrouble("source", fmt.Sprintf("the sources gave no %s: %s", kind, why), way)
}

// unpriced counts the trainings whose cost nobody told.
func (r *run) unpriced() (n int) {
	for _, t := range r.st.Trainings {
		if !t.CostKnown {
			n++
		}
	}
	return n
}
