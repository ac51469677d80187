package ladder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// CutoverRequest asks for a column to be cut over.
type CutoverRequest struct {
	Column       standing.Name
	Strategy     string           // StrategySwap or StrategyByName
	Soak         time.Duration    // without a missed write; 0: none is asked for
	Reason, Note string           // with a reason a sample, or no verification at all, is enough
	Despite      []string         // names of dependents that may change their meaning
	Patience     time.Duration    // with sweeps that are under way; default 2 minutes
	Waiting      func(job string) // told of a sweep that is waited for; nil: nobody is
	// Sweep has the fleet seal rows that became uncovered, and returns when it has.
	Sweep func(context.Context, messages.StartRequest) error
}

// CutoverResult is what a cutover did.
type CutoverResult struct {
	V       int    `json:"v"`
	Table   string `json:"table"`
	Column  string `json:"column"`
	Already bool   `json:"already"` // it was cut over before
	standing.Cutover

	Before string `json:"-"` // what is left under the plain name, in a sentence
}

// mostSweeps is how often rows may turn out to be uncovered before a cutover gives up.
const mostSweeps = 10

// mostLooks is how often the table may turn out to be another one than was looked at.
const mostLooks = 2 * mostSweeps

// Cutover lets the cells take the plaintext's place, in one transaction under a short lock. Everything that takes long
// is done before it, beside readers and writers, or after it; all of that can be repeated. A row that turns out to be
// uncovered under the lock makes it give way: the lock is let go, the fleet seals the row, and it tries again. Killed at
// any moment, the same request goes on. A [*standing.Refusal] has changed nothing.
func (l *Ladder) Cutover(ctx context.Context, r CutoverRequest) (CutoverResult, error) {
	trusted, sweeps := "", 0
	patience := &standing.Patience{DB: l.DB, Left: cmp.Or(r.Patience, standing.LongestWait), Tell: r.Waiting}
	for looks := 0; looks < mostLooks; looks++ {
		g, err := l.look(ctx, r, trusted)
		var under *sweeping
		switch {
		case errors.Is(err, errCutOver):
			return l.finishCutover(ctx, g.Standing, true)
		case errors.As(err, &under):
			if err := patience.Await(ctx, under.job, under); err != nil {
				return CutoverResult{}, err
			}
			looks--
			continue
		case err != nil:
			return CutoverResult{}, err
		}
		if err = indexUncovered(ctx, l.DB, g.column, g.Relation.Leaves); err == nil {
			err = l.attempt(ctx, r, g, trusted)
		}
		switch err = l.explained(ctx, g.Standing, err); {
		case isClash(err): // a job began, or somebody else moved it: what stands there is to be seen
		case errors.Is(err, errUncovered) && sweeps < mostSweeps:
			sweeps, trusted = sweeps+1, g.Detail.Proof // the run that follows opens what it seals
			if err := r.Sweep(ctx, g.sweep(l.Actor)); err != nil {
				return CutoverResult{}, fmt.Errorf("have the uncovered rows sealed: %w", err)
			}
		case errors.Is(err, errUncovered):
			return CutoverResult{}, &app.Fail{Code: app.CodeUnproven, Err: fmt.Errorf("rows of %s become uncovered faster than they are sealed; nothing was cut over", g.name()),
				Hint: "cipherfleet status says which applications write without cells; mend them, and ask for the same again"}
		case errors.Is(err, errUnindexed), errors.Is(err, errAltered): // look again
		case err != nil:
			return CutoverResult{}, err
		default:
			return l.finishCutover(ctx, g.Standing, false)
		}
	}
	return CutoverResult{}, standing.Clash("table", "ask for the same again when nobody alters it, and no job begins on it", "%s.%s was altered each time before its lock was got", r.Column.Schema, r.Column.Table)
}

// look checks the gates as of one moment.
func (l *Ladder) look(ctx context.Context, r CutoverRequest, trusted string) (g Gated, err error) {
	err = standing.Reading(ctx, l.DB, "30s", func(tx pg.Tx) error {
		if g, err = l.gates(ctx, tx, r, trusted); err != nil {
			return err
		}
		return noJob(ctx, tx, g.Standing)
	})
	return g, err
}

// errAltered says that the table, or what depends on it, is not what it was before the lock was got.
var errAltered = errors.New("the table was altered meanwhile")

// attempt is the transaction.
func (l *Ladder) attempt(ctx context.Context, r CutoverRequest, g Gated, trusted string) error {
	if err := standing.Reading(ctx, l.DB, "30s", func(tx pg.Tx) error { return covered(ctx, tx, g.column, g.Relation.Leaves) }); err != nil {
		return err // known before anybody has to wait
	}
	detail, err := json.Marshal(g.Detail)
	if err != nil {
		return err
	}
	return l.Transition(ctx, g.Standing, lifecycle.Event{Kind: lifecycle.KindCutOver, Detail: detail}, func(tx pg.Tx) error {
		if err := standing.LockShape(ctx, tx, g.Relation.Table()); err != nil {
			return err
		}
		now, err := l.gates(ctx, tx, r, trusted) // readers and writers go on
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(now.Detail, g.Detail) || !reflect.DeepEqual(now.column, g.column) {
			return errAltered
		}
		if err := standing.LockAlone(ctx, tx, g.Relation.Table()); err != nil {
			return err
		}
		if _, err := now.checkDependents(ctx, tx, standing.BoundDependents, r.Despite); err != nil { // all that can have come since then and is kept away now
			return err
		}
		if err := covered(ctx, tx, now.column, now.Relation.Leaves); err != nil {
			return err
		}
		return run(ctx, tx, now.Detail.Swap(now.column).Step())
	})
}

// sweep asks for a job that does what is left, as the last one did.
func (g *Gated) sweep(actor string) messages.StartRequest {
	return messages.StartRequest{V: messages.Version, RequestID: uuid.NewString(), Schema: g.Relation.Schema, Table: g.Relation.Name, Key: g.column.Key,
		Columns: []messages.ColumnRequest{{Source: g.Plain.Name, Target: g.Sealed.Name}}, UserTriggers: g.triggers, Actor: actor}
}

// finishCutover makes the cells NOT NULL where the plaintext was: the constraint that the cutover added is validated
// beside readers and writers, and spares the scan under the lock.
func (l *Ladder) finishCutover(ctx context.Context, s standing.Standing, already bool) (CutoverResult, error) {
	detail, err := standing.LastCutover(ctx, l.DB, s.Column)
	if err != nil {
		return CutoverResult{}, err
	}
	result := CutoverResult{V: messages.Version, Table: s.Relation.Table().String(), Column: s.Source, Already: already, Cutover: detail, Before: s.Before()}
	s.State.Phase = lifecycle.PhaseCutOver
	for _, p := range detail.Places {
		if !p.NotNull {
			continue
		}
		if err := l.require(ctx, s, p, detail.SealedName); err != nil {
			return result, unfinished(result, p, err)
		}
	}
	return result, nil
}

// unfinished says that the cutover stands, whatever kept the rest from being done: to an operator that is no refusal.
func unfinished(r CutoverResult, p standing.CutoverPlace, err error) error {
	err = fmt.Errorf("%s.%s is cut over, but its cells in %s.%s are not NOT NULL yet: %w", r.Table, r.Column, p.Schema, p.Name, err)
	var refusal *standing.Refusal
	if errors.As(err, &refusal) {
		return &app.Fail{Code: app.CodeWaiting, Err: err, Hint: "ask for the same again; a CHECK keeps NULL out meanwhile. " + refusal.Hint}
	}
	return err
}

const presentSQL = `SELECT k.conname IS NOT NULL, n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.conname = $2 WHERE c.oid = $1`

func (l *Ladder) require(ctx context.Context, s standing.Standing, p standing.CutoverPlace, sealed string) error {
	there, c := false, ddl.Column{ID: s.ID, Target: sealed}
	if err := l.DB.QueryRow(ctx, presentSQL, p.OID, ddl.PresentName(s.ID)).Scan(&there, &c.Table.Schema, &c.Table.Name); err != nil || !there {
		return err
	}
	if err := standing.Patiently(ctx, l.DB, func(tx pg.Tx) error { return run(ctx, tx, c.ValidatePresent()) }); err != nil {
		return standing.Settled(s, err)
	}
	return l.alone(ctx, s, func(tx pg.Tx) error { return standing.Alone(ctx, tx, c.Table, c.Require().Do...) })
}
