package runs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.temporal.io/api/operatorservice/v1"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/workflows"
)

const maxPrompt = 256 << 10 // bytes of a prompt file

// Prepare makes a spec complete: local sources, relative to dir, are uploaded and replaced by their addresses in S3, and prompt
// files by their texts. Preparing the same files again gives the same spec and sends nothing.
func (c *Client) Prepare(ctx context.Context, spec config.Run, dir string, progress func(UploadProgress)) (config.Run, error) {
	var err error
	if spec.Prompts, err = InlinePrompts(spec.Prompts, dir); err != nil {
		return spec, err
	}
	lists := []*[]config.Source{&spec.Seeds, &spec.Documents}
	if spec.Evaluate != nil {
		e := *spec.Evaluate
		spec.Evaluate = &e
		lists = append(lists, &e.Prompts, &e.Outputs, &e.Labelled)
	}
	spec.Decontaminate.Sets = slices.Clone(spec.Decontaminate.Sets)
	for i, set := range spec.Decontaminate.Sets {
		if strings.Contains(set.Path, "://") {
			continue
		}
		if spec.Decontaminate.Sets[i].Path, err = c.upload(ctx, Local(dir, set.Path), progress); err != nil {
			return spec, err
		}
	}
	return spec, c.uploadAll(ctx, lists, dir, progress)
}

// uploadAll uploads local sources and puts their addresses in place of their paths, in copies of the lists.
func (c *Client) uploadAll(ctx context.Context, lists []*[]config.Source, dir string, progress func(UploadProgress)) (err error) {
	for _, list := range lists {
		*list = slices.Clone(*list)
		for i := range *list {
			s := &(*list)[i]
			if !s.Local() {
				continue
			}
			if s.Path, err = c.upload(ctx, Local(dir, s.Path), progress); err != nil {
				return err
			}
		}
	}
	return nil
}

// Local returns a path of a spec that lies in dir.
func Local(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// InlinePrompts puts the texts of prompt files in the place of their paths.
func InlinePrompts(p config.Prompts, dir string) (config.Prompts, error) {
	for _, field := range []*string{&p.Backtranslate, &p.Rate} {
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

func readPrompt(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("prompt: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(f, maxPrompt+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("prompt: %w", err)
	case len(body) > maxPrompt:
		return "", fmt.Errorf("prompt %s is longer than %d bytes", path, maxPrompt)
	case !utf8.Valid(body) || bytes.ContainsRune(body, 0):
		return "", fmt.Errorf("prompt %s is not UTF-8 text", path)
	case strings.TrimSpace(string(body)) == "":
		return "", fmt.Errorf("prompt %s is empty", path)
	}
	return string(body), nil
}

// Started says what Start found or did.
type Started struct {
	Run   string `json:"run"`
	New   bool   `json:"new"`   // false: the same run was there before
	Begun bool   `json:"begun"` // its workflow was started now; false: it was started before
	Phase string `json:"phase"` // of the run now, where it is known
}

// Start records a run and starts its workflow. It is idempotent: the same spec again finds the run that is there, and one that
// was recorded and not started (a crash in between, or a lost Temporal) is started. Another spec under the name of a run is a
// ConflictError. The spec must be prepared.
func (c *Client) Start(ctx context.Context, spec config.Run, resume *workflows.State) (Started, error) {
	in := workflows.SelfTrainInput{Spec: spec, Digest: config.Digest(spec), Queue: c.Queue, Resume: resume}
	in.Search, in.Drift, in.Withdraw, in.Clean = c.hasSearchAttributes(ctx), true, true, true
	return launch(ctx, c, spec.Name, workflows.TypeSelfTrain, in, in.Digest, summary, func(standing workflows.SelfTrainInput) error {
		if standing.Digest == in.Digest && (standing.Resume == nil) == (resume == nil) && (resume == nil || standing.Resume.Iteration == resume.Iteration) {
			return nil
		}
		return conflict(spec.Name, Differences(standing.Spec, spec), "forked from elsewhere")
	})
}

func summary(in workflows.SelfTrainInput) string {
	s, judge := in.Spec, "rated by itself"
	if s.Rate.Judge != nil {
		judge = "rated by " + s.Rate.Judge.Model
	}
	return fmt.Sprintf("%s, %d iterations, %s", s.Model.Base, s.Iterations, judge)
}

// hasSearchAttributes reports whether the namespace has the attributes that runs set. Where that cannot be learnt, they are
// not set: a run goes on without them.
func (c *Client) hasSearchAttributes(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	have, err := c.Temporal.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: c.Namespace})
	if err != nil {
		return false
	}
	for _, name := range []string{
		workflows.AttributeRun.GetName(), workflows.AttributeStage.GetName(), workflows.AttributeIteration.GetName(), workflows.AttributeModel.GetName(),
	} {
		if _, ok := have.GetCustomAttributes()[name]; !ok {
			return false
		}
	}
	return true
}

// conflict says how another spec under the name of a run differs.
func conflict(name string, diff []string, otherwise string) error {
	why := otherwise
	if len(diff) > 0 {
		why = "other: " + strings.Join(diff, ", ")
	}
	return &ConflictError{
		What: fmt.Sprintf("there is a run %s with another spec (%s)", name, why),
		Try:  "--name another-name; answers that were paid for are used again, whatever the run is called",
	}
}

// Differences names the fields in which two specs differ, such as augment.temperature.
func Differences[T config.Run | config.Score](a, b T) []string {
	var out []string
	differences(reflect.ValueOf(a), reflect.ValueOf(b), "", &out)
	return out
}

func differences(a, b reflect.Value, at string, out *[]string) {
	for i := range a.NumField() {
		field := a.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		path := strings.TrimPrefix(at+"."+name, ".")
		switch {
		case field.Anonymous:
			differences(a.Field(i), b.Field(i), at, out)
		case field.Type.Kind() == reflect.Struct:
			differences(a.Field(i), b.Field(i), path, out)
		case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			*out = append(*out, path)
		}
	}
}

// Fork starts a new run under spec's name that goes on from where another run began an iteration: with its seeds, segments,
// candidates and models. The spec must be prepared, and must not change what was made before that iteration.
func (c *Client) Fork(ctx context.Context, from string, iteration int, spec config.Run) (Started, error) {
	if from == spec.Name {
		return Started{}, &ConflictError{What: "a fork needs a name of its own", Try: "--name " + from + "-2"}
	}
	var parent workflows.SelfTrainInput
	if err := c.getJSON(ctx, recordKey(from), &parent); err != nil {
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("run %s: %w. Try: starter list", from, ErrNotFound)
		}
		return Started{}, err
	}
	states, err := c.states(ctx, from)
	if err != nil {
		return Started{}, err
	}
	key, ok := states[iteration]
	if !ok {
		return Started{}, fmt.Errorf("run %s: iteration %d %w among those that a fork can begin with: %s", from, iteration, ErrNotFound, known(states))
	}
	var state workflows.State
	if err := c.getJSON(ctx, key, &state); err != nil {
		return Started{}, err
	}
	if fixed := madeBefore(parent.Spec, spec); len(fixed) > 0 {
		return Started{}, &ConflictError{
			What: fmt.Sprintf("a fork keeps what was made before iteration %d, so these cannot change: %s", iteration, strings.Join(fixed, ", ")),
			Try:  "starter start with this spec; answers that were paid for are used again",
		}
	}
	if spec.Iterations < iteration {
		return Started{}, &ConflictError{What: fmt.Sprintf("iterations is %d, and the fork begins with iteration %d", spec.Iterations, iteration), Try: "--set iterations=" + strconv.Itoa(iteration)}
	}
	// The fork spends its own budget under its own settings.
	state.Settings, state.Paused, state.Stages, state.StartedAt, state.Report = workflows.Settings{}, false, nil, time.Time{}, ""
	return c.Start(ctx, spec, &state)
}

// madeBefore names the differences that concern what stands before any iteration of rating begins.
func madeBefore(parent, spec config.Run) []string {
	var out []string
	for _, d := range Differences(parent, spec) {
		top, _, _ := strings.Cut(d, ".")
		switch {
		case d == "data.tasks_in_work": // only how fast
		case top == "seeds", top == "documents", top == "segments", top == "data", top == "near_duplicates", d == "model.base",
			top == "decontaminate" && (d != "decontaminate.instructions" || parent.Decontaminate.Instructions): // what A lost does not come back
			out = append(out, d)
		case d == "gate" && heldOut(parent) != heldOut(spec):
			out = append(out, "gate.holdout")
		case d == "prompts.backtranslate" && spec.AugmentMode() == config.AugmentOnce:
			out = append(out, d)
		}
	}
	return out
}

func heldOut(spec config.Run) int {
	if spec.Gate == nil {
		return 0
	}
	return spec.Gate.Holdout
}

// states returns the keys of the states that a run saved, by the iteration that begins with each.
func (c *Client) states(ctx context.Context, run string) (map[int]string, error) {
	ctx, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	out := map[int]string{}
	err := c.Store.List(ctx, stateDir(run), func(i blob.Info) error {
		name := i.Key[strings.LastIndexByte(i.Key, '/')+1:]
		if n, err := strconv.Atoi(strings.TrimSuffix(name, ".json")); err == nil {
			out[n] = i.Key
		}
		return nil
	})
	return out, c.storeError(err)
}

func known(states map[int]string) string {
	if len(states) == 0 {
		return "none yet"
	}
	var all []int
	for n := range states {
		all = append(all, n)
	}
	slices.Sort(all)
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(all)), ", "), "[]")
}

// Spec returns the complete spec of a run. Errors: ErrNotFound.
func (c *Client) Spec(ctx context.Context, run string) (config.Run, error) {
	var in workflows.SelfTrainInput
	err := c.getJSON(ctx, recordKey(run), &in)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("run %s: %w. Try: starter list", run, ErrNotFound)
	}
	return in.Spec, err
}

// SourceFile is one local file of a source.
type SourceFile struct {
	Name string // relative to the source's folder, with slashes; of a single file its base name
	Path string
	Size int64
}

// LocalFiles lists the files that the upload of a source would send.
func LocalFiles(source string) ([]SourceFile, error) {
	files, _, err := scan(source)
	if err != nil {
		return nil, err
	}
	out := make([]SourceFile, len(files))
	for i, f := range files {
		out[i] = SourceFile{Name: f.rel, Path: f.path, Size: f.size}
	}
	return out, nil
}
