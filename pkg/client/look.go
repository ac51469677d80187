package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/client/kind"
	"github.com/cipherfleet/cipherfleet/pkg/client/lineage"
	"github.com/cipherfleet/cipherfleet/pkg/client/place"
	"github.com/cipherfleet/cipherfleet/pkg/client/token"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// pulseSQL is one text that differs whenever one of the columns of these tables stands elsewhere: by its names, or by
// what has happened to it. It is what polling costs. Of schemes that are bound to columns, those count too.
const pulseSQL = `SELECT coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', wanted.n, found.oid, c.id, s.attname, s.atttypid, s.atttypmod, t.attname, last.id, job.id, bound.columns), ', ' ORDER BY wanted.n, c.id), '')
  || (SELECT i.revision FROM cipherfleet.installation i)::pg_catalog.text
 FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS wanted (name, n)
 LEFT JOIN LATERAL (SELECT pg_catalog.to_regclass(wanted.name)::pg_catalog.oid AS oid) found ON true
 LEFT JOIN cipherfleet.columns c ON c.relid = found.oid AND c.retired_at IS NULL
 LEFT JOIN pg_catalog.pg_attribute s ON s.attrelid = c.relid AND s.attnum = c.source_attnum AND NOT s.attisdropped
 LEFT JOIN pg_catalog.pg_attribute t ON t.attrelid = c.relid AND t.attnum = c.target_attnum AND NOT t.attisdropped
 LEFT JOIN LATERAL (SELECT e.id FROM cipherfleet.events e WHERE e.table_name = c.schema_name || '.' || c.table_name AND e.column_name = c.source
   AND e.event <> 'backfill_checkpoint' ORDER BY e.id DESC LIMIT 1) last ON true
 LEFT JOIN LATERAL (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname), a.atttypid, a.atttypmod, a.attnotnull), ' ' ORDER BY x.number, a.attnum) AS columns
   FROM cipherfleet.schemes x JOIN pg_catalog.pg_attribute a ON a.attrelid = c.relid AND pg_catalog.to_jsonb(x)->'bound_attnums' @> pg_catalog.to_jsonb(a.attnum::int) AND NOT a.attisdropped
   WHERE x.column_id = c.id AND x.binding = 'columns') bound ON true
 LEFT JOIN LATERAL (SELECT j.id FROM cipherfleet.jobs j WHERE j.relid = c.relid ORDER BY j.created_at DESC, j.id LIMIT 1) job ON true`

// look follows every column to where it stands, if one of them moved; or only the fresh ones, which nobody has looked at
// yet, and must be there. Several at once are one.
func (c *Client) look(ctx context.Context, fresh Columns) error {
	arrived := c.config.Now()
	select {
	case <-c.looking:
	case <-ctx.Done():
		return fmt.Errorf("look at the columns: %w", ctx.Err())
	}
	defer func() { c.looking <- struct{}{} }()
	if fresh != nil {
		c.pulse = "" // it is of other columns
		_, err := c.still(ctx, fresh, "")
		if err = errors.Join(err, fresh.missing()); err == nil {
			c.keep(fresh) // before anybody else looks: the lease that he renews speaks for these, too
		}
		return err
	}
	columns := c.opened()
	if len(columns) == 0 || c.looked.After(arrived) {
		return nil
	}
	began := c.config.Now()
	pulse, err := c.still(ctx, columns, c.pulse)
	if err == nil {
		c.pulse, c.looked = pulse, began
	}
	return err
}

// still follows columns until they stand still, and returns their pulse; known is the one they had.
func (c *Client) still(ctx context.Context, columns Columns, known string) (string, error) {
	const tries = 5 // a table that moves while it is looked at is looked at again
	var failed error
	for range tries {
		pulse, err := c.feel(ctx, columns)
		if err != nil {
			return "", fmt.Errorf("look at the columns: %w", err)
		}
		if pulse == known {
			return pulse, nil
		}
		if failed = c.follow(ctx, columns); failed != nil { // because a column moved, or for good
			if now, err := c.feel(ctx, columns); err != nil || now == pulse {
				return "", fmt.Errorf("look at the columns: %w", errors.Join(failed, err))
			}
			continue
		}
		known = pulse
	}
	return "", errors.Join(errors.New("look at the columns: they do not stand still"), failed)
}

func (c *Client) feel(ctx context.Context, columns Columns) (pulse string, err error) {
	err = c.db.QueryRow(ctx, pulseSQL, columns.tables()).Scan(&pulse)
	return pulse, err
}

// tables are the distinct names, as SQL.
func (cs Columns) tables() (names []string) {
	for _, column := range cs {
		if name := column.table.SQL(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// follow reads where the columns stand, table by table. Of a table that is gone they stay as they were.
func (c *Client) follow(ctx context.Context, columns Columns) error {
	var gone *pg.NotFound
	for _, name := range columns.tables() {
		var own Columns
		for _, column := range columns {
			if column.table.SQL() == name {
				own = append(own, column)
			}
		}
		err := c.followTable(ctx, own)
		if errors.As(err, &gone) && own.missing() == nil {
			c.config.Log.WarnContext(ctx, "a table is gone", "table", name)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) followTable(ctx context.Context, own Columns) error {
	relation, err := pg.Inspect(ctx, c.db, own[0].table.Schema, own[0].table.Name)
	if err != nil {
		return err
	}
	registered, err := lifecycle.Columns(ctx, c.db, relation.OID)
	if err != nil {
		return err
	}
	latest, err := lifecycle.LatestOf(ctx, c.db, registered)
	if err != nil {
		return err
	}
	for _, column := range own {
		s, err := c.stand(ctx, relation, registered, latest, column.name)
		if err != nil {
			return fmt.Errorf("column %s: %w", column.name, err)
		}
		if s == nil {
			continue
		}
		if s.id != 0 && !s.setsCell() {
			c.config.Log.WarnContext(ctx, "cells are not written: the rows are left to the fleet", "column", s.id, "may write", s.maySeal, "foreign", s.foreign)
		}
		column.at.Store(s)
	}
	return nil
}

// stand is where the column of that name stands; nil if there is none.
func (c *Client) stand(ctx context.Context, relation pg.Relation, registered []lifecycle.Column, latest map[uint32]lifecycle.Standing, name string) (*standing, error) {
	s := &standing{relid: relation.OID, table: relation.Table()}
	known, ok := lineage.Find(relation, registered, name)
	if !ok {
		column, ok := relation.Column(name)
		if ok {
			s.plain, s.plainNum = column.Name, column.Attnum
			s.kind = kind.Of(column.Base, column.BaseTypmod, column.Type)
			return s, nil
		}
		var err error
		if known, ok, err = lineage.Alias(ctx, c.db, relation.OID, registered, name); err != nil || !ok {
			return nil, err
		}
	}
	line := lineage.Of(relation, registered, latest, known)
	known = line.Read
	s.id, s.phase, s.kin = known.ID, latest[known.ID].State.Phase, line.Kin
	s.sealed, s.sealedNum = columnAt(relation, known.TargetNum)
	s.plain, s.plainNum = columnAt(relation, known.SourceNum)
	if s.plain == "" && s.sealed == "" {
		return nil, nil
	}
	if err := c.withoutOrigin(ctx, s, known); err != nil {
		return nil, err
	}
	if target, ok := relation.Column(s.sealed); ok {
		s.form = ddl.FormOf(target)
		s.foreign = target.Base.OID != pgtype.ByteaOID
	}
	var err error
	if column, ok := relation.Column(s.plain); ok {
		s.kind = kind.Of(column.Base, column.BaseTypmod, column.Type)
	} else if s.kind, err = kind.Named(ctx, c.db, known.Type); err != nil {
		return nil, err
	}
	if s.turn, err = line.Turn(ctx, c.db); err != nil {
		return nil, err
	}
	if s.plain != "" && s.sealed != "" {
		if s.maySeal, s.mayPlain, err = lineage.Rights(ctx, c.db, s.relid, s.plainNum, s.sealedNum); err != nil {
			return nil, err
		}
	}
	schemes, err := lifecycle.Schemes(ctx, c.db, known.ID)
	if err != nil {
		return nil, err
	}
	s.foreign, s.tenants, s.bound = s.foreign && len(schemes) == 0, tenants(relation, schemes), boundPlaces(relation, schemes)
	if err := c.joinTwin(ctx, relation, s, line.Twin); err != nil {
		return nil, err
	}
	if s.tokens, err = token.Of(ctx, c.db, c.chain, s.relid, s.id, s.sealedNum); err != nil {
		return nil, err
	}
	s.key, err = c.keyOf(ctx, relation, known.ID)
	return s, err
}

// withoutOrigin keeps away from a source that somebody else encrypted: what it holds is no plaintext. There are cells alone,
// and before their cutover nothing.
func (c *Client) withoutOrigin(ctx context.Context, s *standing, known lifecycle.Column) error {
	format, err := lineage.Format(ctx, c.db, known)
	switch {
	case err != nil:
		return err
	case format == "":
		return nil
	case s.phase != lifecycle.PhaseCutOver && s.phase != lifecycle.PhaseDropped:
		return fmt.Errorf("its values are encrypted in format %s until its cutover, and only read and written by what encrypted them", format)
	}
	s.plain, s.plainNum = "", 0
	return nil
}

// columnAt is a column by its number: its present name, or "" if it is gone.
func columnAt(relation pg.Relation, num int16) (string, int16) {
	for _, column := range relation.Columns {
		if column.Attnum == num {
			return column.Name, num
		}
	}
	return "", 0
}

// tenants are the columns that choose a row's key, by the schemes that have one.
func tenants(relation pg.Relation, schemes []lifecycle.SchemeRow) map[uint16]tenantColumn {
	tenants := map[uint16]tenantColumn{}
	for _, scheme := range schemes {
		if column, ok := relation.Column(scheme.Tenant); ok {
			tenants[scheme.Number] = tenantColumn{column.Name, kind.Of(column.Base, column.BaseTypmod, column.Type)}
		} else if scheme.Tenant != "" {
			tenants[scheme.Number] = tenantColumn{scheme.Tenant, kind.Kind{Why: fmt.Errorf("there is no column %q", scheme.Tenant)}}
		}
	}
	return tenants
}

// keyOf is the key that rows of a table are bound to.
func (c *Client) keyOf(ctx context.Context, relation pg.Relation, id uint32) (*place.Columns, error) {
	names, err := lineage.Key(ctx, c.db, id)
	if err != nil {
		return nil, err
	}
	for _, key := range relation.Keys {
		if key.Usable() && slices.Equal(key.Names(), names) {
			return place.OfKey(relation, key)
		}
	}
	if key, ok := relation.UsableKey(); ok {
		return place.OfKey(relation, key)
	}
	return nil, nil
}
