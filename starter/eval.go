package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
)

type evalCmd struct {
	Run    evalRunCmd    `cmd:"" default:"withargs" help:"Compare a model with a baseline by a judge (the default)."`
	Import evalImportCmd `cmd:"" help:"Tell AlpacaEval's numbers of an annotations.json. Spends nothing."`
	Judges judgesCmd     `cmd:"" help:"Tell how far two judges agree. Spends nothing."`
}

type evalRunCmd struct {
	settings
	Of        string   `arg:"" optional:"" name:"run" help:"The run whose model is evaluated, where no spec is given."`
	File      string   `short:"f" placeholder:"FILE" help:"A spec, such as examples/eval.yaml, in place of the options below."`
	Name      string   `short:"n" placeholder:"NAME" help:"Name of the evaluation (default: one that follows from what is asked)."`
	Iteration int      `default:"-1" placeholder:"T" help:"The iteration whose model is evaluated (default: the last)."`
	Against   string   `default:"0" placeholder:"WHAT" help:"What it is compared with: an iteration (0 is the model of the seeds alone), provider/model, or a file of outputs."`
	Prompts   string   `placeholder:"FILE" help:"Prompts: a file like AlpacaEval's, s3://…, or seeds for the run's own, which flatter."`
	Judge     string   `placeholder:"JUDGE" help:"Who compares: provider/model, or an iteration of the run."`
	Tags      string   `default:"both" enum:"both,seed,augmented,none" help:"System prompts of the models: both, seed, augmented or none."`
	Sizes     []int    `placeholder:"N,N,…" help:"Train on so many rows of the iteration's training set each, and fit win rate = α ln N + C."`
	Set       []string `placeholder:"PATH=VALUE" sep:"none" help:"Change one value of the spec, such as compare.max_tokens=256. Repeatable."`
	JSON      bool     `name:"json" help:"Print the result as JSON, and progress to standard error."`
	Detach    bool     `help:"Do not wait for the result."`
}

// Help teaches by example.
func (evalRunCmd) Help() string {
	return `
Has the model and the baseline answer the prompts, and a judge say which answer is better, asked in both orders: an answer wins when it is preferred in both, and a contradiction is a draw. A missing output of the model is a loss. The same evaluation again finds the result, and answers that were paid for are used again.

Examples:

    starter eval my-run --prompts alpaca_eval.json --judge openai/gpt-4.1
    starter eval my-run --iteration 2 --against 1 --prompts prompts.jsonl --judge openai/gpt-4.1 --json
    starter eval my-run --against model_outputs.json --judge openai/gpt-4.1
    starter eval my-run --iteration 1 --sizes 100,200,400,800 --prompts prompts.jsonl --judge openai/gpt-4.1
    starter eval -f examples/eval.yaml
    starter eval import annotations.json
    starter eval judges my-run/eval/by-gpt my-run/eval/by-m2
`
}

// Run is the command.
func (c *evalRunCmd) Run(a *app) error {
	worker, err := c.settings.load()
	if err != nil {
		return err
	}
	spec, dir := config.DefaultEvaluation(), "."
	if c.File != "" {
		dir = filepath.Dir(c.File)
		spec, err = config.LoadEvaluation(c.File, overrides(c.Set, c.Name)...)
		if errors.Is(err, fs.ErrNotExist) {
			err = usage(fmt.Sprintf("no spec at %s. Try: -f FILE, or begin with examples/eval.yaml", c.File))
		}
		if err == nil {
			err = config.In(c.File, config.CheckEvaluation(spec, worker))
		}
		if err != nil {
			return err
		}
	}
	client, err := a.dial(worker)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := a.preflight(client); err != nil {
		return err
	}
	if c.File == "" {
		if spec, err = c.spec(a, client); err != nil {
			return err
		}
		if err := config.CheckEvaluation(spec, worker); err != nil {
			return err
		}
	}
	in, err := client.PrepareEvaluation(a.ctx, spec, dir, a.uploads())
	if err != nil {
		return err
	}
	started, err := client.StartEvaluation(a.ctx, in)
	if err != nil {
		return err
	}
	a.warn("%s", startedLine(started))
	if c.Detach {
		a.say("next: starter watch %s", started.Run)
		return nil
	}
	return a.evaluated(client, started.Run, c.JSON)
}

// evaluated waits for the result and prints it.
func (a *app) evaluated(client *runs.Client, id string, asJSON bool) error {
	quiet := *a
	if asJSON {
		quiet.out = a.err
	}
	if err := quiet.watch(client, id, false, false); err != nil {
		return err
	}
	seen, err := client.Status(a.ctx, id)
	switch {
	case err != nil:
		return err
	case asJSON && seen.Scaling != nil:
		return a.print(seen.Scaling)
	case asJSON:
		return a.print(seen.Evaluation)
	}
	printResults(a.out, client, seen)
	return nil
}

// spec makes a spec of the options.
func (c *evalRunCmd) spec(a *app, client *runs.Client) (config.Evaluation, error) {
	s := config.DefaultEvaluation()
	if c.Of == "" {
		return s, usage("name a run, or give a spec. Try: starter eval --help")
	}
	if c.Judge == "" {
		return s, usage("no judge. Try: --judge provider/model, or --judge T for the model of an iteration")
	}
	s.Run, s.Tags, s.Model.Iteration = c.Of, c.Tags, c.Iteration
	if c.Iteration < 0 {
		seen, err := client.Status(a.ctx, c.Of)
		if err != nil {
			return s, err
		}
		for _, set := range seen.Sets {
			if set.Model.Name != "" {
				s.Model.Iteration = set.Iteration
			}
		}
		if s.Model.Iteration < 1 {
			return s, fmt.Errorf("run %s has trained no model yet: %w", c.Of, runs.ErrNotFound)
		}
	}
	s.Baseline = sideFrom(c.Against)
	s.Judge = sideFrom(c.Judge)
	switch c.Prompts {
	case "":
	case "seeds":
		s.SeedPrompts = true
	default:
		s.Prompts = []config.Source{source(c.Prompts)}
	}
	base := fmt.Sprintf("m%d-vs-%s", s.Model.Iteration, name(c.Against))
	if len(c.Sizes) > 0 {
		s.Scaling = &config.Scaling{Iteration: s.Model.Iteration, Sizes: c.Sizes}
		base, s.Model = fmt.Sprintf("scaling-m%d", s.Model.Iteration), config.Side{Iteration: -1}
	}
	body, err := json.Marshal(s)
	if err != nil {
		return s, err
	}
	if s.Name = c.Name; s.Name == "" {
		s.Name = base // a stand-in while the rest is checked
	}
	s, err = config.ParseEvaluation("the options", body, append(append([]string(nil), c.Set...), "name="+s.Name)...)
	if err != nil || c.Name != "" {
		return s, err
	}
	s.Name = base + "-" + runs.EvaluationDigest(s)[:8]
	return s, nil
}

// sideFrom reads an iteration, a file, or provider/model.
func sideFrom(text string) config.Side {
	side := config.Side{Iteration: -1}
	if t, err := strconv.Atoi(text); err == nil {
		side.Iteration = t
		return side
	}
	_, err := os.Stat(text)
	provider, model, named := strings.Cut(text, "/")
	if err == nil || strings.Contains(text, "://") || strings.HasSuffix(text, ".json") || strings.HasSuffix(text, ".jsonl") || !named {
		side.Outputs = []config.Source{source(text)}
		return side
	}
	side.Provider, side.Model = provider, model
	return side
}

func source(path string) config.Source {
	return config.Source{Path: path, Format: "auto", Instruction: "instruction", Output: "output", Text: "text", Language: "en"}
}

// name makes a name of what somebody typed.
func name(text string) string {
	text = strings.TrimSuffix(filepath.Base(text), filepath.Ext(text))
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			r = '-'
		}
		b.WriteRune(r)
	}
	out := strings.Trim(b.String(), "-")
	if _, err := strconv.Atoi(out); err == nil {
		out = "m" + out
	}
	return out[:min(len(out), 24)]
}

type evalImportCmd struct {
	File string `arg:"" help:"An annotations.json of AlpacaEval."`
	asJSON
}

// imported is what the command prints.
type imported struct {
	eval.Published
	Low              float64                `json:"low"` // 95 % interval of the win rate, in percent
	High             float64                `json:"high"`
	LengthControlled *eval.LengthControlled `json:"length_controlled,omitempty"`
}

// Help teaches by example.
func (evalImportCmd) Help() string {
	return `
Counts the annotations as AlpacaEval does: a preference of 1.5 is a draw, records without one are left out. The interval is a bootstrap of our own, and the view at equal length is not AlpacaEval 2's leaderboard figure, which rests on data of that leaderboard.

Example:

    starter eval import results/my-model/weighted_alpaca_eval_gpt4_turbo/annotations.json
`
}

// Run is the command.
func (c *evalImportCmd) Run(a *app) error {
	f, err := os.Open(c.File)
	if err != nil {
		return usage(err.Error())
	}
	defer f.Close() //nolint:errcheck // only read
	list, err := eval.ReadAnnotations(f)
	if err != nil {
		return usage(fmt.Sprintf("%s: %v", c.File, err))
	}
	p, err := eval.Import(list)
	if err != nil {
		return usage(fmt.Sprintf("%s: %v", c.File, err))
	}
	all := eval.Shares(list)
	shares := make([]float64, len(all))
	for i, s := range all {
		shares[i] = s.Share
	}
	w := eval.Rate(shares, 0)
	out := imported{Published: p, Low: 100 * w.Low, High: 100 * w.High}
	if l, ok := eval.ControlLength(all); ok {
		out.LengthControlled = &l
	}
	if c.JSON {
		return a.print(out)
	}
	a.say("%s against %s, by %s: win rate %.2f %% (standard error %.2f, 95 %% interval %.2f to %.2f)", screen.Clean(p.Model), screen.Clean(p.Baseline),
		screen.Clean(p.Annotator), p.WinRate, p.StandardError, out.Low, out.High)
	a.say("%d won, %d drawn, %d lost of %d; discrete win rate %.2f %%; average length %.0f", p.Wins, p.Draws, p.WinsBase, p.Total, p.DiscreteWinRate, p.AverageLength)
	if l := out.LengthControlled; l != nil {
		a.say("at equal length %.2f %% (95 %% interval %.2f to %.2f; not the leaderboard's figure)", 100*l.Rate, 100*l.Low, 100*l.High)
	}
	return nil
}
