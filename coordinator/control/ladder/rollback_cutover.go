package ladder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// planCutOver is a rollback of a cutover: what was written since is opened, and the names go back.
func (p *RollbackPlan) planCutOver(ctx context.Context, q pg.Querier, r RollbackRequest) (err error) {
	if r.To != "" {
		return standing.Refuse("to", "roll back without --to first, and let the applications follow", "%s is cut over: its target is what applications read", p.Relation.Table().String()+"."+p.Source)
	}
	p.To = lifecycle.PhaseBackfilled
	if err := checkReversible(p.Standing); err != nil {
		return err
	}
	if err := p.CheckStays(ctx, q); err != nil {
		return err
	}
	if !p.Origin.Own() { // else nothing is let out
		if err := lifecycle.MayDecrypt(ctx, q, p.ID); err != nil {
			return err
		}
	}
	plan, err := jobOverCells(ctx, q, p.Standing, p.Plain, r.UserTriggers)
	if err != nil {
		return err
	}
	p.skip = plan.Skip
	if p.column, err = Steps(ctx, q, p.Standing); err != nil {
		return err
	}
	if p.detail, err = standing.LastCutover(ctx, q, p.Column); err != nil {
		return err
	}
	last, err := lastMove(ctx, q, p.Standing)
	if err != nil {
		return err
	}
	if last != lifecycle.KindCutOver || p.detail.Strategy == "" { // an operator only said so: nothing was renamed
		p.detail = standing.Cutover{Strategy: standing.StrategyByName, PlainName: p.Plain.Name, SealedName: p.Sealed.Name, PlainWas: p.Plain.Name, SealedWas: p.Sealed.Name}
	}
	if err := p.checkNames(); err != nil {
		return err
	}
	schemes, err := lifecycle.Schemes(ctx, q, p.ID)
	if err != nil {
		return err
	}
	required := slices.ContainsFunc(p.detail.Places, func(c standing.CutoverPlace) bool { return c.NotNull })
	if !required || !p.Origin.Own() { // else the cells of NULL go back into cells
		if err := p.CheckEmptied(schemes, cell.KeepNulls); err != nil {
			return err
		}
	}
	if r.Reason == "" && !p.WatchedInReverse() {
		return standing.Refuse("column", "cipherfleet verify finds the plaintexts that are of another value; set those to NULL, and give a --reason to roll back all the same",
			"nobody watched for cells written to %s since: its reverse capture is missing or not always enabled", p.Relation.Table())
	}
	if p.Origin != nil && !p.Origin.Own() && errors.Is(p.behind(ctx, q), errBehind) { // before an index is built for a job that there is not
		return p.CheckBack()
	}
	p.Steps = []string{
		"index the rows that have a cell and no plaintext (CREATE INDEX CONCURRENTLY, beside readers and writers)",
		"open the cells that were written since the cutover into the plaintext (a job in reverse)",
		"look again under the lock, by the index (ACCESS EXCLUSIVE, half a second of waiting at a time); rows that were written meanwhile are opened there if they are few, else it goes back to the job"}
	if p.detail.Strategy == standing.StrategySwap {
		p.Steps = append(p.Steps, fmt.Sprintf("rename %s to %s and %s to %s, put back what moved, and capture in place of reverse capture (in the same transaction)",
			p.detail.SealedName, p.detail.SealedWas, p.detail.PlainName, p.detail.PlainWas))
	} else {
		p.Steps = append(p.Steps, "put capture in place of reverse capture (in the same transaction)")
	}
	if slices.ContainsFunc(p.detail.Places, func(c standing.CutoverPlace) bool { return c.NotNull }) {
		p.Steps = append(p.Steps, fmt.Sprintf("make %s NOT NULL again: a CHECK from that moment on, validated beside readers and writers", p.detail.PlainWas))
	}
	return nil
}

// checkNames refuses columns that were renamed since the cutover: which name the applications use then is not known.
func (p *RollbackPlan) checkNames() error {
	table := "ALTER TABLE " + p.Relation.Table().SQL() + " RENAME COLUMN "
	for _, c := range []struct{ is, was string }{{p.Plain.Name, p.detail.PlainName}, {p.Sealed.Name, p.detail.SealedName}} {
		if c.is != c.was {
			return standing.Refuse("column", table+pg.Ident(c.is)+" TO "+pg.Ident(c.was), "column %q of %s was called %q at its cutover", c.is, p.Relation.Table(), c.was)
		}
	}
	if taken, found := p.Relation.Column(p.detail.SealedWas); found && taken.Attnum != p.TargetNum {
		return standing.Refuse("column", "give it another name", "%s has a new column %q, the name that the cells had before", p.Relation.Table(), taken.Name)
	}
	return nil
}

const mostRounds = 20 // in which a row was written between the job and the lock

// undoCutover runs the job until nothing is behind, and swaps back under the lock if that still holds there.
func (l *Ladder) undoCutover(ctx context.Context, p RollbackPlan, r RollbackRequest, result *Rollback) error {
	for range mostRounds {
		if err := indexReverse(ctx, l.DB, p.column, p.Relation.Leaves); err != nil {
			return standing.Settled(p.Standing, err)
		}
		o, err := l.opener(ctx, p)
		if err != nil {
			return err
		}
		err = standing.Reading(ctx, l.DB, "0", func(tx pg.Tx) error { return p.behind(ctx, tx) })
		if errors.Is(err, errBehind) {
			if err := p.CheckOpenable(ctx, l.DB); err != nil {
				return errors.Join(err, unindexReverse(ctx, l.DB, p.column, p.Relation.Leaves))
			}
			result.Jobs++
			err = r.Reverse(ctx)
		}
		if err != nil {
			return err
		}
		err = l.alone(ctx, p.Standing, func(tx pg.Tx) error {
			if err := p.swapBack(ctx, tx, o, result); err != nil {
				return err
			}
			return l.appendRollback(ctx, tx, p, r, result.Opened)
		})
		switch {
		case errors.Is(err, errUnindexed):
			if p, err = l.PlanRollback(ctx, r); err != nil {
				return err
			}
		case !errors.Is(err, errBehind):
			return err
		}
	}
	return standing.Postpone("column", "let fewer applications write the column for a moment, and ask for the same again",
		"%s is written faster than its cells can be opened: rows were behind under the lock %d times", p.Relation.Table(), mostRounds)
}

// behind is nil, or errBehind if a leaf has a row with a cell and no plaintext. For the rest of the transaction tables
// are read by indexes where that can be done, whatever the planner believes of a table that grew.
func (p *RollbackPlan) behind(ctx context.Context, tx pg.Querier) error {
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('enable_seqscan', 'off', true)`); err != nil {
		return err
	}
	for _, leaf := range p.Relation.Leaves {
		some := false
		if err := tx.QueryRow(ctx, p.column.ReverseUncovered(leaf.Named)).Scan(&some); err != nil {
			return fmt.Errorf("look for rows of %s without a plaintext: %w", leaf.Table(), err)
		}
		if some {
			return errBehind
		}
	}
	return nil
}

// swapBack is the rollback's transaction: no row is read under the lock but through the index.
func (p *RollbackPlan) swapBack(ctx context.Context, tx pg.Tx, o opener, result *Rollback) error {
	since, err := lockTable(ctx, tx, p.Relation.Table())
	if err != nil {
		return err
	}
	err = p.covered(ctx, tx)
	if errors.Is(err, errBehind) {
		result.Opened, err = o.open(ctx, tx)
	}
	if err != nil {
		return err
	}
	places, err := p.placesToday(ctx, tx)
	if err != nil {
		return err
	}
	if err := standing.Each(ctx, tx, p.back(places)); err != nil {
		return fmt.Errorf("swap back: %w", err)
	}
	if err := dropIndexes(ctx, tx, p.Relation.Leaves, p.column.ReverseIndexName); err != nil {
		return err
	}
	result.Locked = milliseconds(time.Since(since))
	return nil
}

// back is what takes the cutover back, under the lock.
func (p *RollbackPlan) back(places []standing.CutoverPlace) []string {
	detail := p.detail
	detail.Places = slices.Clone(places)
	for i := range detail.Places {
		detail.Places[i].NotNull = false // see present
	}
	list := slices.Clone(detail.Swap(p.column).Step().Undo)
	for _, step := range []ddl.Step{p.present(places), p.column.Coverage(), p.column.Bare(false)} {
		list = append(list, step.Undo...)
	}
	return append(list, p.bare().Do...)
}

// covered looks again under the lock, by the leaves' indexes alone. A leaf that has none is new: errUnindexed.
func (p *RollbackPlan) covered(ctx context.Context, tx pg.Tx) error {
	leaves, err := standing.Leaves(ctx, tx, p.Relation.OID)
	if err != nil {
		return err
	}
	known := make([]uint32, len(p.Relation.Leaves))
	for i, leaf := range p.Relation.Leaves {
		known[i] = leaf.OID
	}
	slices.Sort(leaves)
	slices.Sort(known)
	if !slices.Equal(leaves, known) {
		return errUnindexed
	}
	for _, leaf := range p.Relation.Leaves {
		valid, err := pg.Values[bool](ctx, tx, reverseIndexSQL, leaf.OID, p.column.ReverseIndexName(leaf.Named))
		if err != nil {
			return err
		}
		if !slices.Contains(valid, true) {
			return errUnindexed
		}
	}
	return p.behind(ctx, tx)
}

// placesTodaySQL is what a relation is called now, and whether its column called $2 is NOT NULL, or about to become so by the
// constraint $3.
const placesTodaySQL = `SELECT n.nspname::text, c.relname::text,
  EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $2::text AND a.attnotnull)
  OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contypid = 0 AND k.conname = $3::text)
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`

// placesToday are the places of the cutover under today's names, without those that are gone. NOT NULL that the cells do not
// have any more does not come back.
func (p *RollbackPlan) placesToday(ctx context.Context, q pg.Querier) (today []standing.CutoverPlace, err error) {
	for _, place := range p.detail.Places {
		required := false
		err := q.QueryRow(ctx, placesTodaySQL, place.OID, p.Sealed.Name, ddl.PresentName(p.ID)).Scan(&place.Schema, &place.Name, &required)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return nil, fmt.Errorf("find what was moved: %w", err)
		}
		place.NotNull = place.NotNull && required
		today = append(today, place)
	}
	return today, nil
}
