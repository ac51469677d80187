package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Transforms, target types, reaches and the rest, as a manifest spells them.
func transforms() []string {
	return []string{"encrypt", "reencrypt", "decrypt", "external", "proxy", "expression", "copy"}
}
func types() []string { return []string{"bytea", "text", "jsonb", "eql_v2_encrypted"} }
func reaches() []string {
	return []string{"schema-added", "dual-writing", "backfilled", "cut-over", "dropped"}
}

// own says that the transform reads or writes cells of ours, so that it needs a scheme.
func (c Column) own() bool {
	return c.Transform != "external" && c.Transform != "proxy" && !c.Made()
}

// Made says that Postgres makes the target's values, by an expression.
func (c Column) Made() bool { return c.Transform == "expression" || c.Transform == "copy" }

func (r *reader) column(n *yaml.Node, path string) Column {
	c := DefaultColumn("")
	c.Target = ""
	seen := r.mapping(n, path,
		field{"source", r.name(&c.Source)},
		field{"target", r.name(&c.Target)},
		field{"type", r.text(&c.Type)},
		field{"transform", r.choice(&c.Transform, transforms()...)},
		field{"external", func(n *yaml.Node, path string) {
			r.mapping(n, path, field{"subject", r.text(&c.External.Subject)}, field{"key", r.text(&c.External.Key)})
		}},
		field{"from", func(n *yaml.Node, path string) { c.From = r.from(n, path) }},
		field{"expression", r.text(&c.Expression)},
		field{"done", func(n *yaml.Node, path string) { c.Done = r.done(n, path) }},
		field{"scheme", r.integer(&c.Scheme, 1, maxScheme)},
		field{"schemes", func(n *yaml.Node, path string) { c.Schemes = r.schemes(n, path) }},
		field{"indexes", func(n *yaml.Node, path string) {
			r.sequence(n, path, func(n *yaml.Node, path string) { c.Indexes = append(c.Indexes, r.index(n, path)) })
		}},
		field{"reach", r.choice(&c.Reach, reaches()...)},
		field{"cutover", r.choice(&c.Cutover, "swap", "by-name")},
		field{"soak", r.duration(&c.Soak, 0, tenYears)})
	r.require(n, path, seen, "source")
	r.typ(path, seen, &c)
	r.target(n, path, seen, &c)
	r.transform(n, path, seen, c)
	r.scheme(n, path, seen, &c)
	for _, number := range sortedNumbers(c.Schemes) {
		if bound := c.Schemes[number].Columns; slices.Contains(bound, c.Source) || slices.Contains(bound, c.Target) {
			r.fail(n, fmt.Sprintf("%s.schemes.%d.columns", path, number), "name other columns of the table", "source and target must not be among them: cells cannot be bound to themselves")
		}
	}
	return c
}

func (r *reader) target(n *yaml.Node, path string, seen map[string]*yaml.Node, c *Column) {
	switch {
	case c.Made(), c.From.Own():
		r.require(n, path, seen, "target")
	case seen["target"] == nil && c.Source != "":
		c.Target = DefaultColumn(c.Source).Target
		if len(c.Target) > maxName {
			r.fail(n, path+".target", "", "missing, and %s_encrypted would have more than %d bytes", c.Source, maxName)
		}
	case c.Target != "" && c.Target == c.Source:
		r.fail(seen["target"], path+".target", "name another column; cutover gives it the source's name in the end", "target and source are the same column")
	}
}

func (r *reader) transform(n *yaml.Node, path string, seen map[string]*yaml.Node, c Column) {
	if c.Made() {
		r.made(n, path, seen, c)
		return
	}
	switch {
	case c.Expression != "":
		r.fail(seen["expression"], path+".expression", "", "only transform expression has it, this is %s", c.Transform)
	case c.From != nil && c.Transform != "reencrypt":
		r.fail(seen["from"], path+".from", "", "only transform reencrypt has it, this is %s", c.Transform)
	case c.Transform == "reencrypt" && seen["from"] == nil:
		r.fail(n, path+".from", "from: {format: attr_encrypted, key: NAME, iv: COLUMN}; docs/foreign.md lists the formats", "missing; transform reencrypt needs to know in which format the values are encrypted")
	case c.Type == "eql_v2_encrypted" && c.Transform == "reencrypt":
		r.fail(n, path+".type", "cells go into bytea, text or jsonb", "transform %s cannot make eql_v2_encrypted", c.Transform)
	case c.Transform == "reencrypt" && c.From != nil:
		r.origin(seen["from"], path+".from", c)
	case c.Done != (Done{}):
		r.fail(seen["done"], path+".done", "", "only transforms expression and copy have it, this is %s", c.Transform)
	case c.Transform == "external" && c.External.Subject == "":
		r.fail(n, path+".external.subject", "", "missing; transform external needs the subject its encrypter listens on")
	case c.Transform != "external" && c.External != (External{}):
		r.fail(seen["external"], path+".external", "", "only transform external has it, this is %s", c.Transform)
	case c.Type == "eql_v2_encrypted" && c.own():
		r.fail(n, path+".type", "use transform external or proxy", "transform %s cannot make eql_v2_encrypted", c.Transform)
	}
}

// maxScheme is the greatest scheme number a cell can carry.
const maxScheme = 65535

// scheme settles which scheme is written: the one named, or the only one.
func (r *reader) scheme(n *yaml.Node, path string, seen map[string]*yaml.Node, c *Column) {
	if seen["schemes"] == nil && seen["scheme"] == nil && !c.own() {
		return
	}
	switch _, listed := c.Schemes[c.Scheme]; {
	case seen["schemes"] == nil:
		r.fail(n, path+".schemes", "schemes: {1: {suite: xaes-256-gcm}}", "missing")
	case len(c.Schemes) == 0: // said already
	case seen["scheme"] == nil && len(c.Schemes) == 1:
		c.Scheme = sortedNumbers(c.Schemes)[0]
	case seen["scheme"] == nil:
		r.fail(n, path+".scheme", "", "missing; say which is written (listed: %s)", numbers(c.Schemes))
	case !listed && c.Scheme > 0:
		r.fail(seen["scheme"], path+".scheme", "add it to schemes, or write a listed one", "%d is not among schemes (listed: %s)", c.Scheme, numbers(c.Schemes))
	}
}

func sortedNumbers(schemes map[int]Scheme) []int { return slices.Sorted(maps.Keys(schemes)) }

func (r *reader) schemes(n *yaml.Node, path string) map[int]Scheme {
	schemes := map[int]Scheme{}
	for _, entry := range r.entries(n, path, map[string]*yaml.Node{}) {
		key, value := entry[0], entry[1]
		number, err := strconv.Atoi(key.Value)
		if err != nil || number < 1 || number > maxScheme || strconv.Itoa(number) != key.Value {
			r.fail(key, path, "", "want a scheme number from 1 to %d, have %s", maxScheme, short(key.Value))
			continue
		}
		schemes[number] = r.oneScheme(value, join(path, key.Value))
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		r.fail(n, path, "schemes: {1: {suite: xaes-256-gcm}}", "list at least one scheme")
	}
	return schemes
}

func (r *reader) oneScheme(n *yaml.Node, path string) Scheme {
	s := DefaultScheme()
	seen := r.mapping(n, path,
		field{"suite", r.choice(&s.Suite, "xaes-256-gcm", "aes-256-siv")},
		field{"binding", r.choice(&s.Binding, "pk", "none", "columns")},
		field{"columns", func(n *yaml.Node, path string) { s.Columns = r.key(n, path) }},
		field{"padding", r.padding(&s.Padding)},
		field{"nulls", r.choice(&s.Nulls, "keep", "seal")},
		field{"tenant", r.text(&s.Tenant)},
		field{"retain", r.duration(&s.Retain, time.Millisecond, tenYears)})
	r.boundTo(n, path, seen, s)
	if s.Suite != "aes-256-siv" {
		return s
	}
	// Equal values shall give equal cells; bound to their rows they would not.
	if seen["binding"] != nil && s.Binding != "none" {
		r.fail(seen["binding"], path+".binding", "", "suite aes-256-siv cannot be bound to rows (accepted: none)")
	}
	s.Binding = "none"
	return s
}

// boundTo refuses columns that no binding has, and a binding to columns without any.
func (r *reader) boundTo(n *yaml.Node, path string, seen map[string]*yaml.Node, s Scheme) {
	switch {
	case s.Binding == "columns" && len(s.Columns) == 0:
		r.fail(n, path+".columns", "columns: [tenant_id]", "missing; binding columns needs the columns that cells are bound to")
	case s.Binding != "columns" && seen["columns"] != nil:
		r.fail(seen["columns"], path+".columns", "", "only binding columns has it, this is %s", s.Binding)
	}
}

func (r *reader) padding(into *int) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		value, ok := r.scalar(n, path, "!!int", "0, 16, 32 or 64")
		switch value {
		case "0", "16", "32", "64":
			*into, _ = strconv.Atoi(value)
		default:
			if ok {
				r.fail(n, path, "", "%s is unknown (accepted: 0, 16, 32, 64)", short(value))
			}
		}
	}
}

func (r *reader) index(n *yaml.Node, path string) Index {
	x := DefaultIndex()
	seen := r.mapping(n, path,
		field{"name", r.name(&x.Name)},
		field{"kind", r.choice(&x.Kind, "blind")},
		field{"normalise", r.choice(&x.Normalise, "exact", "lower-trim", "digits", "nfc")},
		field{"bytes", r.integer(&x.Bytes, 1, 32)},
		field{"unique", r.flag(&x.Unique)},
		field{"few_values", r.flag(&x.Few)})
	r.require(n, path, seen, "name")
	if x.Unique && x.Bytes < 16 {
		r.fail(seen["bytes"], path+".bytes", "16 bytes make a chance collision of billions of rows negligible", "a unique index needs at least 16, have %d", x.Bytes)
	}
	return x
}
