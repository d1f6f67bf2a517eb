package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/workflows"
)

// PhaseFailed is the phase of a run whose workflow ended without an end of its own: terminated by hand, or timed out.
const PhaseFailed = "failed"

// PhaseStarting is the phase of a run that has a record and said nothing yet.
const PhaseStarting = "starting"

// Seen is a run's status and how it came to be known.
type Seen struct {
	workflows.Status
	Live bool   `json:"live"`           // told by the workflow itself, else read from the record in S3
	Note string `json:"note,omitempty"` // why it is not live, and what to do
	// Holdups say what running stages wait for, by themselves; Watch finds them.
	Holdups []string `json:"holdups,omitempty"`
}

// again is the command that starts it once more.
func (s Seen) again() string {
	command := "start"
	switch s.Recipe {
	case workflows.RecipeScore:
		command = "score"
	case workflows.RecipeEvaluate:
		command = "eval"
	}
	return "starter " + command + " with the same spec"
}

// Ended reports whether the run will never do anything again.
func (s Seen) Ended() bool {
	switch s.Phase {
	case workflows.PhaseCompleted, workflows.PhaseConverged, workflows.PhaseCancelled, PhaseFailed:
		return true
	default:
		return false
	}
}

// Waiting reports whether the run waits for a person.
func (s Seen) Waiting() bool {
	return s.Phase == workflows.PhaseBlocked || s.Phase == workflows.PhaseApproval
}

// Status tells how a run is: by asking its workflow, else, where Temporal or its workers do not answer or have forgotten the
// run, from the record in S3. Errors: ErrNotFound, UnreachableError.
func (c *Client) Status(ctx context.Context, run string) (Seen, error) {
	live, liveErr := c.query(ctx, run)
	if liveErr == nil {
		return Seen{Status: live, Live: true}, nil
	}
	if ctx.Err() != nil {
		return Seen{}, ctx.Err()
	}
	seen, err := c.saved(ctx, run)
	if err != nil {
		if errors.Is(err, ErrNotFound) && !errors.Is(liveErr, ErrNotFound) && isUnreachable(liveErr) {
			return Seen{}, liveErr
		}
		return Seen{}, err
	}
	c.explain(ctx, run, liveErr, &seen)
	return seen, nil
}

func isUnreachable(err error) bool {
	var u *UnreachableError
	return errors.As(err, &u)
}

// query asks the workflow.
func (c *Client) query(ctx context.Context, run string) (workflows.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	var status workflows.Status
	value, err := c.Temporal.QueryWorkflow(ctx, run, "", workflows.QueryStatus)
	if err != nil {
		return status, c.temporalError(run, err)
	}
	if err := value.Get(&status); err != nil {
		return status, fmt.Errorf("read status of run %s: %w", run, err)
	}
	return status, nil
}

// saved is what S3 knows of a run: the status that it wrote last.
func (c *Client) saved(ctx context.Context, run string) (seen Seen, err error) {
	if err = c.getJSON(ctx, statusKey(run), &seen.Status); errors.Is(err, ErrNotFound) {
		seen.Status, err = c.recorded(ctx, run)
	}
	return seen, err
}

// recorded is the status of a run that has said nothing yet.
func (c *Client) recorded(ctx context.Context, run string) (workflows.Status, error) {
	var in struct {
		workflows.SelfTrainInput
		Score      *config.Score      `json:"score"`
		Evaluation *config.Evaluation `json:"evaluation"`
	}
	if err := c.getJSON(ctx, recordKey(run), &in); err != nil {
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("run %s: %w in %s. Try: starter list", run, ErrNotFound, c.Store.URI("runs"))
		}
		return workflows.Status{}, err
	}
	if in.Evaluation != nil {
		return workflows.Status{Run: run, Phase: PhaseStarting, Budget: in.Evaluation.Budget, Recipe: workflows.RecipeEvaluate}, nil
	}
	if in.Score != nil {
		return workflows.Status{Run: run, Phase: PhaseStarting, Budget: in.Score.Budget, Recipe: workflows.RecipeScore}, nil
	}
	return workflows.Status{Run: run, Phase: PhaseStarting, Iterations: in.Spec.Iterations, Budget: in.Spec.Budget}, nil
}

// explain says why a status was not told by the workflow itself.
func (c *Client) explain(ctx context.Context, run string, liveErr error, seen *Seen) {
	if seen.Ended() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	describe, err := c.Temporal.DescribeWorkflowExecution(ctx, run, "")
	err = c.temporalError(run, err)
	switch {
	case errors.Is(err, ErrNotFound):
		seen.Note = "Temporal has no such run. Try: " + seen.again() + "; it goes on where it was"
	case err != nil:
		seen.Note = "from the record in S3, as Temporal does not answer: " + err.Error()
	default:
		switch describe.GetWorkflowExecutionInfo().GetStatus() {
		case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
			seen.Note = fmt.Sprintf("from the record in S3: no worker answers on %s. Try: start one", workflows.QueueName(c.Queue, workflows.RoleControl))
			if liveErr != nil && !isUnreachable(liveErr) {
				seen.Note += " (" + liveErr.Error() + ")"
			}
		case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
			seen.Phase = workflows.PhaseCancelled
		case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
			seen.Phase = workflows.PhaseCompleted
		default:
			seen.Phase = PhaseFailed
			seen.Note = "the workflow was ended from outside. Try: " + seen.again() + "; it goes on where it was"
		}
	}
}
