package ladder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// RotationPlan is a column whose cells are to be sealed anew, every precondition met when it was looked at. Its phase
// stays as it is.
type RotationPlan struct {
	standing.Standing
	Job     preflight.Plan        // of the job
	To      lifecycle.SchemeRow   // readable, or active already
	Schemes []lifecycle.SchemeRow // all that the column ever had

	column ddl.Column
}

// PlanRotation looks a rotation over before anything is changed.
func PlanRotation(ctx context.Context, db *pg.DB, r messages.StartRequest) (p RotationPlan, err error) {
	if err := r.Validate(); err != nil {
		return p, err
	}
	err = standing.Reading(ctx, db, "30s", func(tx pg.Tx) (err error) {
		p.Standing, err = standing.Find(ctx, tx, standing.Name{Schema: cmp.Or(r.Schema, "public"), Table: r.Table, Column: r.Columns[0].Source})
		if err == nil {
			err = checkRotatable(ctx, tx, p.Standing)
		}
		if err == nil {
			err = p.choose(ctx, tx, r.Scheme)
		}
		if err == nil {
			p.column, err = Steps(ctx, tx, p.Standing)
		}
		if err == nil {
			p.Job, err = jobOverCells(ctx, tx, p.Standing, p.Sealed, r.UserTriggers)
		}
		return err
	})
	return p, err
}

// checkRotatable refuses a column that has no cells of ours, or none yet.
func checkRotatable(ctx context.Context, q pg.Querier, s standing.Standing) error {
	name := s.Relation.Table().String() + "." + s.Source
	e, err := standing.EncrypterOf(ctx, q, s.ID)
	switch {
	case err != nil:
		return err
	case e.Subject != "":
		return standing.Refuse("column", "let that encrypter rotate its keys", "the values of %s are made by the encrypter on %s: cipherfleet cannot open them", name, e.Subject)
	case s.Sealed.Attnum == 0:
		return standing.Refuse("column", "cipherfleet status says what is missing", "the cells of %s are gone", name)
	case s.State.Phase == "" || s.State.Phase == lifecycle.PhaseSchemaAdded:
		return standing.Refuse("column", "cipherfleet backfill makes its cells", "%s is %s: there are no cells to seal anew", name, standing.PhaseWord(s.State.Phase))
	}
	return s.CheckStays(ctx, q)
}

// choose finds the scheme to seal under: the one that is asked for, else the newest that can be read.
func (p *RotationPlan) choose(ctx context.Context, q pg.Querier, number int) (err error) {
	if p.Schemes, err = lifecycle.Schemes(ctx, q, p.ID); err != nil {
		return err
	}
	name := standing.Name{Schema: p.Relation.Schema, Table: p.Relation.Name, Column: p.Source}
	found := false
	for _, s := range p.Schemes {
		if number == 0 && isReadable(s) || number == int(s.Number) {
			p.To, found = s, true
		}
	}
	switch {
	case !found && number == 0:
		return standing.Refuse("scheme", name.Backfill()+" gives it one", "column %q of %s has no scheme", p.Source, p.Relation.Table())
	case !found:
		return standing.Lack("scheme", name.Command("scheme new")+" makes the next one", "column %q of %s has no scheme %d", p.Source, p.Relation.Table(), number)
	case !isReadable(p.To):
		return standing.Refuse("scheme", name.Command("scheme new")+" makes the next one: a number is never used again",
			"scheme %d of column %q of %s is %s", p.To.Number, p.Source, p.Relation.Table(), p.To.State)
	}
	if err := p.CheckNulls(ctx, q, p.Schemes, p.To.Nulls); err != nil {
		return err
	}
	return p.checkCodec()
}

// checkCodec refuses a scheme that does not hold what the column's other cells hold, or its source.
func (p *RotationPlan) checkCodec() error {
	for _, s := range p.Schemes {
		if isReadable(s) && !p.To.Codec.Holds(s.Codec) {
			return standing.Refuse("scheme", "give the new scheme the codec of the old one", "scheme %d seals %s, and cells of scheme %d hold %s",
				p.To.Number, p.To.Codec, s.Number, s.Codec)
		}
	}
	if p.Plain.Attnum == 0 || p.Origin.Own() {
		return nil
	}
	if codec, err := cell.CodecFor(keyspace.TypeInfo(p.Plain.Base)); err != nil || codec != p.To.Codec {
		return standing.Refuse("scheme", "give the new scheme the codec of the column, or drop its plaintext first",
			"scheme %d seals %s, and the plaintext of %s is %s", p.To.Number, p.To.Codec, p.Source, p.Plain.Type)
	}
	return nil
}

func isReadable(s lifecycle.SchemeRow) bool {
	return s.State == lifecycle.SchemeReadable || s.State == lifecycle.SchemeActive
}

// jobOverCells checks that a job may walk the key that a column's cells are bound to, reading the cells and writing to.
// Unless somebody says otherwise the user's own triggers are treated as by the last job.
func jobOverCells(ctx context.Context, q pg.Querier, s standing.Standing, to pg.Column, triggers string) (preflight.Plan, error) {
	names, err := keyOf(ctx, q, s)
	if err != nil {
		return preflight.Plan{}, err
	}
	key, found := s.Relation.KeyOf(names)
	if !found || !key.Usable() {
		return preflight.Plan{}, standing.Refuse("key", preflight.KeyHint, "%s has lost the key that its cells are bound to", s.Relation.Table())
	}
	if err := s.CheckBound(ctx, q); err != nil {
		return preflight.Plan{}, err
	}
	if last, err := work.Newest(ctx, q, s.ID); err == nil {
		triggers = cmp.Or(triggers, last.Spec.UserTriggers)
	} else if !errors.Is(err, work.ErrNoJob) {
		return preflight.Plan{}, err
	}
	return preflight.Reverse(ctx, q, s.Relation, key, s.Sealed, to, triggers)
}

// JobColumn is the column as its job knows it.
func (p RotationPlan) JobColumn() work.Column {
	return work.Column{ID: p.ID, Target: p.Sealed.Name, TargetAttnum: p.TargetNum, Scheme: p.To.Number, Rotate: true, Phase: p.State.Phase, Origin: p.Origin, Where: p.Where, SourceAttnum: p.SourceNum,
		LogTable: p.Standing.Column.Table.String(), LogColumn: p.Source}
}

const knowsRotationSQL = `SELECT coalesce(pg_catalog.bool_and(pg_catalog.strpos(pg_catalog.pg_get_triggerdef(g.oid), $3) OPERATOR(pg_catalog.>) 0), false)
 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = $1 AND g.tgname = ANY ($2) AND pg_catalog.strpos(g.tgname, '_update') OPERATOR(pg_catalog.>) 0`

// Begin has the column sealed under the scheme from now on, once everybody who is there can read it. Of a column that is
// cut over it makes sure that a plaintext stays beside a cell that is sealed anew.
func (p RotationPlan) Begin(ctx context.Context, registrar lifecycle.Registrar, alter func(context.Context, func(pg.Tx) error) error) error {
	if p.State.Phase == lifecycle.PhaseCutOver && p.Plain.Attnum != 0 {
		knows := false
		names := ddl.ReverseTriggers(p.ID)
		if err := registrar.DB.QueryRow(ctx, knowsRotationSQL, p.Relation.OID, names, ddl.WriterRotation).Scan(&knows); err != nil {
			return fmt.Errorf("look at the capture of %s: %w", p.Relation.Table(), err)
		}
		if !knows {
			anew := func(tx pg.Tx) error {
				return standing.Unwritten(ctx, tx, p.column.Table, p.column.ReverseCapture().Do...)
			}
			if err := alter(ctx, anew); err != nil {
				return fmt.Errorf("let the plaintext of %s stay: %w", p.Relation.Table(), err)
			}
		}
	}
	names, err := p.BoundColumns(p.Schemes)
	if err == nil && len(names) > 0 {
		err = p.Bind(ctx, registrar.DB, names, alter)
	}
	if err != nil {
		return err
	}
	if err := registrar.ActivateScheme(ctx, p.ID, p.To.Number); err != nil {
		return err
	}
	rewatched := p.Rewatched(p.column, p.To.SealsNulls())
	if len(rewatched) == 0 {
		return nil
	}
	if err := alter(ctx, func(tx pg.Tx) error { return standing.Alone(ctx, tx, p.column.Table, rewatched...) }); err != nil {
		return fmt.Errorf("have writes noticed that miss the cell of a NULL in %s: %w", p.Relation.Table(), err)
	}
	return nil
}

// Left says under which other schemes cells may still be.
func (p RotationPlan) Left() (numbers []uint16) {
	for _, s := range p.Schemes {
		if isReadable(s) && s.Number != p.To.Number {
			numbers = append(numbers, s.Number)
		}
	}
	slices.Sort(numbers)
	return numbers
}
