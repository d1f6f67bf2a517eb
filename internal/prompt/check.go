package prompt

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

var (
	definitions = []string{"system", "user", "version"}
	fieldNames  = []string{"Instruction", "Output", "System"}
	comparing   = []string{"Instruction", "First", "Second"}
)

// check walks all definitions of a template and turns away what could fail or run long at rendering.
func check(t *template.Template) error {
	for _, d := range t.Templates() {
		if d.Tree == nil || d.Tree.Root == nil {
			continue
		}
		if d.Name() != t.Name() && !slices.Contains(definitions, d.Name()) {
			return fmt.Errorf("unknown definition %q (known: system, user, version)", d.Name())
		}
		c := checker{tree: d.Tree, fields: fieldNames}
		if t.Name() == Compare {
			c.fields = comparing
		}
		c.list(d.Tree.Root)
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

type checker struct {
	tree   *parse.Tree
	fields []string // that the template may use
	err    error
}

func (c *checker) known() string { return "known: ." + strings.Join(c.fields, ", .") }

func (c *checker) fail(n parse.Node, format string, args ...any) {
	if c.err == nil {
		where, _ := c.tree.ErrorContext(n)
		c.err = fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...))
	}
}

func (c *checker) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.CommentNode:
		case *parse.ActionNode:
			c.print(n.Pipe)
		case *parse.IfNode:
			c.condition(n.Pipe)
			c.list(n.List)
			c.list(n.ElseList)
		default:
			c.fail(n, "%s is not allowed", bounded40(n))
		}
	}
}

// condition accepts a field.
func (c *checker) condition(p *parse.PipeNode) {
	if len(p.Decl) > 0 || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		c.fail(p, "condition %s is not a field", bounded40(p))
		return
	}
	c.field(p.Cmds[0].Args[0])
}

// print accepts {{.Field}}, {{plain .Field}}, {{.Field | plain}} and {{"text"}}.
func (c *checker) print(p *parse.PipeNode) {
	if len(p.Decl) > 0 {
		c.fail(p, "variables are not allowed")
		return
	}
	first := p.Cmds[0].Args
	if _, ok := first[0].(*parse.StringNode); ok && len(p.Cmds) == 1 && len(first) == 1 {
		return
	}
	if id, ok := first[0].(*parse.IdentifierNode); ok {
		c.plain(id)
		if len(first) != 2 || len(p.Cmds) != 1 {
			c.fail(p, "plain takes one field (got %s)", bounded40(p))
			return
		}
		c.field(first[1])
		return
	}
	c.field(first[0])
	switch {
	case len(first) > 1 || len(p.Cmds) > 2:
		c.fail(p, "%s is not allowed", bounded40(p))
	case len(p.Cmds) == 2:
		c.plain(p.Cmds[1].Args[0])
		if len(p.Cmds[1].Args) > 1 {
			c.fail(p, "plain takes one field (got %s)", bounded40(p))
		}
	}
}

func (c *checker) field(n parse.Node) {
	f, ok := n.(*parse.FieldNode)
	switch {
	case !ok:
		c.fail(n, "%s is not a field (%s)", bounded40(n), c.known())
	case len(f.Ident) != 1 || !slices.Contains(c.fields, f.Ident[0]):
		c.fail(n, "unknown field %s (%s)", bounded40(n), c.known())
	}
}

func (c *checker) plain(n parse.Node) {
	if id, ok := n.(*parse.IdentifierNode); !ok || id.Ident != "plain" {
		c.fail(n, "function %s is not allowed (known: plain)", bounded40(n))
	}
}

// bounded40 shows a node in a message.
func bounded40(n parse.Node) string {
	r := []rune(n.String())
	if len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return string(r)
}
