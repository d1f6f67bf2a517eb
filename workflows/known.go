package workflows

import (
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/report"
)

// ReportInput tells a run's report what is known of the run at a time: its status, what it carries from one execution to the next,
// and its spec.
func ReportInput(s Status, st State, spec config.Run, digest string, at time.Time) report.Input {
	known := report.Input{
		Run: s.Run, Phase: s.Phase, Message: s.Message, StartedAt: s.StartedAt, At: at,
		Iterations: s.Iterations, Threshold: spec.Curate.Threshold, Seeds: st.Seeds, Segments: st.Segments, Candidates: st.Candidates,
		Backward: st.Backward, Trainings: st.Trainings, Spent: s.Spent, InDoubt: s.InDoubt, SpecDigest: digest,
		Warnings: s.Warnings,
	}
	if k := st.Settings.Threshold; k != nil {
		known.Threshold = *k
	}
	zero := report.Round{Training: st.Base}
	if spec.Rate.Judge == nil && len(st.Models) > 0 {
		zero.Model = st.Models[0]
	}
	known.Rounds = []report.Round{zero}
	for _, set := range s.Sets {
		known.Rounds = append(known.Rounds, report.Round{
			Iteration: set.Iteration, Ratings: set.Ratings, Training: set.Training, Selected: set.Selected,
			Threshold: set.Threshold, Judge: set.Judge, Model: set.Model, Calibration: set.Calibration, Gate: set.Gate,
		})
	}
	known.Stages = stagesKnown(s)
	return known
}

func stagesKnown(s Status) (out []report.Stage) {
	for _, st := range s.Stages {
		out = append(out, report.Stage{
			Name: st.Name, Iteration: st.Iteration, State: st.State, Unit: st.Unit, Done: st.Done, Rejected: st.Rejected,
			Reused: st.Reused, Usage: st.Usage, StartedAt: st.StartedAt, EndedAt: st.EndedAt,
		})
	}
	return out
}
