package index

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// DropPlan is a blind index that is to go, every precondition met when it was looked at.
type DropPlan struct {
	Table, Column string
	Index         Index
	Already       bool
	Statements    []string
	Warnings      []string

	column column
	row    lifecycle.Index
}

// PlanDrop looks over the end of an index.
func (r *Registry) PlanDrop(ctx context.Context, n standing.Name, name string, generation int) (p DropPlan, err error) {
	err = standing.Reading(ctx, r.DB, "30s", func(tx pg.Tx) error {
		if p.column, err = find(ctx, tx, n); err != nil {
			return err
		}
		c := p.column
		p.Table, p.Column = c.Relation.Table().String(), c.Source
		if p.row, err = c.named(name, generation); err != nil {
			return err
		}
		if p.Index, err = c.describe(ctx, tx, p.row, false); err != nil {
			return err
		}
		if p.Already = p.row.State == lifecycle.IndexDropped; p.Already {
			return nil
		}
		if p.row.State != lifecycle.IndexPrepared {
			p.Statements = c.steps(p.row, p.Index.Token, nil).Drop()
			if err := c.mustOwn(ctx, tx); err != nil {
				return err
			}
		}
		for _, other := range c.live() {
			if other.Name == name && other.ID != p.row.ID && other.State != lifecycle.IndexReady && p.row.State == lifecycle.IndexReady {
				return standing.Refuse("index", c.command("build", name)+fmt.Sprintf(" --generation %d makes it ready", other.Generation),
					"generation %d of blind index %q is not ready: without generation %d nothing finds every row", other.Generation, name, p.row.Generation)
			}
		}
		return noJob(ctx, tx, c)
	})
	return p, err
}

const (
	dropPause       = 500 * time.Millisecond
	dependentsExist = "2BP01"
)

// Drop has nobody write the index or look anything up in it any more, waits, for as long as patience, until every program
// with a live lease has heard of that, and then drops its column and deletes its key, in one transaction. Given up in
// between, with a [*lifecycle.NotReadyError], the same call goes on.
func (r *Registry) Drop(ctx context.Context, p DropPlan, patience time.Duration) (Index, error) {
	if p.Already {
		return p.Index, nil
	}
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(dropPause)
	defer tick.Stop()
	for {
		err := r.retire(ctx, p)
		if err == nil {
			err = r.drop(ctx, p)
		}
		var late *lifecycle.NotReadyError
		if err == nil {
			return r.Show(ctx, p.column.name(), p.row.Name, p.row.Generation, false)
		}
		if !errors.As(err, &late) || time.Now().After(deadline) {
			return Index{}, standing.Settled(p.column.Standing, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Index{}, ctx.Err()
		}
	}
}

// retire has nobody write the index any more. Until everybody knows that its other generation is ready, rows are looked
// up in this one alone, so that it has to be written.
func (r *Registry) retire(ctx context.Context, p DropPlan) error {
	if !p.row.State.Written() {
		return nil
	}
	return standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		if err := p.column.hold(ctx, tx); err != nil {
			return err
		}
		if now, err := p.column.now(ctx, tx, p.row); err != nil || !now.Written() {
			return err // somebody else was quicker
		}
		for _, other := range p.column.live() {
			if other.Name == p.row.Name && other.ID != p.row.ID {
				if err := other.Carried(ctx, tx); err != nil {
					return err
				}
			}
		}
		return r.registrar().Move(ctx, tx, p.row.ID, lifecycle.IndexRetiring)
	})
}

func (r *Registry) drop(ctx context.Context, p DropPlan) error {
	return standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		if err := p.column.hold(ctx, tx); err != nil {
			return err
		}
		if err := r.registrar().Move(ctx, tx, p.row.ID, lifecycle.IndexDropped); err != nil {
			return err
		}
		_, name, err := place(ctx, tx, p.column, p.row)
		if err != nil || name == "" {
			return err
		}
		if err := standing.LockAlone(ctx, tx, p.column.Relation.Table()); err != nil {
			return err
		}
		err = standing.Each(ctx, tx, p.column.steps(p.row, name, nil).Drop())
		if pg.Code(err) == dependentsExist {
			return standing.Refuse("index", "drop what depends on it first, and ask for the same again; the index is retiring meanwhile", "something else depends on column %q of %s", name, p.column.Relation.Table())
		}
		return err
	})
}
