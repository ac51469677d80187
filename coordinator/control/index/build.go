package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// BuildPlan is a blind index that is to be made ready, every precondition met when it was looked at.
type BuildPlan struct {
	Table, Column string
	Index         Index
	Filled        bool     // every row had its token, and none has lost it since
	Statements    []string // that make what lookups use; none: it is there
	Already       bool     // it is ready, and nothing is left to do

	column column
	row    lifecycle.Index
	steps  ddl.Token
}

// PlanBuild looks over what an index needs to be ready. Where nothing seems to be left, it reads the table for rows without
// a token: some may have lost theirs while the triggers that count them were off.
func (r *Registry) PlanBuild(ctx context.Context, n standing.Name, name string, generation int) (p BuildPlan, err error) {
	err = standing.Reading(ctx, r.DB, "30s", func(tx pg.Tx) error {
		if p.column, err = find(ctx, tx, n); err != nil {
			return err
		}
		if err := p.column.mustHaveCells(ctx, tx); err != nil {
			return err
		}
		if p.row, err = p.column.named(name, generation); err != nil {
			return err
		}
		return p.look(ctx, tx)
	})
	if err != nil || !p.Already {
		return p, err
	}
	p.Filled, err = r.covers(ctx, p)
	p.Already = p.Filled
	return p, err
}

// covers says that every row has its token; it takes as long as reading the table, where no index lists the others.
func (r *Registry) covers(ctx context.Context, p BuildPlan) (all bool, err error) {
	err = standing.Reading(ctx, r.DB, "0", func(tx pg.Tx) error {
		if _, err := p.column.hasLists(ctx, tx, p.steps); err != nil {
			return err
		}
		return tx.QueryRow(ctx, fmt.Sprintf("SELECT NOT EXISTS (SELECT FROM %s t WHERE %s)", p.steps.Table.SQL(), p.steps.Uncovered())).Scan(&all)
	})
	if err != nil {
		return false, fmt.Errorf("look for rows without a token: %w", err)
	}
	return all, nil
}

func (p *BuildPlan) look(ctx context.Context, q pg.Querier) (err error) {
	c := p.column
	p.Table, p.Column = c.Relation.Table().String(), c.Source
	if p.Index, err = c.describe(ctx, q, p.row, false); err != nil {
		return err
	}
	switch {
	case !p.row.State.Written():
		return standing.Refuse("index", c.name().Command("index ls")+" says how its indexes stand", "blind index %q of %s is %s: there is nothing to build", p.row.Name, c.name(), p.row.State)
	case p.Index.Token == "":
		return standing.Refuse("index", c.command("drop", p.row.Name)+" takes the rest of it away", "the column of tokens of blind index %q of %s is gone", p.row.Name, c.name())
	case !backfilled(c.State.Phase):
		return standing.DueTo(ctx, q, c.Relid, standing.Refuse("column", c.name().Backfill()+" comes first", "%s is %s: an index of it is built when every row has its cell",
			c.name(), standing.PhaseWord(c.State.Phase)))
	}
	key, err := c.key(ctx, q)
	if err != nil {
		return err
	}
	p.steps = c.steps(p.row, p.Index.Token, key.Names())
	if p.Filled, err = p.filled(ctx, q); err != nil {
		return err
	}
	if p.Statements, err = p.statements(ctx, q); err == nil && len(p.Statements) > 0 {
		err = c.mustOwn(ctx, q)
	}
	if err != nil {
		return err
	}
	p.Already = p.Filled && p.Index.Built == BuiltValid && p.row.State == lifecycle.IndexReady
	return nil
}

func backfilled(p lifecycle.Phase) bool {
	return slices.Contains([]lifecycle.Phase{lifecycle.PhaseBackfilled, lifecycle.PhaseCutOver, lifecycle.PhaseDropped}, p)
}

// filled says that the index's last job left no row without its token, and that none has lost it since that was asked for.
func (p *BuildPlan) filled(ctx context.Context, q pg.Querier) (bool, error) {
	job, err := work.NewestOver(ctx, q, p.row.ID)
	if errors.Is(err, work.ErrNoJob) {
		return false, nil
	}
	if err != nil || job.State != work.Done {
		return false, err
	}
	return job.Spec.Columns[0].Index.Missed == p.Index.Missed, nil
}

// Request is the request of the job that fills the index.
func (p BuildPlan) Request(id string) messages.StartRequest {
	return messages.StartRequest{V: messages.Version, RequestID: id, Schema: p.column.Relation.Schema, Table: p.column.Relation.Name,
		Columns: []messages.ColumnRequest{{Source: p.column.Source}}, Direction: messages.DirectionIndex, Index: p.Index.Token}
}

// Doubled is how many tokens stand in more than one row.
type Doubled struct {
	Tokens int64      `json:"tokens"`
	Rows   int64      `json:"rows"`
	Groups [][]string `json:"keys,omitempty"` // keys of such rows, those of one token together; only when they were asked for
}

// DoubledError is a unique index that cannot be: different rows have equal tokens.
type DoubledError struct {
	Doubled
	Fail *app.Fail
}

// Error is that of the failure.
func (e *DoubledError) Error() string { return e.Fail.Error() }

// Unwrap is the failure, with exit code and hint.
func (e *DoubledError) Unwrap() error { return e.Fail }

const uniqueViolation = "23505"

// Build makes the index that lookups use, beside readers and writers, and the blind index ready. One that an earlier
// build left invalid is taken away first; so is what this one leaves. A unique index that cannot be is a [*DoubledError],
// with keys of the rows if they are wanted; a [*standing.Refusal] if somebody drops the blind index meanwhile.
func (r *Registry) Build(ctx context.Context, p BuildPlan, keys bool) (Index, error) {
	x, err := r.build(ctx, p, keys)
	if err == nil {
		return x, nil
	}
	if now, found, looked := lifecycle.IndexByID(ctx, r.DB, p.row.ID); looked == nil && found && !now.State.Written() {
		return x, standing.Clash("index", p.column.name().Command("index ls")+" says how its indexes stand", "somebody drops blind index %q of %s: it is %s, and what was built of it is gone, or goes with it",
			p.row.Name, p.column.name(), now.State)
	}
	return x, err
}

func (r *Registry) build(ctx context.Context, p BuildPlan, keys bool) (Index, error) {
	if len(p.Statements) > 0 {
		if err := r.make(ctx, p); err != nil {
			if pg.Code(err) == uniqueViolation {
				err = r.doubled(ctx, p, keys)
			}
			return Index{}, err
		}
	}
	err := standing.Patiently(ctx, r.DB, func(tx pg.Tx) error {
		if standing, err := built(ctx, tx, p.column, p.row); err != nil || standing != BuiltValid {
			return errors.Join(err, errors.New("the index of tokens is gone again"))
		}
		return r.registrar().Move(ctx, tx, p.row.ID, lifecycle.IndexReady)
	})
	if err != nil {
		return Index{}, standing.Settled(p.column.Standing, err)
	}
	return r.Show(ctx, p.column.name(), p.row.Name, p.row.Generation, false)
}

// make runs the statements on a connection of its own, when it is the column's turn.
func (r *Registry) make(ctx context.Context, p BuildPlan) error {
	conn, err := r.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx))
	if err := standing.IndexTurn(ctx, conn, p.column.ID); err != nil {
		return err
	}
	state, err := built(ctx, r.DB, p.column, p.row)
	if err == nil && state == BuiltMissing {
		err = mustBeFree(ctx, r.DB, p.steps)
	}
	if err != nil || state == BuiltValid {
		return err // somebody else has built it meanwhile
	}
	if _, err := conn.Exec(ctx, standing.UnlimitedSQL); err != nil {
		return err
	}
	if p.column.Relation.IsPartitioned {
		return r.makeParts(ctx, conn, p)
	}
	return r.create(ctx, conn, p.steps.Build())
}

// create runs the statements that make one index, behind those that take away what stands of it.
func (r *Registry) create(ctx context.Context, conn *pg.Conn, steps ddl.Step) error {
	err := standing.Undeadlocked(ctx, func() error {
		for _, statement := range append(slices.Clone(steps.Undo), steps.Do...) {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("build the index of tokens: %w", pg.Safe(err)), r.takeAway(ctx, steps))
}

const dropPatience = 30 * time.Second

// takeAway drops what a build left that failed or was called off; the next build begins with it, too.
func (r *Registry) takeAway(ctx context.Context, steps ddl.Step) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropPatience)
	defer cancel()
	conn, err := r.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Discard(context.WithoutCancel(ctx))
	for _, statement := range append([]string{standing.UnlimitedSQL}, steps.Undo...) {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("take the invalid index of tokens away: %w", pg.Safe(err))
		}
	}
	return nil
}

const mostDoubled = 100 // rows whose keys are listed

// doubled says how many rows stand in the way, and which, if that is wanted.
func (r *Registry) doubled(ctx context.Context, p BuildPlan, keys bool) error {
	var d Doubled
	err := standing.Reading(ctx, r.DB, "0", func(tx pg.Tx) error {
		if err := tx.QueryRow(ctx, p.steps.Doubled()).Scan(&d.Tokens, &d.Rows); err != nil || !keys {
			return err
		}
		rows, err := tx.Query(ctx, p.steps.DoubledKeys(), mostDoubled)
		if err != nil {
			return err
		}
		d.Groups, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (key []string, err error) {
			var group int64
			err = row.Scan(&group, &key)
			return append([]string{fmt.Sprint(group)}, key...), err
		})
		return pg.Safe(err)
	})
	if err != nil {
		return fmt.Errorf("count the rows that share a token: %w", err)
	}
	return &DoubledError{Doubled: d, Fail: &app.Fail{Code: app.CodeUnproven,
		Err:  fmt.Errorf("blind index %q of %s cannot be unique: %d tokens stand in more than one row, %d rows in all", p.row.Name, p.column.name(), d.Tokens, d.Rows),
		Hint: "their values are equal in the normal form of the index; " + p.column.command("build", p.row.Name) + " --keys names the rows. Tokens are written already, and nothing else was changed"}}
}
