package serve

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var field = regexp.MustCompile(`\{[^{}]*\}`)

// Pattern makes the names under which trained models answer.
type Pattern string

// Check reports fields that a name cannot have. In a pattern stand
//
//	{run}        the run's name
//	{iteration}  0 for M0, 1 for M1, …
//	{role}       forward, or backward for Myx
//	{model}      the name that the trainer gave the model
//	{digest}     the first DigestChars characters of the training set's digest
func (p Pattern) Check() error {
	if strings.TrimSpace(string(p)) == "" {
		return errors.New("no model name")
	}
	for _, f := range field.FindAllString(string(p), -1) {
		if !slices.Contains([]string{"{run}", "{iteration}", "{role}", "{model}", "{digest}"}, f) {
			return fmt.Errorf("model name %q: unknown field %s (Try: {run}, {iteration}, {role}, {model}, {digest})", string(p), f)
		}
	}
	return nil
}

// CheckUnique is Check, and reports a pattern that gives two models one name. Servers that load models themselves could take
// one for the other, or take away what another run asks.
func (p Pattern) CheckUnique() error {
	if err := p.Check(); err != nil {
		return err
	}
	if !strings.Contains(string(p), "{digest}") || !strings.Contains(string(p), "{run}") {
		return fmt.Errorf("model name %q: models of other runs, and models trained anew, need other names (Try: add {run} and {digest})", string(p))
	}
	return nil
}

// DigestChars is how much of a digest {digest} stands for: a name such as m1 with its dash, and 36 bits.
const DigestChars = 12

// Name returns the model's name.
func (p Pattern) Name(m Trained) string {
	role := m.Role
	if role == "" {
		role = RoleForward
	}
	digest := m.TrainingDigest[:min(DigestChars, len(m.TrainingDigest))]
	return strings.NewReplacer(
		"{run}", m.Run, "{iteration}", strconv.Itoa(m.Iteration), "{role}", role, "{model}", m.Model, "{digest}", digest,
	).Replace(string(p))
}
