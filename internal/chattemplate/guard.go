package chattemplate

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	controlStructures "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
)

// maxDepth is how deep macros call macros.
const maxDepth = 200

// guardName is under which name a render knows its guard.
const guardName = "__guard"

// guard is what one render keeps: how deep it is in macros, when it has to end, and what an inline if chose.
type guard struct {
	depth  int
	until  time.Time
	choice *exec.Value
}

// values are the names that a guard gives to a template.
func (g *guard) values() map[string]any {
	return map[string]any{
		guardName: g,
		choose: func(_ *exec.Evaluator, params *exec.VarArgs) *exec.Value {
			g.choice = params.Args[0]
			return exec.AsValue(true)
		},
		same: func(_ *exec.Evaluator, params *exec.VarArgs) *exec.Value { return params.First() },
		chosen: func(_ *exec.Evaluator, _ *exec.VarArgs) *exec.Value {
			out := g.choice
			g.choice = nil
			return out
		},
	}
}

func (g *guard) call(macro exec.Macro, params *exec.VarArgs) *exec.Value {
	if g.depth >= maxDepth {
		return exec.AsValue(fmt.Errorf("macros call macros more than %d deep", maxDepth))
	}
	if time.Now().After(g.until) {
		return exec.AsValue(ErrTime)
	}
	g.depth++
	defer func() { g.depth-- }()
	return macro(params)
}

// guardedMacro is a macro whose calls are counted: one that calls itself for ever would take the process with it.
type guardedMacro struct {
	*controlStructures.MacroControlStructure
}

// Execute makes the macro known.
func (m *guardedMacro) Execute(r *exec.Renderer, tag *nodes.ControlStructureBlock) error {
	if err := m.MacroControlStructure.Execute(r, tag); err != nil {
		return err
	}
	known, _ := r.Environment.Context.Get(m.Name)
	macro, isMacro := known.(exec.Macro)
	kept, _ := r.Environment.Context.Get(guardName)
	g, isGuard := kept.(*guard)
	if !isMacro || !isGuard {
		return errors.New("macro " + m.Name + ": cannot be guarded")
	}
	r.Environment.Context.Set(m.Name, exec.Macro(func(params *exec.VarArgs) *exec.Value { return g.call(macro, params) }))
	return nil
}

func parseMacro(p, args *parser.Parser) (nodes.ControlStructure, error) {
	parse, _ := builtins.ControlStructures.Get("macro")
	made, err := parse(p, args)
	if err != nil {
		return nil, err
	}
	macro, ok := made.(*controlStructures.MacroControlStructure)
	if !ok {
		return nil, fmt.Errorf("macro: an unexpected %T", made)
	}
	return &guardedMacro{macro}, nil
}

// structures are gonja's block tags, with guarded macros.
var structures = func() *exec.ControlStructureSet {
	all := exec.NewControlStructureSet(map[string]parser.ControlStructureParser{}).Update(builtins.ControlStructures)
	_ = all.Replace("macro", parseMacro) // which is there
	return all
}()

// stringMethods are those that gonja has, whose sets cannot be listed.
var stringMethods = strings.Fields(`
	capitalize capwords casefold center count encode endswith expandtabs find format isalnum isalpha
	isascii isdecimal isdigit islower isnumeric isprintable isspace istitle isupper join ljust lower
	lstrip partition removeprefix removesuffix replace rfind rjust rpartition rsplit rstrip split splitlines
	startswith strip swapcase title upper zfill`)

// methods are gonja's, where replace may leave out how often, as in Python.
var methods = func() exec.Methods {
	own := map[string]exec.Method[string]{}
	for _, name := range stringMethods {
		if method, ok := builtins.Methods.Str.Get(name); ok {
			own[name] = method
		}
	}
	for _, name := range []string{"split", "rsplit", "splitlines"} {
		own[name] = indexed(own[name])
	}
	replace := own["replace"]
	own["replace"] = func(self string, value *exec.Value, params *exec.VarArgs) (any, error) {
		if _, named := params.KwArgs["count"]; !named && len(params.Args) == 2 {
			params = &exec.VarArgs{Args: append(slices.Clone(params.Args), exec.AsValue(-1)), KwArgs: params.KwArgs}
		}
		return replace(self, value, params)
	}
	all := builtins.Methods
	all.Str = exec.NewMethodSet(own)
	return all
}()

// indexed makes a list that a method returns one whose index may count from the end.
func indexed(method exec.Method[string]) exec.Method[string] {
	return func(self string, value *exec.Value, params *exec.VarArgs) (any, error) {
		out, err := method(self, value, params)
		if v := reflect.ValueOf(out); err == nil && v.Kind() == reflect.Slice {
			list := make(texts, v.Len())
			for i := range list {
				list[i] = v.Index(i).String()
			}
			out = list
		}
		return out, err
	}
}

// texts are what split makes of a text, as a template sees them.
type texts []string

// GetItem returns an entry.
func (t texts) GetItem(key any) (*exec.Value, bool) {
	i, ok := at(key, len(t))
	if !ok {
		return exec.AsValue(nil), false
	}
	return exec.AsValue(t[i]), true
}

// at is the place that an index means, where it may count from the end: gonja's own lists of one have none at -1.
func at(key any, n int) (int, bool) {
	i, ok := key.(int)
	if ok && i < 0 {
		i += n
	}
	return i, ok && i >= 0 && i < n
}
