package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Serving is a model that was deployed and has to be torn down when nobody asks it any more. It holds what is needed to
// deploy it again.
type Serving struct {
	Model  dataset.ModelRef       `json:"model"`
	Deploy activities.DeployInput `json:"deploy"`
	Queue  string                 `json:"queue"`           // whose workers can deploy it and tear it down
	Down   bool                   `json:"down,omitempty"`  // it was torn down
	Again  bool                   `json:"again,omitempty"` // this run, a fork, deployed a model of the run before again
	Left   string                 `json:"left,omitempty"`  // why it could not be torn down
}

func (s *Serving) deploy(ctx workflow.Context) error {
	var trainers *activities.Trainers
	ctx = bulk(ctx, s.Queue, "deploy "+s.Deploy.Submit.Name) // gigabytes may have to be copied
	return workflow.ExecuteActivity(ctx, trainers.DeployModel, s.Deploy).Get(ctx, &s.Model)
}

func (s *Serving) tearDown(ctx workflow.Context) error {
	var trainers *activities.Trainers
	ctx = parting(ctx, s.Queue, "tear down "+s.Deploy.Submit.Name)
	return workflow.ExecuteActivity(ctx, trainers.TeardownModel, s.Deploy).Get(ctx, nil)
}

// serving remembers what was deployed. A model that was trained again takes the place of its earlier self.
func (r *run) serving(s *Serving) {
	if s == nil {
		return
	}
	r.st.Serving = slices.DeleteFunc(r.st.Serving, func(old Serving) bool { return old.Model == s.Model })
	r.st.Serving = append(r.st.Serving, *s)
}

// owns reports whether this run deployed the model: a fork leaves alone what the run before it did.
func (r *run) owns(s Serving) bool { return s.Deploy.Submit.Run == r.name || s.Again }

// retire tears down the models that this run deployed and that wanted does not name. What cannot be torn down within a few
// minutes is told in the status and left: a run's end does not wait for a server that is gone.
func (r *run) retire(ctx workflow.Context, wanted func(Serving) bool) {
	type parted struct {
		model dataset.ModelRef
		done  workflow.Future
	}
	var going []parted
	for _, s := range r.st.Serving {
		if s.Down || !r.owns(s) || wanted(s) {
			continue
		}
		future, settable := workflow.NewFuture(ctx)
		workflow.Go(ctx, func(ctx workflow.Context) { settable.Set(nil, s.tearDown(ctx)) })
		going = append(going, parted{s.Model, future})
	}
	for _, p := range going {
		err := p.done.Get(ctx, nil)
		r.served(p.model, func(s *Serving) {
			s.Down, s.Left = err == nil, ""
			if err != nil {
				s.Left = err.Error()
			}
		})
	}
	if len(going) > 0 {
		r.changed(ctx)
	}
}

// served changes what is known of a model that was deployed, and reports whether it is.
func (r *run) served(model dataset.ModelRef, change func(*Serving)) bool {
	i := slices.IndexFunc(r.st.Serving, func(s Serving) bool { return s.Model == model })
	if i >= 0 {
		change(&r.st.Serving[i])
	}
	return i >= 0
}

// retireBackward tears down the models that write instructions, once all are written.
func (r *run) retireBackward(ctx workflow.Context) {
	if r.in.Spec.Model.Keep != config.KeepAll {
		r.retire(ctx, func(s Serving) bool { return !s.Deploy.Submit.Reversed })
	}
}

// retireOld tears down what the next iteration does not ask: all but the newest model.
func (r *run) retireOld(ctx workflow.Context) {
	if r.in.Spec.Model.Keep != config.KeepAll {
		r.retire(ctx, func(s Serving) bool { return r.newest(s) || r.comparedLater(s) })
	}
}

// retireLast tears down what shall not go on answering after the run, as the spec says.
func (r *run) retireLast(ctx workflow.Context) {
	switch r.in.Spec.Model.Keep {
	case config.KeepAll:
	case config.KeepNone:
		r.retire(ctx, func(Serving) bool { return false })
	default:
		r.retire(ctx, r.newest)
	}
}

func (r *run) newest(s Serving) bool {
	result := r.result()
	return result != nil && s.Model == *result
}

// revivals bounds how often a lost model is deployed again without a single row done in between.
const revivals = 3

// revive deploys a model again that its server has lost, as a vLLM does that was restarted. It reports whether the stage should
// go on; model then says where it is now.
func (r *run) revive(ctx workflow.Context, key string, model *dataset.ModelRef, trouble error) (bool, error) {
	t, known := activities.TroubleOf(trouble)
	if !known || t.Class != troubleNoModel || ctx.Err() != nil || !r.served(*model, func(*Serving) {}) {
		return false, trouble
	}
	stage := r.stage(key)
	tried := r.revived[key]
	if stage.Done > tried.done {
		tried = revival{done: stage.Done}
	}
	if tried.times++; tried.times > revivals {
		delete(r.revived, key)
		return false, trouble
	}
	r.revived[key] = tried
	err := r.redeploy(ctx, key, model, "is gone from its server and")
	return err == nil, err
}

// ready deploys a model that was torn down, by the run that this one was forked from: a server of which nothing is left cannot
// say that it does not have the model. An evaluation asks whether it answers, since its run may have taken it down meanwhile.
func (r *run) ready(ctx workflow.Context, key string, model *dataset.ModelRef) error {
	down := false
	lent := r.served(*model, func(s *Serving) { down = s.Down }) && r.borrows
	if lent && !down {
		var runs *activities.Runs
		look := short(ctx, QueueName(r.in.Queue, RoleControl), "does "+model.Name+" answer?")
		answers := false
		if err := workflow.ExecuteActivity(look, runs.ModelAnswers, *model).Get(ctx, &answers); err != nil {
			return err
		}
		down = !answers
	}
	if !down || workflow.GetVersion(ctx, changeReady, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	return r.redeploy(ctx, key, model, "was taken down and")
}

// redeploy deploys a model once more. It may come to answer elsewhere, as a program does in another slot: whatever names the
// model then names its new place.
func (r *run) redeploy(ctx workflow.Context, key string, model *dataset.ModelRef, why string) error {
	old := *model
	var again Serving
	r.served(old, func(s *Serving) { again = *s })
	r.stage(key).Detail = fmt.Sprintf("model %s %s is being deployed again", old.Name, why)
	r.changed(ctx)
	err := again.deploy(ctx)
	r.stage(key).Detail = ""
	if err != nil {
		return err
	}
	r.served(old, func(s *Serving) {
		s.Again = s.Again || !r.owns(*s)
		s.Down, s.Left, s.Model = false, "", again.Model
	})
	for i := range r.st.Models {
		if r.st.Models[i] == old {
			r.st.Models[i] = again.Model
		}
	}
	if r.st.Result == old {
		r.st.Result = again.Model
	}
	if old != again.Model {
		if r.moved == nil {
			r.moved = map[dataset.ModelRef]dataset.ModelRef{}
		}
		delete(r.moved, again.Model)
		r.moved[old] = again.Model
	}
	*model = again.Model
	return nil
}

// placeOf is where a model answers now.
func (r *run) placeOf(m dataset.ModelRef) dataset.ModelRef {
	for to, moved := r.moved[m]; moved; to, moved = r.moved[m] {
		m = to
	}
	return m
}

// revival counts deployments of a lost model at one point of a stage.
type revival struct {
	done  int64
	times int
}

// leftServing warns of models that could not be torn down.
func (r *run) leftServing() []string {
	var out []string
	for _, s := range r.st.Serving {
		if s.Left != "" {
			out = append(out, fmt.Sprintf("model %s at provider %s could not be taken down and may still be served: %s", s.Model.Name, s.Model.Provider, s.Left))
		}
	}
	return out
}
