package config

import (
	"strings"
)

// CheckTogether reports every name in a run spec that the worker's settings do not define, and a budget in US dollars that
// cannot be kept because a price is not known. Both must be valid by themselves. Problems are an *Error about the spec.
func CheckTogether(r Run, w Worker) error {
	var ps problems
	ps.mayRead("seeds", r.Seeds, w)
	ps.mayRead("documents", r.Documents, w)
	ps.mayRead("decontaminate.sets", r.Decontaminate.sources(), w)
	ps.reference("model.trainer", r.Model.Trainer, "trainer", w.Trainers)
	if r.Model.Server != "" {
		ps.reference("model.server", r.Model.Server, "server", w.Servers)
	} else if _, ok := w.Servers[r.ServerName()]; !ok {
		ps.add("model.server", "is missing, and no server has the trainer's name", quote(r.Model.Trainer), "one of "+strings.Join(names(w.Servers), ", "))
	}
	if r.Model.Provider != "" {
		ps.reference("model.provider", r.Model.Provider, "provider", w.Providers)
	}
	if r.Rate.Judge != nil {
		ps.reference("rate.judge.provider", r.Rate.Judge.Provider, "provider", w.Providers)
	}
	if w.Servers[r.ServerName()].Differs && r.Model.Provider == "" {
		ps.add("model.provider", "is missing, and server "+quote(r.ServerName())+" compares trained models with the base model", "", "the provider at which the base model answers")
	}
	ps.judges(r, w)
	ps.pushable("publish", r.Publish, w)
	if e, s := r.Evaluate, w.Servers[r.ServerName()]; e != nil && len(s.Slots) == 1 && s.Backend == BackendCommand && len(e.Prompts) > 0 && e.Against != AgainstPrevious && e.Against != AgainstOutputs {
		ps.add("evaluate.against", "keeps M_"+e.Against+" served beside the newest model and the next one, and server "+quote(r.ServerName())+" has room for two",
			quote(e.Against), "previous, or another provider in servers."+r.ServerName()+".slots")
	}
	if r.Budget.USD > 0 && len(ps) == 0 {
		for _, m := range UnpricedModels(r, w) {
			ps.add("budget.usd", "cannot be kept: the worker's settings have no price for model "+quote(m.Model)+" at provider "+m.Provider, plain(r.Budget.USD),
				"providers."+m.Provider+".prices, or a budget in calls or tokens")
		}
	}
	return ps.err("")
}

// Asked is a model that a run asks.
type Asked struct {
	Provider string
	Model    string // for a trained model, whose name is not known before, a name such as it will get
}

// ModelsAsked returns the models that a run asks: the trained ones first, then the fixed judge where there is one.
func ModelsAsked(r Run, w Worker) []Asked {
	server := w.Servers[r.ServerName()]
	trained := Asked{Provider: server.Provider, Model: "ft:" + r.Model.Base}
	if pattern := server.Pattern(); pattern != "" {
		trained.Model = strings.NewReplacer("{run}", r.Name, "{iteration}", "1", "{role}", "forward", "{model}", trained.Model).Replace(pattern)
	}
	asked := []Asked{trained}
	if r.Rate.Judge != nil {
		asked = append(asked, Asked{Provider: r.Rate.Judge.Provider, Model: r.Rate.Judge.Model})
	}
	return asked
}

// Judges are the fixed judges of evaluations and of the gate.
func (r Run) Judges() (out []*Judge) {
	if r.Evaluate != nil && r.Evaluate.Judge != nil {
		out = append(out, r.Evaluate.Judge)
	}
	if r.Gate != nil && r.Gate.Judge != nil {
		out = append(out, r.Gate.Judge)
	}
	return out
}

// UnpricedModels returns the models that a run asks and that have no price.
func UnpricedModels(r Run, w Worker) []Asked {
	var out []Asked
	asked := ModelsAsked(r, w)
	for _, slot := range w.Servers[r.ServerName()].Slots {
		asked = append(asked, Asked{Provider: slot, Model: asked[0].Model})
	}
	for _, j := range r.Judges() {
		asked = append(asked, Asked{Provider: j.Provider, Model: j.Model})
	}
	for _, m := range asked {
		if _, ok := w.Providers[m.Provider].PriceOfTrained(m.Model); !ok {
			out = append(out, m)
		}
	}
	return out
}

// PriceOfTrained is Price, and for a model ft:base also that of any name that begins so, as the full name of a trained
// model is known only once it is there.
func (p Provider) PriceOfTrained(model string) (Price, bool) {
	if price, ok := p.Price(model); ok || !strings.HasPrefix(model, "ft:") {
		return price, ok
	}
	return p.Price(model + ":")
}
