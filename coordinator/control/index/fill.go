package index

import (
	"cmp"
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// FillPlan is a blind index that is to be filled, every precondition met when it was looked at.
type FillPlan struct {
	standing.Standing
	Job   preflight.Plan // of the job
	Index lifecycle.Index

	token  pg.Column
	missed int64
	listed bool
}

// PlanFill looks over the job that fills an index, named by its column of tokens, before anything is changed.
func PlanFill(ctx context.Context, db *pg.DB, r messages.StartRequest) (p FillPlan, err error) {
	if err := r.Validate(); err != nil {
		return p, err
	}
	err = standing.Reading(ctx, db, "30s", func(tx pg.Tx) error {
		c, err := find(ctx, tx, standing.Name{Schema: cmp.Or(r.Schema, "public"), Table: r.Table, Column: r.Columns[0].Source})
		if err == nil {
			err = c.mustHaveCells(ctx, tx)
		}
		if err == nil {
			p, err = c.fill(ctx, tx, r)
		}
		return err
	})
	return p, err
}

func (c column) fill(ctx context.Context, q pg.Querier, r messages.StartRequest) (p FillPlan, err error) {
	p.Standing = c.Standing
	for _, x := range c.live() {
		attnum, name, err := place(ctx, q, c, x)
		if err != nil {
			return p, err
		}
		if attnum != 0 && (name == r.Index || x.Token == r.Index) {
			p.Index, p.token = x, c.Relation.ColumnAt(attnum)
		}
	}
	switch {
	case p.Index.ID == 0:
		return p, standing.Lack("index", c.name().Command("index ls")+" lists those it has", "%s has no blind index with tokens in %q", c.name(), r.Index)
	case !p.Index.State.Written():
		return p, standing.Refuse("index", c.name().Command("index ls")+" says how its indexes stand", "blind index %q of %s is %s: it is not written any more", p.Index.Name, c.name(), p.Index.State)
	}
	if p.missed, err = missed(ctx, q, p.Index); err != nil {
		return p, err
	}
	key, err := c.key(ctx, q)
	if err != nil {
		return p, err
	}
	triggers := r.UserTriggers
	if last, err := work.Newest(ctx, q, c.ID); err == nil {
		triggers = cmp.Or(triggers, last.Spec.UserTriggers)
	} else if !errors.Is(err, work.ErrNoJob) {
		return p, err
	}
	if p.Job, err = preflight.Reverse(ctx, q, c.Relation, key, c.Sealed, p.token, triggers); err != nil {
		return p, err
	}
	p.listed, err = c.listed(ctx, q, c.steps(p.Index, p.token.Name, key.Names()))
	return p, err
}

// JobColumn is the column as its job knows it.
func (p FillPlan) JobColumn() work.Column {
	of := p.Index.Logged(p.Standing.Column)
	return work.Column{ID: p.ID, Source: p.Sealed.Name, SourceAttnum: p.Sealed.Attnum, Target: p.token.Name, TargetAttnum: p.token.Attnum,
		LogTable: of.Table, LogColumn: of.Column, Index: &work.Index{ID: p.Index.ID, Name: p.Index.Name, Missed: p.missed, Listed: p.listed}}
}

// Behind are the requests of jobs that fill indexes whose rows have been left without a token since they were filled
// last, by the ids of the indexes. Indexes that were never filled wait for their operator, and so do those whose last job
// did not end well.
func Behind(ctx context.Context, db *pg.DB) (map[uint32]messages.StartRequest, error) {
	behind := map[uint32]messages.StartRequest{}
	err := standing.Reading(ctx, db, "5s", func(tx pg.Tx) error {
		all, err := lifecycle.KnownIndexes(ctx, tx)
		if err != nil {
			return err
		}
		for _, x := range all {
			if !x.State.Written() {
				continue
			}
			job, err := work.NewestOver(ctx, tx, x.ID)
			if errors.Is(err, work.ErrNoJob) || err == nil && job.State != work.Done {
				continue
			}
			if err != nil {
				return err
			}
			now, err := missed(ctx, tx, x)
			if err != nil {
				return err
			}
			if c := job.Spec.Columns[0]; now != c.Index.Missed {
				of, err := lifecycle.ColumnByID(ctx, tx, x.Column)
				if err != nil {
					return err
				}
				behind[x.ID] = messages.StartRequest{V: messages.Version, Schema: job.Spec.Schema, Table: job.Spec.Table,
					Columns: []messages.ColumnRequest{{Source: of.Source}}, Direction: messages.DirectionIndex, Index: c.Target}
			}
		}
		return nil
	})
	return behind, err
}
