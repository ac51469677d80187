package ladder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// RollbackRequest says what to take back. Without To it is one rung: a cutover, or else what was prepared before one.
type RollbackRequest struct {
	standing.Name
	To         lifecycle.Phase // schema-added: also after a cutover was taken back
	Reason     string          // why; where reverse capture does not stand, also that it is known
	DropTarget bool            // of what was prepared also the target column, with its cells
	// UserTriggers is fire or skip; empty: as by the column's last job.
	UserTriggers string
	// Reverse runs the job that opens cells into the plaintext, to its end.
	Reverse func(ctx context.Context) error
}

// RollbackPlan is a rollback that nothing stands in the way of, as far as could be seen.
type RollbackPlan struct {
	standing.Standing
	To      lifecycle.Phase
	Already bool     // nothing is left to take back
	Steps   []string // for a person

	detail standing.Cutover
	column ddl.Column // under today's names
	skip   bool       // keep the user's own triggers from firing
}

// Rollback is what was done.
type Rollback struct {
	V       int             `json:"v"`
	Table   string          `json:"table"`
	Column  string          `json:"column"`
	From    lifecycle.Phase `json:"from"`
	To      lifecycle.Phase `json:"to"`
	Already bool            `json:"already"`
	Jobs    int             `json:"jobs"`      // runs of the job that opens cells
	Opened  int64           `json:"opened"`    // cells that were written since, opened under the lock
	Locked  float64         `json:"locked_ms"` // for how long the table was
}

// errBehind says that a row has a cell and no plaintext.
var errBehind = errors.New("a row has a cell and no plaintext")

// PlanRollback looks whether a column can be rolled back, and what that takes. It changes nothing.
func (l *Ladder) PlanRollback(ctx context.Context, r RollbackRequest) (p RollbackPlan, err error) {
	if r.To != "" && r.To != lifecycle.PhaseSchemaAdded {
		return p, standing.Reject("to", "leave it out to go down one rung", "was %.40q; accepted is schema-added", r.To)
	}
	err = standing.Reading(ctx, l.DB, "30s", func(tx pg.Tx) (err error) {
		if p.Standing, err = standing.Find(ctx, tx, r.Name); err != nil {
			return err
		}
		if !p.Relation.Privileges.Owner {
			return standing.Deny("table", "run this as the owner of the table: it drops and creates triggers", "role %q may not alter %s", p.Relation.Server.User, p.Relation.Table())
		}
		switch p.State.Phase {
		case lifecycle.PhaseDropped:
			return checkReversible(p.Standing)
		case lifecycle.PhaseCutOver:
			return p.planCutOver(ctx, tx, r)
		}
		return p.planPrepared(ctx, tx, r)
	})
	return p, err
}

// Rollback carries a plan out. Killed at any moment, the same request goes on, or finds that it is done.
func (l *Ladder) Rollback(ctx context.Context, p RollbackPlan, r RollbackRequest) (Rollback, error) {
	result := Rollback{V: messages.Version, Table: p.Relation.Table().String(), Column: p.Source, From: p.State.Phase, To: p.To, Already: p.Already}
	var err error
	switch {
	case p.Already:
	case p.State.Phase == lifecycle.PhaseCutOver:
		err = l.undoCutover(ctx, p, r, &result)
	default:
		err = l.undoPrepared(ctx, p, r, &result)
	}
	if err != nil {
		return Rollback{}, l.explained(ctx, p.Standing, err)
	}
	return result, l.finishPresent(ctx, p.Standing)
}

// event is that of the rollback.
func (p RollbackPlan) event(r RollbackRequest) (lifecycle.Event, error) {
	detail, err := json.Marshal(struct {
		Reason     string `json:"reason,omitempty"`
		Strategy   string `json:"strategy,omitempty"`
		DropTarget bool   `json:"drop_target,omitempty"`
	}{r.Reason, p.detail.Strategy, r.DropTarget})
	return lifecycle.Event{Kind: lifecycle.KindRolledBack, Phase: p.To, Detail: detail}, err
}

// appendRollback records the rollback with the rows that were opened in its own transaction.
func (l *Ladder) appendRollback(ctx context.Context, tx pg.Tx, p RollbackPlan, r RollbackRequest, rows int64) error {
	event, err := p.event(r)
	if err != nil {
		return err
	}
	event.Table, event.Column, event.Actor, event.Rows = p.Column.Table.String(), p.Source, l.Actor, rows
	_, err = (&lifecycle.Log{}).Append(ctx, tx, event)
	return err
}

// lastMoveSQL is the newest event that took the column to a rung.
const lastMoveSQL = `SELECT event FROM cipherfleet.events WHERE table_name = $1 AND column_name = $2
 AND (event IN ('schema_added', 'dual_writing', 'cut_over', 'rolled_back', 'dropped', 'advanced')
  OR event IN ('backfill_started', 'backfilled') AND phase <> 'cut-over') ORDER BY id DESC LIMIT 1`

// lastMove is what took the column to its rung; "" for nothing.
func lastMove(ctx context.Context, q pg.Querier, s standing.Standing) (kind lifecycle.Kind, err error) {
	err = q.QueryRow(ctx, lastMoveSQL, s.Column.Table.String(), s.Source).Scan(&kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return kind, err
}

// lockTable takes the table with its partitions and says since when it is held.
func lockTable(ctx context.Context, tx pg.Tx, table pg.Table) (time.Time, error) {
	if err := standing.LockAlone(ctx, tx, table); err != nil {
		return time.Time{}, fmt.Errorf("lock %s: %w", table, err)
	}
	return time.Now(), nil
}
