// Package serve makes a trained model answer requests, and names it so that nobody takes it for another.
package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
)

// Roles of a trained model.
const (
	RoleForward  = "forward"  // answers instructions, and rates: M0, M1, …
	RoleBackward = "backward" // writes the instruction for an output: Myx
)

// Trained is a model that a trainer has finished.
type Trained struct {
	Run            string `json:"run"`
	Iteration      int    `json:"iteration"`       // 0 for M0
	Role           string `json:"role"`            // RoleForward where empty
	Model          string `json:"model"`           // the name that the trainer gave it
	Artifact       string `json:"artifact"`        // blob prefix of its files; empty where the trainer keeps them
	TrainingDigest string `json:"training_digest"` // of the training set: two models trained on equal sets are one
	Base           string `json:"base,omitempty"`  // the base model's name at the trainer
}

// Validate names every field that a server cannot do without.
func (t Trained) Validate() error {
	var missing []string
	for _, field := range [][2]string{{"run", t.Run}, {"model", t.Model}, {"training digest", t.TrainingDigest}} {
		if strings.TrimSpace(field[1]) == "" {
			missing = append(missing, field[0])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("deploy model: no %s", strings.Join(missing, ", no "))
	}
	if t.Iteration < 0 {
		return fmt.Errorf("deploy model: iteration %d", t.Iteration)
	}
	if t.Role != "" && t.Role != RoleForward && t.Role != RoleBackward {
		return fmt.Errorf("deploy model: role %q", t.Role)
	}
	return nil
}

// Revision returns what tells the model from every other, whatever name it answers under: the digest of its
// training set. A backward model is trained on the reversed set, whose digest differs by itself.
func (t Trained) Revision() string { return t.TrainingDigest }

// Server makes models answer. Implementations are safe for concurrent use and keep nothing in memory that they
// could not find again.
type Server interface {
	// Deploy makes the model answer at the provider of the reference that it returns, and returns once it does or
	// is about to: Smoke tells when. It is idempotent: the same model gives the same reference and no second
	// copy. Revision is Trained.Revision, so that a new model under an old name is not mistaken for it.
	Deploy(ctx context.Context, model Trained) (dataset.ModelRef, error)
	// Teardown gives back what Deploy of this model took, also where Deploy died half-way or its answer was lost. It is
	// idempotent, and no error for a model that was never deployed.
	Teardown(ctx context.Context, model Trained) error
}

// Error is what a person has to mend before a model can be deployed. Any other error of a Server may pass by itself.
type Error struct {
	Err error
	Way string // what to do about it, such as: start vLLM with --enable-lora
}

// Error says what happened.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Wrong makes an Error.
func Wrong(way, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Way: way}
}

// smokePrompt wants an answer from any model, a barely trained one too.
const smokePrompt = "Name three things that are found in a kitchen."

// Smoke asks the model something before anything relies on it, and again while it does not answer, since a model
// may take minutes to load: until ctx ends. ask sends one prompt and returns the answer. An answer of white space
// alone is none. An error that ask wrapped by Final ends the test at once.
func Smoke(ctx context.Context, ask func(ctx context.Context, prompt string) (string, error)) error {
	wait := 250 * time.Millisecond
	for {
		answer, err := ask(ctx, smokePrompt)
		switch {
		case err == nil && strings.TrimSpace(answer) != "":
			return nil
		case err == nil:
			err = errors.New("the answer is empty")
		case errors.As(err, new(finalError)):
			return fmt.Errorf("smoke test: %w", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("smoke test: the model does not answer: %w", errors.Join(err, ctx.Err()))
		case <-timer.C:
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// Final marks an error of Smoke's ask that will not pass, such as a refused key.
func Final(err error) error { return finalError{err} }

type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }
