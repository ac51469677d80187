package manifest

import (
	"errors"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/messages"
	"go.yaml.in/yaml/v3"
)

func (r *reader) done(n *yaml.Node, path string) (d Done) {
	number := 0
	r.mapping(n, path, field{"version", r.name(&d.Version)}, field{"number", r.integer(&number, 1, anyCount)}, field{"when", r.text(&d.When)})
	d.Number = int64(number)
	return d
}

// typ checks the type of a target: one of a few where cells or payloads go, any where Postgres makes the values. There
// it may be left out: the expression has one.
func (r *reader) typ(path string, seen map[string]*yaml.Node, c *Column) {
	switch {
	case c.Made() && seen["type"] == nil:
		c.Type = ""
	case seen["type"] == nil:
	case !c.Made() && !slices.Contains(types(), c.Type):
		r.fail(seen["type"], path+".type", "", "%q is unknown (accepted: %s)", short(c.Type), strings.Join(types(), ", "))
	}
}

// made checks a column whose values an expression makes, by the rules of the request that it becomes.
func (r *reader) made(n *yaml.Node, path string, seen map[string]*yaml.Node, c Column) {
	for part, of := range map[string]string{"external": "external", "from": "reencrypt"} {
		if seen[part] != nil {
			r.fail(seen[part], path+"."+part, "", "only transform %s has it, this is %s", of, c.Transform)
			return
		}
	}
	if c.Source == "" || c.Target == "" { // said already
		return
	}
	switch {
	case seen["schemes"] != nil:
		r.fail(seen["schemes"], path+".schemes", "leave schemes out", "transform %s makes no cells", c.Transform)
		return
	case c.Source == c.Target && (c.Reach == "cut-over" || c.Reach == "dropped"):
		r.fail(seen["reach"], path+".reach", "reach backfilled", "where target and source are one column there is nothing to cut over")
		return
	}
	var problem *messages.Problem
	if errors.As(c.request().Validate(path), &problem) {
		part, _, _ := strings.Cut(strings.TrimPrefix(problem.Field, path+"."), ".")
		at := seen[part]
		if at == nil {
			at = n
		}
		r.fail(at, problem.Field, problem.Hint, "%s", problem.Message)
	}
}

func (c Column) request() messages.ColumnRequest {
	return messages.ColumnRequest{Source: c.Source, Target: c.Target, Type: c.Type, Transform: c.Transform, Expression: c.Expression,
		Done: messages.Done{Version: c.Done.Version, Number: c.Done.Number, When: c.Done.When}}
}
