package runs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/workflows"
)

// PrepareScore is Prepare for the generate-and-score recipe.
func (c *Client) PrepareScore(ctx context.Context, spec config.Score, dir string, progress func(UploadProgress)) (config.Score, error) {
	var err error
	if spec.Prompts, err = InlineScorePrompts(spec.Prompts, dir); err != nil {
		return spec, err
	}
	if LocalSource(spec.Load.Path) {
		spec.Load.Path, err = c.upload(ctx, Local(dir, spec.Load.Path), progress)
	}
	return spec, err
}

// LocalSource reports whether the path of a source lies on this machine.
func LocalSource(path string) bool {
	return !strings.Contains(path, "://")
}

// InlineScorePrompts puts the texts of prompt files in the place of their paths.
func InlineScorePrompts(p config.ScorePrompts, dir string) (config.ScorePrompts, error) {
	for _, field := range []*string{&p.Respond, &p.Score} {
		if *field == "" {
			continue
		}
		text, err := readPrompt(Local(dir, *field))
		if err != nil {
			return p, err
		}
		*field = text
	}
	return p, nil
}

// StartScore is Start for the generate-and-score recipe: the same spec again finds the run that is there.
func (c *Client) StartScore(ctx context.Context, spec config.Score) (Started, error) {
	in := workflows.ScoreInput{Spec: spec, Digest: config.ScoreDigest(spec), Queue: c.Queue, Search: c.hasSearchAttributes(ctx), Withdraw: true}
	body, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return Started{}, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	call, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	err = c.Store.PutIfAbsent(call, recordKey(spec.Name), body)
	fresh := err == nil
	switch {
	case errors.Is(err, blob.ErrExists):
		var standing workflows.ScoreInput
		if err := c.getJSON(ctx, recordKey(spec.Name), &standing); err != nil {
			return Started{}, err
		}
		if standing.Digest != in.Digest {
			return Started{}, scoreConflict(standing.Spec, spec)
		}
		in = standing
		var status workflows.Status
		if err := c.getJSON(ctx, statusKey(spec.Name), &status); err == nil && (Seen{Status: status}).Ended() {
			return Started{Run: spec.Name, Phase: status.Phase}, nil
		}
	case err != nil:
		return Started{}, c.storeError(err)
	}
	return c.executeScore(ctx, in, fresh)
}

func (c *Client) executeScore(ctx context.Context, in workflows.ScoreInput, fresh bool) (Started, error) {
	run := in.Spec.Name
	call, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := c.Temporal.ExecuteWorkflow(call, client.StartWorkflowOptions{
		ID:        run,
		TaskQueue: workflows.QueueName(c.Queue, workflows.RoleControl),
		// Ended from outside (terminated, failed) may start again; completed may not.
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            scoreSummary(in.Spec),
		Memo:                                     map[string]any{"spec": in.Digest},
	}, workflows.TypeScore, in)
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &already) {
		seen, err := c.Status(ctx, run)
		if err != nil && !isUnreachable(err) {
			return Started{}, err
		}
		return Started{Run: run, Phase: cmp.Or(seen.Phase, workflows.PhaseRunning)}, nil
	}
	if err != nil {
		err = c.temporalError(run, err)
		if isUnreachable(err) {
			return Started{}, fmt.Errorf("run %s is recorded, not started; start it again when Temporal is back: %w", run, err)
		}
		return Started{}, fmt.Errorf("start %s: %w", run, err)
	}
	return Started{Run: run, New: fresh, Begun: true, Phase: PhaseStarting}, nil
}

func scoreSummary(s config.Score) string {
	answers := "answers of the dataset"
	if s.Generate != nil {
		answers = "answered by " + s.Generate.Model
	}
	return fmt.Sprintf("%s, %s, scored by %s", s.Load.Path, answers, s.Score.Model)
}

func scoreConflict(standing, wanted config.Score) error {
	what := fmt.Sprintf("there is a run %s with another spec", wanted.Name)
	var diff []string
	if standing.Name != "" {
		differences(reflect.ValueOf(standing), reflect.ValueOf(wanted), "", &diff)
	}
	if len(diff) > 0 {
		what += " (other: " + strings.Join(diff, ", ") + ")"
	}
	return &ConflictError{What: what, Try: "--name another-name; answers that were paid for are used again, whatever the run is called"}
}
