package lm

import (
	"bytes"
	"encoding/json"
	"strings"
)

// property is a field of a simple JSON schema, in the schema's order.
type property struct {
	name     string
	kind     string
	enum     []any
	min, max *float64
}

// properties reads the fields of an object schema. Nested objects and lists are filled empty.
func properties(schema []byte) []property {
	var s struct {
		Properties json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(schema, &s) != nil || len(s.Properties) == 0 {
		return nil
	}
	var out []property
	dec := json.NewDecoder(bytes.NewReader(s.Properties))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for dec.More() && len(out) < 100 {
		t, err := dec.Token()
		if err != nil {
			return out
		}
		name, _ := t.(string)
		var p struct {
			Type any      `json:"type"`
			Enum []any    `json:"enum"`
			Min  *float64 `json:"minimum"`
			Max  *float64 `json:"maximum"`
		}
		if dec.Decode(&p) != nil {
			return out
		}
		kind, _ := p.Type.(string)
		if list, ok := p.Type.([]any); ok && len(list) > 0 {
			kind, _ = list[0].(string)
		}
		out = append(out, property{name: name, kind: kind, enum: p.Enum, min: p.Min, max: p.Max})
	}
	return out
}

func isScore(name string) bool { return containsAny(strings.ToLower(name), scoreLabels) }

// object fills a schema: the score with the verdict's distribution, texts with text.
func object(props []property, v *verdict, r request, text []Choice) Draft {
	d := Draft{one("{")}
	for i, p := range props {
		key := jsonString(p.name) + ":"
		if i > 0 {
			key = "," + key
		}
		d = append(d, one(key))
		switch {
		case len(p.enum) > 0:
			d = append(d, p.fromEnum(v, r))
		case p.kind == "number" || p.kind == "integer":
			q := r
			if p.min != nil {
				q.lo = *p.min
			}
			if p.max != nil {
				q.hi = *p.max
			}
			if v != nil && isScore(p.name) && q.hi > q.lo && q.hi-q.lo <= 100 {
				d = append(d, v.scores(q, p.kind == "integer"))
			} else {
				d = append(d, one(jsonNumber(q.lo)))
			}
		case p.kind == "boolean":
			d = append(d, []Choice{{Text: "true", P: 0.5}, {Text: "false", P: 0.5}})
		case p.kind == "array":
			d = append(d, one("[]"))
		case p.kind == "object":
			d = append(d, one("{}"))
		case p.kind == "null":
			d = append(d, one("null"))
		default:
			quotedText := make([]Choice, len(text))
			for k, c := range text {
				quotedText[k] = Choice{Text: jsonString(c.Text), P: c.P}
			}
			d = append(d, quotedText)
		}
	}
	return append(d, one("}"))
}

// fromEnum gives the numbers of an enumeration the verdict's weights, anything else equal ones.
func (p property) fromEnum(v *verdict, r request) []Choice {
	out := make([]Choice, 0, len(p.enum))
	var weights []Choice
	if v != nil && isScore(p.name) {
		weights = v.scores(r, false)
	}
	total := 0.0
	for _, e := range p.enum {
		b, err := json.Marshal(e)
		if err != nil {
			continue
		}
		c := Choice{Text: string(b), P: 1}
		for _, w := range weights {
			if strings.Trim(c.Text, `"`) == w.Text {
				c.P = w.P
			}
		}
		total += c.P
		out = append(out, c)
	}
	if len(out) == 0 {
		return one("null")
	}
	for i := range out {
		out[i].P /= total
	}
	return out
}

func jsonString(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

func jsonNumber(f float64) string {
	b, err := json.Marshal(f)
	if err != nil {
		return "0"
	}
	return string(b)
}
