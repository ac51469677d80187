package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/bound"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// maker is who makes the values of a command's columns, as flags say it, or else the manifest.
type maker struct {
	transform, subject, key, kind string
	expression, from              string
	done                          messages.Done
	where                         string
}

func (m *maker) flags(f *pflag.FlagSet) {
	f.StringVar(&m.transform, "transform", "", "encrypt, external, proxy, expression, copy, or reencrypt, with --from or in the manifest: what makes the values of all these columns (default: as the last job, else the manifest, else encrypt)")
	f.StringVar(&m.from, "from", "", "with --transform reencrypt: cipherfleet, for cells of ours that move into a column of another type; other formats are described in the manifest")
	f.StringVar(&m.subject, "subject", "", "with --transform external: the NATS subject on which your own encrypter is asked")
	f.StringVar(&m.key, "external-key", "", "with --transform external: what that encrypter calls the column")
	f.StringVar(&m.kind, "type", "", "with --prepare, the type of a target that is added: bytea, text or jsonb, with --transform external or proxy also eql_v2_encrypted (default bytea); with expression or copy any (default the expression's)")
	f.StringVar(&m.expression, "expression", "", "with --transform expression: SQL over the columns of a row, functions that are not Postgres's own with their schema")
	f.StringVar(&m.done.Version, "done-version", "", "with --transform expression or copy: the column whose number says which rows are done; the job sets it")
	f.Int64Var(&m.done.Number, "done-number", 0, "with --done-version: rows with this number or more are done")
	f.StringVar(&m.done.When, "done-when", "", "with --transform expression or copy: the SQL condition under which a row is done (default: its target is what the expression makes)")
	f.StringVar(&m.where, "where", "", "with --transform encrypt: the immutable SQL condition of rows that need a cell; true is every row (default: as the manifest has it, else the last job, else every row)")
}

// fill puts the flags into every column of a request. Targets are those that flags name: where an expression makes the
// values, or cells move, no name goes without saying.
func (m *maker) fill(r *messages.StartRequest, targets []string) {
	for i := range r.Columns {
		c := &r.Columns[i]
		c.Transform, c.Type, c.External = m.transform, m.kind, messages.Encrypter{Subject: m.subject, Key: m.key}
		if m.from != "" {
			c.From = &messages.Origin{Format: m.from}
		}
		if c.Expression, c.Done = m.expression, m.done; (c.Made() || c.From.Own()) && i >= len(targets) {
			c.Target = ""
		}
		c.Where = m.where
	}
}

// fromManifest completes the columns that the manifest gives to an encrypter or an expression, or that somebody else encrypted, unless flags say who makes them. Targets
// are those that flags name. Without a manifest nothing happens.
func (m *maker) fromManifest(r *messages.StartRequest, path string, targets []string) error {
	if m.transform == messages.TransformReencrypt && m.from != messages.FormatOwn {
		return &app.Fail{Code: app.CodeUsage, Err: errors.New("--transform reencrypt has no flags for the format that values are in"), Hint: "describe the column in the manifest, with transform: reencrypt and from: {…}, and leave --transform out"}
	}
	if m.transform != "" && m.transform != messages.TransformEncrypt {
		return nil
	}
	file, err := loadManifest(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	at := slices.IndexFunc(file.Tables, func(t manifest.Table) bool { return t.Schema == r.Schema && t.Name == r.Table })
	if at < 0 {
		return nil
	}
	for i := range r.Columns {
		c := &r.Columns[i]
		in := slices.IndexFunc(file.Tables[at].Columns, func(o manifest.Column) bool { return o.Source == c.Source })
		if in < 0 {
			continue
		}
		wanted := file.Tables[at].Columns[in]
		if c.Where == "" {
			c.Where = file.Tables[at].Where
		}
		if c.Where == "" && wanted.Transform == messages.TransformEncrypt {
			c.Where = messages.EveryRow
		}
		c.First = wanted.First()
		if m.transform != "" {
			continue
		}
		switch wanted.Transform {
		case messages.TransformExternal, messages.TransformProxy:
			c.Transform, c.External = wanted.Transform, messages.Encrypter{Subject: wanted.External.Subject, Key: wanted.External.Key}
			if c.Type = wanted.Type; i >= len(targets) {
				c.Target = wanted.Target
			}
		case messages.TransformReencrypt:
			c.Transform, c.From, c.Type = wanted.Transform, wanted.From, wanted.Type
			if i >= len(targets) {
				c.Target = wanted.Target
			}
		case messages.TransformEncrypt:
			if c.Type == "" && wanted.Type != "bytea" {
				c.Type = wanted.Type
			}
		case messages.TransformExpression, messages.TransformCopy:
			c.Transform, c.Type, c.Expression = wanted.Transform, wanted.Type, wanted.Expression
			c.Done = messages.Done{Version: wanted.Done.Version, Number: wanted.Done.Number, When: wanted.Done.When}
			if i >= len(targets) {
				c.Target = wanted.Target
			}
		}
	}
	if err := r.Validate(); err != nil {
		return &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("%s: %w", path, err), Hint: "mend the manifest, or name another one with CIPHERFLEET_MANIFEST"}
	}
	return nil
}

// withoutFleet refuses what one process cannot do by itself, or not in this environment.
func withoutFleet(ctx context.Context, plan preflight.Plan, s *station) error {
	if err := preflight.Unproxied(plan); err != nil {
		proxy, failed := app.OpenProxy(ctx, s.config.Proxy, "cipherfleet", 1, s.traces)
		if proxy == nil {
			_, hint := app.Explain(err)
			return &app.Fail{Code: app.CodeUsage, Err: cmp.Or(failed, err), Hint: hint}
		}
		defer proxy.Close()
		if err := proxy.Ping(ctx); err != nil {
			code, _ := app.Explain(err)
			return &app.Fail{Code: code, Err: fmt.Errorf("reach the proxy: %w", err), Hint: "is the proxy running, and is CIPHERFLEET_PROXY_URL right?"}
		}
	}
	if err := preflight.Unreadable(ctx, s.db, plan, s.foreign); err != nil {
		return err
	}
	return preflight.Unreachable(plan)
}

// addedAs and letIn describe a target in a rung.
func addedAs(c preflight.Column) string {
	switch {
	case c.Foreign():
		return fmt.Sprintf("%s, nullable", c.Payload())
	case c.Made():
		return c.Expression.Type + ", nullable"
	}
	return c.Form().String() + ", nullable, STORAGE EXTERNAL"
}

func letIn(c preflight.Column) string {
	switch c.Payload() {
	case ddl.PayloadCell:
		return "cells"
	case ddl.PayloadJSON, ddl.PayloadEQL:
		return "payloads of this column"
	}
	return "what is not its source's text"
}

// madeRungs are the changes for a column that an expression makes.
func madeRungs(c preflight.Column) (list []string) {
	steps := c.Steps(preflight.Plan{}, c.Registered.ID)
	if !steps.InPlace() {
		list = append(list, fmt.Sprintf("mark %s as the target by a CHECK that lets everything in, NOT VALID (ACCESS EXCLUSIVE, for a moment)", c.Target.Name),
			"validate it (SHARE UPDATE EXCLUSIVE; reads the table beside readers and writers)")
	}
	list = append(list, "make the functions that hold the expression (no lock on the table)")
	switch {
	case steps.Follows():
		list = append(list, fmt.Sprintf("create four triggers that make %s with each write (SHARE ROW EXCLUSIVE, for a moment)", c.Target.Name))
	case c.Expression.Version != "":
		list = append(list, fmt.Sprintf("create two triggers that take %s back to %d where a write changes what the expression reads (SHARE ROW EXCLUSIVE, for a moment)", c.Expression.Version, c.Expression.Number-1))
	}
	return list
}

// schemeWords says how cells are made, where any are.
func schemeWords(p preflight.Plan) string {
	if !slices.ContainsFunc(p.Columns, func(c preflight.Column) bool { return c.Sealed() }) {
		return ""
	}
	var words []string
	for _, c := range p.Columns {
		if c.Fresh {
			words = append(words, firstWords(p.Relation, c.First(0)))
		}
	}
	if words == nil {
		return "; under the scheme that is active"
	}
	return strings.Join(slices.Compact(words), "")
}

// boundRungs are the change that keeps the cells of a first scheme where they open.
func boundRungs(p preflight.Plan, c preflight.Column) []string {
	names := c.Bound(p.Relation)
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("create a trigger that looks after %s, which cells are bound to (SHARE ROW EXCLUSIVE, for a moment)", strings.Join(names, ", "))}
}

// warnings are what whoever reviews the first schemes of a plan should know.
func warnings(p preflight.Plan) (all []string) {
	for _, c := range p.Columns {
		if c.Fresh {
			all = append(all, preflight.Warnings(p.Relation, c.Source.Attnum, c.First(0))...)
		}
	}
	return all
}

// firstWords say what a column's first scheme is.
func firstWords(r pg.Relation, d lifecycle.Definition) string {
	words := fmt.Sprintf("; scheme %d, %s", d.Number, d.Suite)
	switch {
	case d.Columns != "":
		words += ", bound to (" + strings.Join(bound.Names(r, d.Columns), ", ") + ")"
	case d.RowBound:
		words += ", bound to the row"
	}
	if d.SealsNulls() {
		words += ", NULL sealed"
	}
	if d.Tenant != "" {
		words += ", a key for each " + d.Tenant
	}
	return words
}

// whereWords say which rows are encrypted, and if those were others by the last job, which.
func whereWords(p preflight.Plan) string {
	for _, c := range p.Columns {
		words := ""
		if c.Where != nil {
			words = "; rows for which " + c.Where.SQL
		}
		switch {
		case c.Registered.ID == 0 || c.Where.Same(c.Was):
		case c.Was == nil:
			words += ", no longer every row"
		default:
			words = cmp.Or(words, "; every row") + ", no longer those for which " + c.Was.SQL
		}
		if words != "" {
			return words
		}
	}
	return ""
}

// byBackfillAlone refuses to climb single rungs of a column whose values an expression makes: they would be those of cells.
func byBackfillAlone(wanted manifest.Column, in manifest.Table, to lifecycle.Phase) error {
	if in.Where != "" && to.Rung() < lifecycle.PhaseCutOver.Rung() {
		return &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("the manifest has a where for the table of column %q, whose rungs are climbed by its backfill alone", wanted.Source),
			Hint: "cipherfleet backfill --prepare does all of them"}
	}
	climbs := []string{messages.TransformEncrypt, messages.TransformExternal, messages.TransformProxy}
	if slices.Contains(climbs, wanted.Transform) || to == lifecycle.PhaseCutOver || to == lifecycle.PhaseDropped {
		return nil
	}
	return &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("the manifest wants transform %s for column %q, whose rungs are climbed by its backfill alone", wanted.Transform, wanted.Source),
		Hint: "cipherfleet backfill --prepare does all of them"}
}
