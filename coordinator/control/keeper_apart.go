package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
)

// apart looks after columns that were one pass with others and cannot be swept with those any more. A column of which rows
// have become uncovered gets a job of its own, which is swept again like any other from then on.
func (k *keeper) apart(ctx context.Context) error {
	jobs, err := k.plane.jobs().Apart(ctx)
	if err != nil {
		return err
	}
	var trouble error
	for _, job := range jobs {
		if err := k.part(ctx, job); err != nil {
			c := job.Spec.Columns[0]
			trouble = errors.Join(trouble, fmt.Errorf("look after column %s of %s: %w", c.LogColumn, c.LogTable, err))
		}
	}
	return trouble
}

// part begins a job over the one column, if rows have become uncovered. Nothing is altered for it: a column that is not
// ready, or not what it was, waits for somebody who asks.
func (k *keeper) part(ctx context.Context, job work.Job) error {
	c := job.Spec.Columns[0]
	name, now := fmt.Sprintf("%s %d", job.ID, c.ID), time.Now()
	at := k.paces[name]
	if at == nil {
		at = &pace{}
		k.paces[name] = at
	}
	if now.Before(at.due) {
		return nil
	}
	leaves, err := k.leaves(ctx, job)
	if err != nil {
		return err
	}
	if _, found, err := k.evidence(ctx, job, leaves, at); err != nil || !found {
		return err
	}
	at.pause = min(max(2*at.pause, k.plane.CatchUp), longestPause)
	at.due = now.Add(at.pause)
	request := messages.StartRequest{V: messages.Version, RequestID: uuid.NewString(), Schema: job.Spec.Schema, Table: job.Spec.Table, Key: job.Spec.Key,
		Columns: []messages.ColumnRequest{{Source: c.Source, Target: c.Target}}, ChunkRows: job.Spec.Limits.Rows, UserTriggers: job.Spec.UserTriggers}
	plan, err := preflight.Check(ctx, k.plane.DB, request)
	var refusal *standing.Refusal
	if errors.As(err, &refusal) {
		return nil
	}
	if err != nil {
		return err
	}
	if is := plan.Columns[0]; plan.Relation.OID != job.Relation || is.Registered.ID != c.ID || !is.Guarded {
		return nil
	}
	_, err = k.plane.start(ctx, request, true)
	var problem *messages.Problem
	if err != nil && !errors.As(err, &problem) { // else another job is at work, or the column moves: later
		return err
	}
	if err == nil {
		k.plane.Log.InfoContext(ctx, "writes missed a column since; it gets a job of its own", "column", c.LogColumn, "table", c.LogTable)
	}
	return nil
}
