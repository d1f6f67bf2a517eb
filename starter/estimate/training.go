package estimate

import (
	"fmt"
	"math"
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/finetune"
)

// train adds a fine-tuning job over seeds and pairs.
func (p *planner) train(name string, t int, seeds, pairs Texts) {
	rows := seeds.Rows + pairs.Rows
	h, by := finetune.PaperHyper(rows), p.run.Model.Hyper
	h = h.Override(finetune.Hyper{Epochs: by.Epochs, Steps: by.Steps, BatchSize: by.BatchSize})
	epochs := h.Epochs
	if h.Steps > 0 && h.BatchSize > 0 && rows > 0 {
		epochs = float64(h.Steps) * float64(h.BatchSize) / float64(rows)
	}
	tokens := epochs * (float64(seeds.Rows)*(seeds.Instruction+seeds.Output) + float64(pairs.Rows)*(pairs.Instruction+pairs.Output))
	stage := Stage{Name: name, Iteration: t, Rows: rows, TrainedTokens: int64(tokens)}
	trainer := p.worker.Trainers[p.run.Model.Trainer]
	if speed := trainer.TokensPerSecond; speed > 0 {
		seconds := tokens / speed
		stage.Seconds = &seconds
	}
	switch trainer.Backend {
	case config.BackendOpenAI, config.BackendTogether:
		stage.Cost = p.byToken(tokens, trainer.Provider)
	default:
		stage.Cost = p.byHour(stage.Seconds, trainer)
	}
	stage.worst.cost = stage.Cost
	p.plan.Stages = append(p.plan.Stages, stage)
	for _, w := range Unbounded(p.run, p.worker) {
		p.warn(w)
	}
}

// byToken is the cost of a job whose provider has a price for trained tokens.
func (p *planner) byToken(tokens float64, name string) *float64 {
	provider := p.worker.Providers[name]
	price, known := provider.PriceOfTrained("ft:" + p.run.Model.Base)
	if !known || price.Training == 0 {
		price, known = provider.Price(p.run.Model.Base)
	}
	if known && (price.Training > 0 || price == (config.Price{AsOf: price.AsOf})) {
		usd := tokens * price.Training / 1e6
		return &usd
	}
	p.warn(fmt.Sprintf("no training price for %s at provider %s, so the cost of training is not known", p.run.Model.Base, name))
	return nil
}

// byHour is the cost of a job on machines that cost by the hour.
func (p *planner) byHour(seconds *float64, trainer config.Trainer) *float64 {
	name := p.run.Model.Trainer
	switch {
	case trainer.InstanceHour > 0 && seconds != nil:
		usd := *seconds / 3600 * trainer.InstanceHour * instances(trainer)
		return &usd
	case trainer.InstanceHour > 0:
		p.warn(fmt.Sprintf("trainer %s costs $%g an hour, for as long as a job takes, which is not known (Try: tokens_per_second in its settings, as a first job shows it)", name, trainer.InstanceHour))
	case trainer.Backend == config.BackendCommand:
		free := 0.0
		p.assumed = appendOnce(p.assumed, fmt.Sprintf("training on your own machines is counted as free; instance_hour and tokens_per_second of trainer %s would give it a price", name))
		return &free
	default:
		p.warn(fmt.Sprintf("what jobs of trainer %s cost is not known (Try: instance_hour and tokens_per_second in its settings)", name))
	}
	return nil
}

// instances is how many machines a job takes, where the settings tell.
func instances(t config.Trainer) float64 {
	if t.Backend != config.BackendSageMaker {
		return 1
	}
	var request struct {
		ResourceConfig struct {
			InstanceCount  float64 `yaml:"InstanceCount"`
			InstanceGroups []struct {
				InstanceCount float64 `yaml:"InstanceCount"`
			} `yaml:"InstanceGroups"`
		} `yaml:"ResourceConfig"`
	}
	if yaml.Unmarshal([]byte(t.Template), &request) != nil {
		return 1
	}
	n := request.ResourceConfig.InstanceCount
	for _, g := range request.ResourceConfig.InstanceGroups {
		n += g.InstanceCount
	}
	return math.Max(1, n)
}

// isTrainJob reports whether a template is of a TrainJob, which has no time limit.
func isTrainJob(template string) bool {
	var m struct {
		Kind string `yaml:"kind"`
	}
	return yaml.Unmarshal([]byte(template), &m) == nil && m.Kind == "TrainJob"
}

// Unbounded tells what a run's budget in dollars cannot hold back: jobs whose price is known only when they have ended.
func Unbounded(run config.Run, worker config.Worker) []string {
	t := worker.Trainers[run.Model.Trainer]
	if run.Budget.USD <= 0 {
		return nil
	}
	why := ""
	switch t.Backend {
	case config.BackendCommand, config.BackendSlurm, config.BackendKubernetes, config.BackendSageMaker:
		switch {
		case t.InstanceHour <= 0:
			why = "nobody says what its machines cost (Try: instance_hour in its settings)"
		case t.Backend == config.BackendKubernetes && isTrainJob(t.Template):
			why = "a TrainJob has no time limit, so its cost is counted when it has ended"
		}
	case config.BackendHTTP:
		why = "the service is told max_cost_usd and must keep it itself"
	default:
		provider := worker.Providers[t.Provider]
		price, known := provider.PriceOfTrained("ft:" + run.Model.Base)
		if !known || price.Training == 0 {
			price, known = provider.Price(run.Model.Base)
		}
		if t.Backend == config.BackendOpenAI && (!known || price.Training == 0 && price != (config.Price{AsOf: price.AsOf})) {
			why = "it has no price (Try: training under prices of provider " + t.Provider + ")"
		}
	}
	if why == "" {
		return nil
	}
	return []string{fmt.Sprintf("budget.usd does not hold back a job of trainer %s: %s", run.Model.Trainer, why)}
}

func appendOnce(list []string, text string) []string {
	if slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}
