package scheme

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// Wanted is what a new scheme is to be. What is left out is as in the scheme that is written now, or, of the first one,
// as this program does it by itself.
type Wanted struct {
	Number  int            // 0: the next one
	Suite   string         // as the manifest spells it; "": left out
	Binding string         // pk, none or columns; "": left out
	Columns []string       // that binding columns binds to, in order; nil: left out
	Padding *int           // block in bytes; nil: left out
	Nulls   string         // keep or seal; "": left out
	Tenant  *string        // column that chooses the key, "" for one key; nil: left out
	Retain  *time.Duration // nil: left out
}

// NewPlan is a scheme to make, every precondition met when it was looked at.
type NewPlan struct {
	Table, Column string
	Definition    lifecycle.Definition
	Already       bool        // it is there, just so
	Warnings      []string    // what whoever reviews it should know
	Statements    []Statement // that it takes to look after the columns that its cells are to be bound to

	column column
	bound  []string // columns that cells are bound to with it, by all schemes that can be read
}

// PlanNew looks a new scheme over before anything is changed.
func (r *Registry) PlanNew(ctx context.Context, n standing.Name, w Wanted) (p NewPlan, err error) {
	c, err := r.find(ctx, n)
	if err != nil {
		return p, err
	}
	p.Table, p.Column = c.Relation.Table().String(), c.Source
	if p.Definition, err = c.define(w); err != nil {
		return p, err
	}
	if err := preflight.CheckDefinition("", c.Relation, p.Definition, c.SourceNum, c.TargetNum); err != nil {
		return p, err
	}
	if err := c.checkNulls(ctx, r.DB, p.Definition); err != nil {
		return p, err
	}
	if err := r.planBound(ctx, c, &p); err != nil {
		return p, err
	}
	p.Warnings = preflight.Warnings(c.Relation, c.SourceNum, p.Definition)
	return p, c.checkNumber(&p)
}

// define fills in what was left out.
func (c column) define(w Wanted) (d lifecycle.Definition, err error) {
	if d, err = c.pattern(); err != nil {
		return d, err
	}
	if w.Number < 0 || w.Number > 65535 {
		return d, standing.Reject("number", "take the next one by leaving it out", "number was %d; accepted is 1 to 65535", w.Number)
	}
	d.Number = uint16(w.Number)
	if w.Suite != "" {
		suite, known := preflight.Suites()[w.Suite]
		if !known {
			return d, standing.Reject("suite", "take xaes-256-gcm unless equal values have to make equal cells", "suite was %q; accepted is %s",
				w.Suite, strings.Join(slices.Sorted(maps.Keys(preflight.Suites())), " or "))
		}
		if d.Suite = suite; suite.Deterministic() && w.Binding == "" {
			d.RowBound, d.Columns = false, ""
		}
	}
	if d, err = c.bind(d, w); err != nil {
		return d, err
	}
	if w.Padding != nil {
		d.Padding = *w.Padding
	}
	switch w.Nulls {
	case "":
	case cell.KeepNulls.String(), cell.SealNulls.String():
		d.Nulls = w.Nulls == cell.SealNulls.String()
	default:
		return d, standing.Reject("nulls", "keep leaves NULL as NULL", "nulls was %q; accepted is keep or seal", w.Nulls)
	}
	if w.Tenant != nil {
		d.Tenant = *w.Tenant
	}
	if w.Retain != nil {
		d.Retain = *w.Retain
	}
	if d.Retain <= 0 {
		return d, standing.Reject("retain", "give a time as in 720h", "retain was %v; accepted is more than nothing", d.Retain)
	}
	return d, nil
}

const defaultRetain = 720 * time.Hour

// pattern is what the next scheme is like if nothing is said: the one that is written now, or the first one.
func (c column) pattern() (d lifecycle.Definition, err error) {
	codec, err := c.codec()
	if err != nil {
		return d, err
	}
	d = lifecycle.Definition{Scheme: cell.Scheme{Suite: cell.SuiteXAES256GCM, RowBound: true, Padding: codec.DefaultPadding()}, Retain: defaultRetain}
	for _, s := range c.Rows {
		d = s.Definition
		if s.State == lifecycle.SchemeActive {
			break
		}
	}
	d.Column, d.Codec, d.Number, d.KeyID = c.ID, codec, 0, 0
	return d, nil
}

// checkNumber refuses a number that is another scheme already, or below one.
func (c column) checkNumber(p *NewPlan) error {
	highest := uint16(0)
	for _, s := range c.Rows {
		highest = s.Number
		if s.Number != p.Definition.Number {
			continue
		}
		same := p.Definition
		same.KeyID = s.KeyID
		if same != s.Definition {
			return &lifecycle.SchemeConflictError{Have: s.Scheme, Want: p.Definition.Scheme}
		}
		p.Already = true
		return nil
	}
	switch {
	case p.Definition.Number == 0:
		p.Definition.Number = highest + 1
	case p.Definition.Number <= highest:
		return &lifecycle.NumberError{Column: c.ID, Number: p.Definition.Number}
	}
	return nil
}

// New makes the scheme: it can be read from now on, its key is committed, read back and proven.
func (r *Registry) New(ctx context.Context, p NewPlan) (Scheme, error) {
	if p.Definition.Columns != "" {
		if err := r.guardBound(ctx, p.column, p.bound); err != nil {
			return Scheme{}, err
		}
	}
	made, err := r.registrar().NewScheme(ctx, p.Definition)
	if err != nil && p.Definition.Columns != "" {
		r.releaseBound(context.WithoutCancel(ctx), p.column)
	}
	if err != nil {
		return Scheme{}, err
	}
	return r.described(ctx, p.column, made.Number)
}

// described reads one scheme.
func (r *Registry) described(ctx context.Context, c column, number uint16) (Scheme, error) {
	rows, err := lifecycle.Schemes(ctx, r.DB, c.ID)
	if err != nil {
		return Scheme{}, err
	}
	c.Rows = rows
	s, err := c.numbered(number)
	return c.Described(s), err
}

// Would is the scheme as it would be made.
func (p NewPlan) Would() Scheme {
	return p.column.Described(lifecycle.SchemeRow{Definition: p.Definition, State: lifecycle.SchemeReadable})
}
