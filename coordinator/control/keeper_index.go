package control

import (
	"context"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// build is an index being built beside the leader's rounds, which takes as long as reading the table twice.
type build struct {
	ended  chan struct{}
	cancel context.CancelFunc
	failed []string // names of indexes; to be read once it has ended
}

const (
	indexRetry   = time.Hour
	dropPatience = 3 * time.Second // with what a build that was called off left behind; the next leader tries again
)

// index begins to build what the leaves lack, unless a build is at work. Only a table that has missed writes after its
// job gets these indexes: a column that is part of an index's condition costs each update of it a little.
func (k *keeper) index(ctx context.Context, job work.Job, leaves []leaf) {
	if !k.built() {
		return
	}
	columns, steps := map[string]uint32{}, map[string]ddl.Step{}
	for _, l := range leaves {
		for _, c := range k.stepsOf(job) {
			name := c.UncoveredIndexName(l.Named)
			if !l.indexed && c.Indexable() && time.Since(k.refused[name]) >= indexRetry {
				columns[name], steps[name] = c.ID, c.UncoveredIndex(l.Named)
			}
		}
	}
	if len(steps) > 0 {
		k.begin(ctx, columns, steps)
	}
}

// begin builds indexes, of columns, by their names.
func (k *keeper) begin(ctx context.Context, columns map[string]uint32, steps map[string]ddl.Step) {
	ctx, cancel := context.WithCancel(ctx)
	b := &build{ended: make(chan struct{}), cancel: cancel}
	k.build = b
	go func() {
		defer close(b.ended)
		defer cancel()
		for name, step := range steps {
			if err := k.plane.buildIndex(ctx, columns[name], step); err != nil {
				b.failed = append(b.failed, name)
				if ctx.Err() != nil {
					return
				}
				k.plane.Log.WarnContext(ctx, "late sweeps of a table read all of it: an index was not built", "index", name, "error", err)
			}
		}
	}()
}

// built says that no build is at work, and remembers what the last one could not do.
func (k *keeper) built() bool {
	if k.build == nil {
		return true
	}
	select {
	case <-k.build.ended:
	default:
		return false
	}
	for _, name := range k.build.failed {
		k.refused[name] = time.Now()
	}
	k.build = nil
	return true
}

// stop calls a build off and waits for its end.
func (k *keeper) stop() {
	if k.build != nil {
		k.build.cancel()
		<-k.build.ended
	}
}

// buildIndex builds an index of a column's that is not there, or not valid, when it is its turn: the lock it waits for
// then holds up no reader or writer.
func (p *Plane) buildIndex(ctx context.Context, column uint32, step ddl.Step) error {
	conn, err := p.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx))
	if err := standing.IndexTurn(ctx, conn, column); err != nil {
		return err
	}
	err = standing.Undeadlocked(ctx, func() error { return buildOn(ctx, conn, step) })
	if err != nil {
		p.takeAway(ctx, step)
	}
	return err
}

func buildOn(ctx context.Context, conn *pg.Conn, step ddl.Step) error {
	const limitsSQL = `SELECT pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('lock_timeout', $1, false)`
	for _, part := range []struct {
		patience string
		does     []string
	}{{"1s", step.Undo}, {"0", step.Do}} { // somebody who builds it now holds a lock that the undo would wait for
		if _, err := conn.Exec(ctx, limitsSQL, part.patience); err != nil {
			return err
		}
		for _, statement := range part.does {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeAway drops what a build left that was called off or failed.
func (p *Plane) takeAway(ctx context.Context, step ddl.Step) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropPatience)
	defer cancel()
	conn, err := p.DB.Acquire(ctx)
	if err != nil {
		return
	}
	defer conn.Discard(context.WithoutCancel(ctx))
	for _, statement := range append([]string{standing.UnlimitedSQL}, step.Undo...) {
		_, _ = conn.Exec(ctx, statement) // the next build begins with it
	}
}
