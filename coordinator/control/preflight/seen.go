package preflight

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Seen is what a caller who looks at many tables at once has found out about one of them already.
type Seen struct {
	Relation   pg.Relation
	Installed  bool                                         // schema cipherfleet is there
	MayInstall bool                                         // may create it, or what is missing in it
	Registered []lifecycle.Column                           // of the table; not nil
	States     map[uint32]lifecycle.Standing                // of those
	Nulls      func(id uint32) (seals, written bool)        // whether a column's scheme seals NULL, and whether it has one
	Makers     func(id uint32) (last work.Column, own bool) // who made a column's values, and whether it has a scheme of its own
}

// Refusals makes the checks of [Check.Check] on what was seen, and goes on after the first that refuses. What builds on a
// check that failed is not looked at.
func Refusals(ctx context.Context, q pg.Querier, r messages.StartRequest, seen Seen) (list []*standing.Refusal, err error) {
	p := &look{q: q, request: filled(r), mayInstall: seen.MayInstall, registered: seen.Registered, states: seen.States, makers: seen.Makers, nulls: seen.Nulls}
	p.plan.Relation, p.plan.Installed = seen.Relation, seen.Installed
	for _, check := range p.checks() {
		err := check(ctx)
		if err == nil {
			continue
		}
		var refused *standing.Refusal
		if !errors.As(err, &refused) {
			return nil, err
		}
		list = append(list, refused)
		if len(p.plan.Key.Columns) == 0 || len(p.plan.Columns) == 0 {
			break // without a key and a column there is nothing that later checks could look at
		}
	}
	return list, nil
}

// Reverse checks that the plaintext of a column that is cut over can be written from its cells, by a job that walks the
// key. It is found on a table whose rungs all stand.
func Reverse(ctx context.Context, q pg.Querier, relation pg.Relation, key pg.Key, cells, plaintext pg.Column, userTriggers string) (Plan, error) {
	p := &look{q: q, request: messages.StartRequest{Columns: []messages.ColumnRequest{{Source: cells.Name, Target: plaintext.Name}}, UserTriggers: userTriggers},
		plan: Plan{Relation: relation, Key: key, Installed: true, Columns: []Column{{Source: cells, Target: plaintext, Guarded: true}}}}
	for _, check := range []func(context.Context) error{p.checkTable, p.checkIdentity, p.checkPrivileges, p.checkPublished, p.checkTriggers} {
		if err := check(ctx); err != nil {
			return Plan{}, err
		}
	}
	return p.plan, nil
}
