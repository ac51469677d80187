package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// checkColumns resolves sources and targets.
func (p *look) checkColumns(ctx context.Context) error {
	registered := p.registered
	if p.plan.Installed && registered == nil {
		var err error
		if registered, err = lifecycle.Columns(ctx, p.q, p.plan.Relation.OID); err != nil {
			return fmt.Errorf("preflight: %w", err)
		}
	}
	p.resolveMoves(registered)
	for i := range p.request.Columns {
		if err := p.checkStanding(ctx, i, registered); err != nil {
			return err
		}
		made, err := p.checkMade(ctx, i, registered)
		if err != nil {
			return err
		}
		external, err := p.checkMaker(ctx, i, registered)
		if err != nil {
			return err
		}
		origin, err := p.checkOrigin(ctx, i, registered)
		if err != nil {
			return err
		}
		from, err := p.checkMove(ctx, i, origin, registered)
		if err != nil {
			return err
		}
		column, err := p.column(ctx, i, external, made, origin, from)
		if err == nil {
			column.where, err = p.checkWhere(ctx, i, &column, registered)
		}
		if err == nil {
			err = p.checkRegistry(ctx, i, &column, registered)
		}
		if err == nil {
			err = p.checkFirst(ctx, i, &column, registered)
		}
		if err == nil {
			err = p.checkUnwatched(ctx, i, column)
		}
		if err != nil {
			return err
		}
		p.plan.Columns = append(p.plan.Columns, column)
	}
	return nil
}

// latest is where a registered column stands.
func (p *look) latest(ctx context.Context, c lifecycle.Column) (lifecycle.State, error) {
	if latest, known := p.states[c.ID]; known {
		return latest.State, latest.Err
	}
	return lifecycle.Latest(ctx, p.q, c.Table.String(), c.Source)
}

// checkStanding refuses a source that is not plaintext any more: after a cutover the name means cells, and the plaintext,
// under its new name, is behind them.
func (p *look) checkStanding(ctx context.Context, i int, registered []lifecycle.Column) error {
	source, found := p.plan.Relation.Column(p.request.Columns[i].Source)
	moves := p.moves(i, registered)
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool {
		return found && (r.TargetNum == source.Attnum && !moves || r.SourceNum == source.Attnum)
	})
	if at < 0 {
		return nil
	}
	r, field := registered[at], fmt.Sprintf("columns[%d].source", i)
	state, err := p.latest(ctx, r)
	switch {
	case err != nil && !errors.Is(err, lifecycle.ErrImpossible):
		return fmt.Errorf("preflight: %w", err)
	case state.Phase == lifecycle.PhaseCutOver:
		return standing.Refuse(field, "cipherfleet rollback takes the cutover back; --transform reencrypt --from cipherfleet moves its cells into a column of another type; cipherfleet status shows where it stands",
			"column %q is cut over: the cells of %q are in %q", r.Source, r.Source, p.plan.Relation.ColumnAt(r.TargetNum).Name)
	case r.TargetNum == source.Attnum && r.SourceNum != source.Attnum:
		return standing.Refuse(field, "name the plaintext column", "column %q holds cells already: it is the target of %q", source.Name, r.Source)
	}
	return nil
}

// column resolves one column of the request by what the catalog says.
func (p *look) column(ctx context.Context, i int, external work.External, made messages.ColumnRequest, origin *work.Origin, from moved) (c Column, err error) {
	c.External, c.made, c.Origin, c.moved = external, made, origin, from
	asked, field := p.request.Columns[i], fmt.Sprintf("columns[%d]", i)
	if asked.Source == asked.Target && !c.Made() {
		return c, standing.Reject(field+".target", "name another column; cutover swaps the names in the end", "source and target are both %q", asked.Source)
	}
	for _, other := range p.request.Columns[:i] {
		if other.Source == asked.Source || other.Target == asked.Target || other.Source == asked.Target || other.Target == asked.Source {
			return c, standing.Reject(field, "name each column once", "%q or %q is named twice", asked.Source, asked.Target)
		}
	}
	var found bool
	if c.Source, found = p.plan.Relation.Column(asked.Source); !found {
		return c, NoColumn(p.plan.Relation, field+".source", asked.Source)
	}
	if c.Codec, err = p.checkSource(field+".source", c); err != nil {
		return c, err
	}
	if c.Target, found = p.plan.Relation.Column(asked.Target); found {
		err = p.checkTarget(field+".target", c)
	} else {
		c.Add, c.Target = true, pg.Column{Name: asked.Target}
		err = p.checkMissing(field+".target", asked)
	}
	switch {
	case err != nil:
	case c.Foreign():
		err = p.checkForeignTarget(ctx, i, &c)
	case c.Made():
		err = p.checkDone(field, c)
	default:
		err = c.settleForm(field+".type", asked.Type)
	}
	if err == nil && c.Origin.Own() && c.form == ddl.FormOf(c.Source) {
		err = standing.Refuse(field+".type", "cipherfleet rotate seals cells anew where they are; name another type with --type", "column %q holds cells as %s already", c.Source.Name, c.form)
	}
	return c, err
}

// checkPartitionKey refuses columns that place rows. It looks before the key is chosen: a table that is partitioned by
// such a column may have no key without it.
func (p *look) checkPartitionKey(context.Context) error {
	for i, c := range p.request.Columns {
		for _, of := range []struct{ field, name string }{{"source", c.Source}, {"target", c.Target}} {
			if slices.Contains(p.plan.Relation.PartitionKey, of.name) {
				return standing.Refuse(fmt.Sprintf("columns[%d].%s", i, of.field), "rows are placed by its value: name another column, or partition the table by another first",
					"column %q is part of the partition key of %s", of.name, p.plan.Relation.Table())
			}
		}
	}
	return nil
}

// checkSource refuses sources that are computed, that rows are found by, or whose values cannot be sealed.
func (p *look) checkSource(field string, c Column) (cell.Codec, error) {
	source := c.Source
	switch {
	case source.Generated != "":
		return 0, standing.Refuse(field, "do the columns that it is computed from", "column %q is generated: it has no value of its own to move", source.Name)
	case slices.Contains(p.plan.Key.Names(), source.Name):
		return 0, standing.Refuse(field, "give another key with --key, one without this column", "column %q is part of the key (%s), which must stay readable", source.Name, strings.Join(p.plan.Key.Names(), ", "))
	}
	if c.Made() { // of whatever type
		return 0, nil
	}
	if c.Foreign() { // its values travel as text in JSON
		return 0, p.needUTF8(field, source.Name)
	}
	if c.Origin.Own() {
		return c.moved.codec, nil
	}
	if c.Origin != nil {
		return p.checkEncrypted(field, c)
	}
	codec, err := cell.CodecFor(keyspace.TypeInfo(source.Base))
	if err != nil {
		return 0, standing.Refuse(field, "change the column's type first, or leave it", "column %q of type %s cannot be sealed: %s", source.Name, source.Type, reason(err))
	}
	if codec == cell.CodecText || codec == cell.CodecOutput {
		return codec, p.needUTF8(field, source.Name)
	}
	return codec, nil
}

// checkTarget refuses an existing target that could not hold a cell in one row and NULL in the next.
func (p *look) checkTarget(field string, c Column) error {
	if c.Made() {
		return p.checkMadeTarget(field, c)
	}
	target := c.Target
	alter := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s ", p.plan.Relation.Table().SQL(), pg.Ident(target.Name))
	switch {
	case target.TypeOID != pgtype.ByteaOID && ddl.FormOf(target) == cell.FormBytes && !c.Foreign():
		return standing.Refuse(field, "name another target, or leave it out and let --prepare add one", "target %q has type %s, accepted is bytea, text or jsonb", target.Name, target.Type)
	case target.Generated != "":
		return standing.Refuse(field, "name another target", "target %q is generated: nothing can be written to it", target.Name)
	case target.NotNull:
		return standing.Refuse(field, alter+"DROP NOT NULL", "target %q is NOT NULL, but a row is NULL there until it is done", target.Name)
	case target.HasDefault:
		return standing.Refuse(field, alter+"DROP DEFAULT", "target %q has a default, which is no cell", target.Name)
	}
	return nil
}

// settleForm says how the target holds cells: by its type, or if it is to be added by the one that is asked for.
func (c *Column) settleForm(field, asked string) error {
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		if c.Add && cmp.Or(asked, "bytea") == form.String() {
			c.form = form
			return nil
		}
	}
	switch {
	case c.Add:
		return standing.Reject(field, "leave it out for bytea", "was %q; cells go into bytea, text or jsonb", asked)
	case asked != "" && asked != ddl.FormOf(c.Target).String():
		return standing.Refuse(field, "leave --type out: the target is there", "target %q has type %s, not %s", c.Target.Name, c.Target.Type, asked)
	}
	c.form = ddl.FormOf(c.Target)
	return nil
}

// Form is how the target of a column that is no encrypter's holds cells.
func (c Column) Form() cell.Form { return c.form }

func (p *look) checkMissing(field string, asked messages.ColumnRequest) error {
	target := asked.Target
	switch most := p.plan.Relation.Server.MaxIdentifierBytes; {
	case len(target) > most:
		return standing.Reject(field, "name a shorter one with --target", "target %q has more than %d bytes; the server would cut its name", target, most)
	case !p.request.Prepare:
		hint := fmt.Sprintf("--prepare adds it; or ALTER TABLE %s ADD COLUMN %s %s", p.plan.Relation.Table().SQL(), pg.Ident(target), cmp.Or(asked.Type, "bytea"))
		if asked.Made() {
			return standing.Refuse(field, "--prepare adds it, or ALTER TABLE ... ADD COLUMN", "%s has no column %q to write to", p.plan.Relation.Table(), target)
		}
		return standing.Refuse(field, hint, "%s has no column %q to write cells to", p.plan.Relation.Table(), target)
	}
	return nil
}

// checkRegistry compares a column with those that cells were made for before.
func (p *look) checkRegistry(ctx context.Context, i int, c *Column, registered []lifecycle.Column) error {
	field := fmt.Sprintf("columns[%d]", i)
	for _, r := range registered {
		sameTarget := !c.Add && r.TargetNum == c.Target.Attnum
		switch {
		case r.SourceNum == c.Source.Attnum && !sameTarget && p.hasAttnum(r.TargetNum):
			return standing.Clash(field+".target", fmt.Sprintf("leave --target as %q", r.Target), "column %q is being moved to %q already", c.Source.Name, r.Target)
		case r.SourceNum == c.Source.Attnum:
			c.Registered = r
		case sameTarget && p.hasAttnum(r.SourceNum):
			return standing.Clash(field+".target", "name another target", "column %q is the target of %q already", c.Target.Name, r.Source)
		case !c.Add && r.SourceNum == c.Target.Attnum && p.hasAttnum(r.TargetNum): // its capture has looked before another one's writes
			return standing.Clash(field+".target", "name another target", "column %q is being moved to %q, which would miss what is written to it so", c.Target.Name, r.Target)
		}
	}
	var err error
	if c.nulls, err = p.sealsNulls(ctx, *c, p.request.Columns[i].First); err != nil || c.Registered.ID == 0 || c.Add {
		return err
	}
	if c.Made() || c.where != "" {
		c.Guarded = p.seemsGuarded(c.Registered.ID)
		if c.where != "" {
			return p.checkBinding(*c)
		}
		return nil
	}
	c.Guarded = guarded(p.plan.Relation, c.Steps(p.plan, c.Registered.ID))
	return p.checkBinding(*c)
}

// checkBinding refuses a key other than the one that the column's cells are bound to: none of them would open. The
// capture remembers it, for its condition compares the key.
func (p *look) checkBinding(c Column) error {
	bound := p.captured(c)
	if asked := slices.Sorted(slices.Values(p.plan.Key.Names())); len(bound) > 0 && !slices.Equal(slices.Sorted(slices.Values(bound)), asked) {
		names := strings.Join(bound, ", ")
		return standing.Clash("key", "give the columns "+names+" as --key", "the cells of column %q are bound to the key (%s), not (%s)",
			c.Source.Name, names, strings.Join(p.plan.Key.Names(), ", "))
	}
	return nil
}

// captured lists the key columns that a column's capture watches; none without a capture.
func (p *look) captured(c Column) (key []string) {
	for _, t := range p.plan.Relation.Triggers {
		if !p.captures(t, c.Registered.ID) || !slices.Contains(t.Events, "UPDATE") {
			continue
		}
		for _, name := range t.Reads {
			if name != c.Source.Name && name != c.Target.Name && !slices.Contains(c.Origin.Names(), name) && !slices.Contains(key, name) {
				key = append(key, name)
			}
		}
	}
	return key
}

// captures says that the trigger is part of a column's capture, on the table itself.
func (p *look) captures(t pg.Trigger, id uint32) bool {
	return standing.IsOurs(t) && slices.Contains(ddl.CaptureTriggers(id), t.Name) && t.Table.OID == p.plan.Relation.OID
}

func (p *look) hasAttnum(n int16) bool {
	return slices.ContainsFunc(p.plan.Relation.Columns, func(c pg.Column) bool { return c.Attnum == n })
}

// reason is the innermost part of an error's text: why, without what was being done.
func reason(err error) string {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	text := err.Error()
	if _, why, found := strings.Cut(text, ": "); found {
		return why
	}
	return text
}
