package control

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// seen is what a caller who looks at many tables at once has found out about one of them already.
type seen struct {
	relation   pg.Relation
	installed  bool                                               // schema cipherfleet is there
	mayInstall bool                                               // may create it, or what is missing in it
	registered []lifecycle.Column                                 // of the table; not nil
	states     map[uint32]lifecycle.Standing                      // of those
	makers     func(id uint32) (last backfill.External, own bool) // who made a column's values, and whether it has a scheme of its own
}

// refusals makes the checks of [Preflight] on what was seen, and goes on after the first that refuses. What builds on a
// check that failed is not looked at.
func refusals(ctx context.Context, q pg.Querier, r messages.StartRequest, seen seen) (list []*Refusal, err error) {
	p := &preflight{q: q, request: filled(r), mayInstall: seen.mayInstall, registered: seen.registered, states: seen.states, makers: seen.makers}
	p.plan.Relation, p.plan.Installed = seen.relation, seen.installed
	for _, check := range p.checks() {
		err := check(ctx)
		if err == nil {
			continue
		}
		var refused *Refusal
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

// reversed checks that the plaintext of a column that is cut over can be written from its cells, by a job that walks the
// key. It is found on a table whose rungs all stand.
func reversed(ctx context.Context, q pg.Querier, relation pg.Relation, key pg.Key, cells, plaintext pg.Column, userTriggers string) (Plan, error) {
	p := &preflight{q: q, request: messages.StartRequest{Columns: []messages.ColumnRequest{{Source: cells.Name, Target: plaintext.Name}}, UserTriggers: userTriggers},
		plan: Plan{Relation: relation, Key: key, Installed: true, Columns: []PlanColumn{{Source: cells, Target: plaintext, Guarded: true}}}}
	for _, check := range []func(context.Context) error{p.checkTable, p.checkIdentity, p.checkPrivileges, p.checkTriggers} {
		if err := check(ctx); err != nil {
			return Plan{}, err
		}
	}
	return p.plan, nil
}
