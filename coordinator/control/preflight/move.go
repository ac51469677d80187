package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// moved is the column whose cells a source holds, and how those are sealed. The zero moved is that of any other source.
type moved struct {
	lifecycle.Column
	codec  cell.Codec
	scheme lifecycle.Definition
}

// LogName is the name under which the log is going to know a column: its source's, but that of its target where the
// source's is another column's by now.
func (c Column) LogName() string {
	if c.Origin.Own() {
		return c.Target.Name
	}
	return c.Source.Name
}

// resolveMoves takes the name that a move goes by, its target's, for the column that it moves.
func (p *look) resolveMoves(registered []lifecycle.Column) {
	for i, asked := range p.request.Columns {
		at := slices.IndexFunc(registered, func(r lifecycle.Column) bool {
			return r.Source == asked.Source && standing.MovedFrom(registered, r) != nil
		})
		if at < 0 || asked.From != nil {
			continue
		}
		p.request.Columns[i].Source = p.plan.Relation.ColumnAt(registered[at].SourceNum).Name
		p.request.Columns[i].Target = registered[at].Target
		if target := p.plan.Relation.ColumnAt(registered[at].TargetNum); target.Attnum != 0 {
			p.request.Columns[i].Target = target.Name
		}
	}
}

// moves says that a column of the request moves cells of ours, or began to.
func (p *look) moves(i int, registered []lifecycle.Column) bool {
	asked := p.request.Columns[i]
	source, found := p.plan.Relation.Column(asked.Source)
	return asked.From.Own() || found && slices.ContainsFunc(registered, func(r lifecycle.Column) bool {
		return r.SourceNum == source.Attnum && standing.MovedFrom(registered, r) != nil
	})
}

// checkMove refuses cells that are not, or not yet, to be moved: those of no column of ours, those that still follow a
// plaintext, and those that something else is being made of. It completes the origin.
func (p *look) checkMove(ctx context.Context, i int, origin *work.Origin, registered []lifecycle.Column) (from moved, err error) {
	asked, field := p.request.Columns[i], columnsField(i)
	source, found := p.plan.Relation.Column(asked.Source)
	if !origin.Own() || !found {
		return from, nil
	}
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool { return r.TargetNum == source.Attnum })
	if at < 0 {
		return from, standing.Refuse(field+".source", "name the column that holds the cells; cipherfleet status lists them", "column %q holds no cells of cipherfleet's", source.Name)
	}
	from.Column = registered[at]
	name := standing.Name{Schema: p.plan.Relation.Schema, Table: p.plan.Relation.Name, Column: from.Source}
	if taken := slices.IndexFunc(registered, func(r lifecycle.Column) bool { return r.Source == asked.Target && r.SourceNum != source.Attnum }); taken >= 0 {
		return from, standing.Clash(field+".target", "name another target: it is the name that the move goes by", "a column %q was registered already", asked.Target)
	}
	if begun := slices.IndexFunc(registered, func(r lifecycle.Column) bool {
		return r.SourceNum == source.Attnum && r.Source != asked.Target && !p.hasAttnum(r.TargetNum)
	}); begun >= 0 {
		return from, standing.Clash(field+".target", fmt.Sprintf("leave --target as %q: the log goes on where it was taken back", registered[begun].Source),
			"the cells of %q were moving into %q before", source.Name, registered[begun].Source)
	}
	state, err := p.latest(ctx, from.Column)
	switch {
	case err != nil && !errors.Is(err, lifecycle.ErrImpossible):
		return from, err
	case state.Phase != lifecycle.PhaseCutOver && state.Phase != lifecycle.PhaseDropped:
		return from, standing.Refuse(field+".source", "the plaintext is still the truth: "+name.Command("rollback")+" --to schema-added --drop-target, then "+name.Backfill()+" --type "+typeOr(asked.Type)+" --prepare",
			"%s is %s, not cut-over", name, standing.PhaseWord(state.Phase))
	}
	if err := p.checkMovable(ctx, field, from.Column, registered); err != nil {
		return from, err
	}
	schemes, err := lifecycle.Schemes(ctx, p.q, from.ID)
	if err != nil {
		return from, err
	}
	active := slices.IndexFunc(schemes, func(s lifecycle.SchemeRow) bool { return s.State == lifecycle.SchemeActive })
	if active < 0 {
		return from, standing.Refuse(field+".source", "whoever made them moves them", "the values of %s are not cells of cipherfleet's", name)
	}
	from.scheme, from.codec = schemes[active].Definition, schemes[active].Codec
	origin.Column, origin.Scheme = from.ID, schemes[active].Number
	return from, p.checkWalk(ctx, from)
}

func typeOr(asked string) string {
	if asked == "" {
		return "bytea"
	}
	return asked
}

// checkMovable refuses to move cells that another job works on, or whose blind indexes nobody would keep.
func (p *look) checkMovable(ctx context.Context, field string, from lifecycle.Column, registered []lifecycle.Column) error {
	job, err := work.LiveOver(ctx, p.q, p.plan.Relation.OID)
	if err != nil && !errors.Is(err, work.ErrNoJob) {
		return err
	}
	if at := slices.IndexFunc(job.Spec.Columns, func(c work.Column) bool { return c.ID == from.ID }); err == nil && at >= 0 {
		return standing.Occupied(field+".source", job, fmt.Sprintf("a job over %q has not ended", from.Source))
	}
	return standing.CheckUnindexed(ctx, p.q, field+".source", from)
}

// checkWalk refuses a key other than the one that the cells are bound to: none of them would open.
func (p *look) checkWalk(ctx context.Context, from moved) error {
	job, err := work.Newest(ctx, p.q, from.ID)
	if errors.Is(err, work.ErrNoJob) || !from.scheme.RowBound {
		return nil
	}
	if err != nil {
		return err
	}
	if names := p.plan.Key.Names(); !slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(job.Spec.Key))) {
		return standing.Clash("key", "give the columns "+strings.Join(job.Spec.Key, ", ")+" as --key", "the cells of column %q are bound to the key (%s), not (%s)",
			from.Source, strings.Join(job.Spec.Key, ", "), strings.Join(names, ", "))
	}
	return nil
}
