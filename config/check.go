package config

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var (
	refName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	language = regexp.MustCompile(`^([a-z]{2}|any)$`)
	windows  = regexp.MustCompile(`^[A-Za-z]:[\\/]`)
)

// secret reports whether the value at path could be a key that somebody wrote where a variable's name belongs.
func secret(path string) bool {
	return strings.HasSuffix(path, "_env") || strings.HasSuffix(path, "url")
}

// fields checks v against the bounds in its struct tags, those from which the JSON Schema is made too.
func (ps *problems) fields(v reflect.Value, at string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			ps.fields(v.Elem(), at)
		}
	case reflect.Slice:
		for i := range v.Len() {
			ps.fields(v.Index(i), at+"["+strconv.Itoa(i)+"]")
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
		for _, k := range keys {
			ps.fields(v.MapIndex(k), join(at, k.String()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if options == "inline" {
				ps.fields(v.Field(i), at)
				continue
			}
			ps.field(v.Field(i), join(at, name), field.Tag)
			ps.fields(v.Field(i), join(at, name))
		}
	default:
	}
}

// rules are the bounds of one field.
type rules struct {
	required, unique bool
	min, max         float64
	open, openMax    bool // min, max themselves are not allowed
	minItems         int
	maxItems         int
	enum             []string
	pattern          string
	try              string // a value that would do, for messages
}

func rulesOf(tag reflect.StructTag) rules {
	r := rules{min: math.Inf(-1), max: math.Inf(1), maxItems: 1000, try: tag.Get("try")}
	for _, rule := range strings.Split(strings.ReplaceAll(tag.Get("jsonschema"), `\,`, "\x00"), ",") {
		key, value, _ := strings.Cut(strings.ReplaceAll(rule, "\x00", ","), "=")
		f, _ := strconv.ParseFloat(value, 64)
		switch key {
		case "required":
			r.required = true
		case "uniqueItems":
			r.unique = true
		case "minimum":
			r.min = f
		case "exclusiveMinimum":
			r.min, r.open = f, true
		case "maximum":
			r.max = f
		case "exclusiveMaximum":
			r.max, r.openMax = f, true
		case "minItems":
			r.minItems = int(f)
		case "maxItems":
			r.maxItems = int(f)
		case "enum":
			r.enum = append(r.enum, value)
		case "pattern":
			r.pattern = value
		}
	}
	return r
}

func (ps *problems) field(v reflect.Value, at string, tag reflect.StructTag) {
	r := rulesOf(tag)
	if d, ok := v.Interface().(Duration); ok {
		low, _ := time.ParseDuration(tag.Get("min"))
		high, _ := time.ParseDuration(tag.Get("max"))
		if got := time.Duration(d); got < low || got > high {
			ps.add(at, fmt.Sprintf("must be from %s to %s", tag.Get("min"), tag.Get("max")), got.String(), "")
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		ps.word(v.String(), at, r)
	case reflect.Int, reflect.Int64:
		ps.bounds(float64(v.Int()), at, r)
	case reflect.Float64:
		ps.bounds(v.Float(), at, r)
	case reflect.Slice:
		switch n := v.Len(); {
		case n == 0 && r.minItems > 0:
			ps.add(at, "is missing or empty", "", r.try)
		case n > r.maxItems:
			ps.add(at, fmt.Sprintf("must have at most %d entries", r.maxItems), strconv.Itoa(n), "")
		}
		if v.Type().Elem().Kind() == reflect.String {
			seen := map[string]bool{}
			for i := range min(v.Len(), r.maxItems) {
				word, item := v.Index(i).String(), at+"["+strconv.Itoa(i)+"]"
				if r.unique && seen[word] {
					ps.add(item, "is there twice", quote(word), "remove one")
				}
				seen[word] = true
				ps.word(word, item, rules{enum: r.enum, required: true})
			}
		}
	default:
	}
}

func (ps *problems) word(s, at string, r rules) {
	switch {
	case strings.TrimSpace(s) == "" && r.required:
		ps.add(at, "is missing", "", r.try)
	case s == "":
	case strings.ContainsFunc(s, unicode.IsControl) && !strings.HasPrefix(at, "prompts."):
		ps.add(at, "must not contain control characters", "", "")
	case len(r.enum) > 0 && !slices.Contains(r.enum, s):
		try := "one of " + strings.Join(r.enum, ", ")
		if best := nearest(s, r.enum); best != "" {
			try = best
		}
		ps.add(at, "is none of the values it may have", quote(s), try)
	case r.pattern != "" && !regexp.MustCompile(r.pattern).MatchString(s):
		if secret(at) {
			ps.add(at, "must be the name of an environment variable; the value is not shown, as it may be a key", "", "OPENAI_API_KEY, and export the key under that name")
			return
		}
		ps.add(at, "must match "+r.pattern, quote(s), r.try)
	}
}

func (ps *problems) bounds(f float64, at string, r rules) {
	low, high := f >= r.min, f <= r.max
	if r.open {
		low = f > r.min
	}
	if r.openMax {
		high = f < r.max
	}
	if low && high { // false for NaN too
		return
	}
	var what string
	switch {
	case math.IsInf(r.max, 1) && r.open:
		what = fmt.Sprintf("must be above %s", plain(r.min))
	case math.IsInf(r.max, 1):
		what = fmt.Sprintf("must be %s or more", plain(r.min))
	case r.open:
		what = fmt.Sprintf("must be above %s and at most %s", plain(r.min), plain(r.max))
	case r.openMax:
		what = fmt.Sprintf("must be at least %s and below %s", plain(r.min), plain(r.max))
	default:
		what = fmt.Sprintf("must be from %s to %s", plain(r.min), plain(r.max))
	}
	ps.add(at, what, plain(f), "")
}

func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// Validate reports every impossible value at once, as an *Error.
func (r Run) Validate() error { return r.check().err("") }

func (r Run) check() problems {
	var ps problems
	ps.fields(reflect.ValueOf(r), "")
	ps.sources("seeds", r.Seeds, []string{"auto", "pairs", "alpaca", "chat", "oasst", "parquet"})
	ps.evaluating(r)
	ps.sources("documents", r.Documents, []string{"auto", "html", "text", "jsonl", "csv", "tsv", "warc", "wet", "zip", "tar", "parquet", "paths"})
	if s := r.Segments; s.MinChars > s.MaxChars && s.MaxChars > 0 {
		ps.add("segments.min_chars", fmt.Sprintf("must not be above max_chars, which is %d", s.MaxChars), strconv.Itoa(s.MinChars), "")
	}
	ps.evaluationSets(r.Decontaminate.Sets)
	for i, l := range r.Segments.Languages {
		if !language.MatchString(l) {
			ps.add(fmt.Sprintf("segments.languages[%d]", i), "must be an ISO 639-1 code, or any", quote(l), "en")
		}
	}
	if h := r.Model.Hyper; h.Epochs > 0 && h.Steps > 0 {
		ps.add("model.hyperparameters.steps", "cannot stand beside epochs", strconv.Itoa(h.Steps), "remove one of both")
	}
	if h := r.Model.Hyper; h.LearningRateEnd > 0 && h.LearningRate > 0 && h.LearningRateEnd > h.LearningRate {
		ps.add("model.hyperparameters.learning_rate_end", "must not be above learning_rate", plain(h.LearningRateEnd), "")
	}
	if r.Rate.Rubric == RubricAdditive && r.Prompts.Rate != "" {
		ps.add("rate.rubric", "cannot stand beside prompts.rate, a rubric of your own", quote(r.Rate.Rubric), "remove one of both")
	}
	ps.push("publish", r.Publish, r.Approve)
	return ps
}

func (ps *problems) sources(field string, sources []Source, formats []string) {
	first := map[string]int{}
	for i, s := range sources {
		at := fmt.Sprintf("%s[%d]", field, i)
		if s.Format != "" && !slices.Contains(formats, s.Format) && rulesOf(sourceFormat).allows(s.Format) {
			ps.add(at+".format", "cannot be the format of "+field, quote(s.Format), "one of "+strings.Join(formats, ", "))
		}
		if s.Path == "" {
			continue
		}
		ps.sourcePath(at+".path", s.Path)
		ps.sourceParts(at, s)
		key := strings.Join([]string{s.Path, s.Config, s.Split, s.Revision}, " ")
		if !strings.Contains(key, "://") {
			key = path.Clean(strings.ReplaceAll(s.Path, `\`, "/"))
		}
		if j, twice := first[key]; twice {
			ps.add(at+".path", fmt.Sprintf("is the same source as %s[%d]", field, j), quote(s.Path), "remove one")
			continue
		}
		first[key] = i
	}
}

var sourceFormat = func() reflect.StructTag {
	f, _ := reflect.TypeFor[Source]().FieldByName("Format")
	return f.Tag
}()

func (r rules) allows(s string) bool { return slices.Contains(r.enum, s) }

// redact returns an address without what may be secret in it.
func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "an address"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// Validate reports every impossible value at once, as an *Error.
func (w Worker) Validate() error { return w.check().err("") }

func (w Worker) check() problems {
	var ps problems
	ps.fields(reflect.ValueOf(w), "")
	ps.address("store.endpoint", w.Store.Endpoint)
	ps.address("temporal.ui", w.Temporal.UI)
	ps.address("callbacks.url", w.Callbacks.URL)
	ps.hub(w.Hub)
	ps.places(w)
	if strings.ContainsAny(w.Store.Bucket, ":/ ") {
		name := strings.TrimPrefix(w.Store.Bucket, "s3://")
		name, _, _ = strings.Cut(name, "/")
		ps.add("store.bucket", "must be the name alone; a path goes into store.prefix", quote(w.Store.Bucket), name)
	}
	if (w.Store.AccessKeyEnv == "") != (w.Store.SecretKeyEnv == "") {
		ps.add("store.access_key_env", "access_key_env and secret_key_env go together", "", "name both, or neither for the AWS default chain")
	}
	if s := strings.Trim(w.Store.Prefix, "/"); slices.Contains(strings.Split(s, "/"), "..") {
		ps.add("store.prefix", "must not contain ..", quote(w.Store.Prefix), "")
	}
	if len(w.Providers) == 0 {
		ps.add("providers", "is missing or empty", "", "name at least one endpoint")
	}
	for _, name := range names(w.Providers) {
		at, p := join("providers", name), w.Providers[name]
		ps.name(at, name)
		ps.providerAddress(at, p)
		for _, model := range names(p.Prices) {
			if strings.Contains(strings.TrimSuffix(model, "*"), "*") {
				ps.add(join(at+".prices", model), "may have a * at its end only", quote(model), "")
			}
			if price := p.Prices[model]; price.Input > 0 && price.Output == 0 {
				ps.add(join(at+".prices", model)+".output", "is missing, and would make answers free of charge", "", "the price of answers per million tokens")
			}
			if date := p.Prices[model].AsOf; date != "" {
				if _, err := time.Parse(time.DateOnly, date); err != nil {
					ps.add(join(at+".prices", model)+".as_of", "must be a date", quote(date), "2026-11-30")
				}
			}
		}
	}
	for _, name := range names(w.Trainers) {
		at, t := join("trainers", name), w.Trainers[name]
		ps.name(at, name)
		ps.trainer(at, t, w)
	}
	ps.servers(w)
	return ps
}

// pattern checks the names under which a static server finds trained models: the backward model, M0, M1 … must have
// different ones, since two of them are asked at the same time.
func (ps *problems) pattern(at, model string) {
	const try = `"{run}-{role}-{iteration}"`
	has := func(fields ...string) bool {
		return slices.ContainsFunc(fields, func(f string) bool { return strings.Contains(model, f) })
	}
	rest := strings.NewReplacer("{run}", "", "{iteration}", "", "{role}", "", "{model}", "", "{digest}", "").Replace(model)
	switch {
	case model == "":
		ps.add(at, "is missing", "", try)
	case strings.ContainsAny(rest, "{}"):
		ps.add(at, "may have only {run}, {iteration}, {role}, {model} and {digest} in braces", quote(model), "")
	case !has("{model}", "{digest}") && !(has("{role}") && has("{iteration}")):
		ps.add(at, "must tell the models of a run apart: by {role} and {iteration}, or by {digest} or {model}", quote(model), try)
	}
}

func (ps *problems) name(at, name string) {
	if !refName.MatchString(name) {
		ps.add(at, "the name must match "+refName.String(), quote(name), "")
	}
}

// address checks an optional http or https address. A password in it is never shown.
func (ps *problems) address(at, s string) {
	if s == "" {
		return
	}
	u, err := url.Parse(s)
	switch {
	case strings.ContainsFunc(s, unicode.IsSpace):
		ps.add(at, "must not have spaces in it", quote(redact(s)), "https://host/v1")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		ps.add(at, "must be an address with http:// or https://", quote(redact(s)), "https://host/v1")
	case u.User != nil:
		ps.add(at, "must not hold a password or user", quote(redact(s)), "name the key's environment variable instead")
	case u.RawQuery != "" || u.Fragment != "":
		ps.add(at, "must end with its path", quote(redact(s)), "")
	}
}

// reference checks that a name is among those that are defined.
func (ps *problems) reference(at, name, what string, defined any) {
	known := make([]string, 0)
	for _, k := range reflect.ValueOf(defined).MapKeys() {
		known = append(known, k.String())
	}
	slices.Sort(known)
	try := "define it in the worker's settings; none are there"
	if len(known) > 0 {
		try = "one of " + strings.Join(known, ", ")
	}
	switch {
	case name == "":
		ps.add(at, "is missing", "", try)
	case !slices.Contains(known, name):
		ps.add(at, "no "+what+" of this name in the worker's settings", quote(name), try)
	}
}

func names[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
