package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// checkOrigin settles who encrypted the values of a source, if somebody else did: who the request names, else whom the
// last job named. What was begun as one of the two is never gone on with as the other.
func (p *look) checkOrigin(ctx context.Context, i int, registered []lifecycle.Column) (*work.Origin, error) {
	asked, field := p.request.Columns[i], columnsField(i)
	source, found := p.plan.Relation.Column(asked.Source)
	at := slices.IndexFunc(registered, func(r lifecycle.Column) bool { return found && r.SourceNum == source.Attnum })
	var last work.Column
	own := false
	if at >= 0 {
		var err error
		if last, own, err = p.maker(ctx, registered[at].ID); err != nil {
			return nil, err
		}
	}
	begun, was := last.ID != 0 || own, (*work.Origin)(nil)
	if at >= 0 {
		if was = last.OriginAt(registered[at].SourceNum); p.moves(i, registered) {
			begun, was = true, standing.MovedFrom(registered, registered[at])
		}
	}
	switch {
	case asked.Transform == messages.TransformReencrypt && begun && was == nil && asked.From != nil && asked.From.Format == messages.FormatOwn:
		return nil, standing.Clash(field+".transform", "cut it over first; or take it back with cipherfleet rollback --to schema-added --drop-target, and leave --transform and --from out, which is shorter",
			"the cells of %q do not stand for its plaintext yet: they move once it is cut over", asked.Source)
	case asked.Transform == messages.TransformReencrypt && begun && was == nil:
		return nil, standing.Clash(field+".transform", "take the column back with cipherfleet rollback first, and name another target", "the values of %q were taken for plaintext before", asked.Source)
	case asked.Transform != "" && asked.Transform != messages.TransformReencrypt && was != nil:
		return nil, standing.Clash(field+".transform", "leave --transform out, or take the column back with cipherfleet rollback first",
			"the values of %q are encrypted in format %s", asked.Source, was.Format)
	case asked.Transform == messages.TransformReencrypt:
		return p.settleOrigin(field+".from", *asked.From)
	case was != nil:
		return p.settleOrigin(field+".from", was.Today(p.plan.Relation))
	}
	return nil, nil
}

// settleOrigin finds the columns that stand beside the source.
func (p *look) settleOrigin(field string, from messages.Origin) (*work.Origin, error) {
	o := &work.Origin{Origin: from}
	for _, beside := range []struct{ part, name string }{{"iv", from.IV}, {"salt", from.Salt}} {
		if beside.name == "" {
			continue
		}
		at := field + "." + beside.part
		column, found := p.plan.Relation.Column(beside.name)
		switch {
		case !found:
			return nil, NoColumn(p.plan.Relation, at, beside.name)
		case !shape.HoldsForeign(column):
			return nil, standing.Refuse(at, "name the column that the other system keeps it in", "column %q has type %s, accepted is bytea, text, varchar, json or jsonb", column.Name, column.Type)
		case slices.Contains(p.plan.Key.Names(), column.Name):
			return nil, standing.Refuse(at, "give another key with --key, one without this column", "column %q is part of the key (%s)", column.Name, strings.Join(p.plan.Key.Names(), ", "))
		case !column.MaySelect:
			return nil, standing.Deny(at, "GRANT SELECT ON TABLE "+p.plan.Relation.Table().SQL()+" TO "+pg.Ident(p.plan.Relation.Server.User),
				"role %q may not read column %q of %s", p.plan.Relation.Server.User, column.Name, p.plan.Relation.Table())
		}
		o.Beside = append(o.Beside, ddl.Input{Name: column.Name, Attnum: column.Attnum})
	}
	return o, nil
}

// checkEncrypted refuses a source that nothing encrypted can stand in, and says how what is opened is sealed.
func (p *look) checkEncrypted(field string, c Column) (cell.Codec, error) {
	if !shape.HoldsForeign(c.Source) {
		return 0, standing.Refuse(field, "name the column that holds the encrypted values", "column %q has type %s, accepted is bytea, text, varchar, json or jsonb", c.Source.Name, c.Source.Type)
	}
	codec, err := c.Origin.Codec()
	if err != nil {
		return 0, err
	}
	if codec == cell.CodecText {
		return codec, p.needUTF8(field, c.Source.Name)
	}
	return codec, nil
}

// RegisteredAs is the type of the column's plaintext, for the registry.
func (c Column) RegisteredAs() (typ, collation string) {
	if c.Origin.Own() {
		return c.moved.Type, c.moved.Collation
	}
	if c.Origin != nil {
		return c.Origin.PlaintextType(), ""
	}
	return c.Source.Type, c.Source.Collation
}

// Unreadable refuses a plan with a column that somebody else encrypted, if what opens it is not here, or opens none of a
// few of its values. It is for whoever begins, and has the keys.
func Unreadable(ctx context.Context, db *pg.DB, plan Plan, keys *foreign.Keys) error {
	for i, c := range plan.Columns {
		if c.Origin == nil || c.Origin.Own() {
			continue
		}
		field := columnsField(i) + ".from"
		reader, err := transform.OpenReader(ctx, c.Origin.Origin, keys)
		switch {
		case errors.Is(err, foreign.ErrNoKey):
			return standing.Refuse(field+".key", "name the file that has it with CIPHERFLEET_FOREIGN_KEYS, for the coordinator and for every worker; docs/foreign.md describes the file", "%s", err)
		case cell.KEKClassOf(err) != "":
			return err
		case err != nil:
			return standing.Refuse(field, "docs/foreign.md lists what each format reads", "column %q: %s", c.Source.Name, err)
		}
		err = shape.Opens(ctx, db, plan.Relation, work.Column{Source: c.Source.Name, Origin: c.Origin, Reader: reader})
		var unread *shape.UnreadError
		if errors.As(err, &unread) {
			return standing.Refuse(field, "is it the right key, format, mode and algorithm, and are iv and salt the right columns?", "none of %d values of column %q opens: %s",
				unread.Tried, c.Source.Name, reason(unread.Err))
		}
		if err != nil {
			return fmt.Errorf("try the values of %s: %w", c.Source.Name, err)
		}
	}
	return nil
}
