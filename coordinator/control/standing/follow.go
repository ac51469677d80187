package standing

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Followers are the schemes by which cells follow other columns of their row: they are bound to them, or have their keys
// chosen by them.
type Followers []follower

type follower struct {
	relation uint32
	source   string // whose cells follow
	number   int
	bound    []int16
	tenant   string // the column that chooses keys; "": none
}

// A schema of before version 5 knows no bound columns.
const followersSQL = `SELECT c.relid, c.source, s.number, ARRAY(SELECT b.num::int2 FROM pg_catalog.jsonb_array_elements_text(coalesce(nullif(pg_catalog.to_jsonb(s)->'bound_attnums', 'null'), '[]')) AS b (num)),
 coalesce(pg_catalog.to_jsonb(s)->>'tenant_column', '') FROM cipherfleet.schemes s JOIN cipherfleet.columns c ON c.id = s.column_id
 WHERE c.relid = ANY ($1::oid[]) AND c.retired_at IS NULL AND s.state IN ('readable', 'active') ORDER BY c.id, s.number`

// ReadFollowers reads those of tables that can be read under.
func ReadFollowers(ctx context.Context, q pg.Querier, relations ...uint32) (Followers, error) {
	all, err := pg.Collect(ctx, q, followersSQL, func(row pgx.CollectableRow) (f follower, err error) {
		return f, row.Scan(&f.relation, &f.source, &f.number, &f.bound, &f.tenant)
	}, relations)
	if err != nil {
		return nil, fmt.Errorf("look for cells that follow other columns: %w", err)
	}
	return all, nil
}

// CheckFollowed refuses to cut over a column that cells of another one are bound to, which would stay bound to what becomes
// of its plaintext, or that chooses their keys: it would go on with cells, and a shredding would miss the rows.
func CheckFollowed(ctx context.Context, q pg.Querier, relation pg.Relation, plain pg.Column) error {
	all, err := ReadFollowers(ctx, q, relation.OID)
	if err != nil {
		return err
	}
	return all.Check(relation, plain)
}

// Check is [CheckFollowed] of what was read.
func (all Followers) Check(relation pg.Relation, plain pg.Column) error {
	at := slices.IndexFunc(all, func(f follower) bool {
		return f.relation == relation.OID && (slices.Contains(f.bound, plain.Attnum) || f.tenant == plain.Name)
	})
	if at < 0 {
		return nil
	}
	f := all[at]
	of := Name{Schema: relation.Schema, Table: relation.Name, Column: f.source}
	why := fmt.Sprintf("cells of %s are bound to column %q, by scheme %d: nobody could open them any more", of, plain.Name, f.number)
	if f.tenant == plain.Name {
		why = fmt.Sprintf("column %q chooses the keys of %s, by scheme %d: its cells would do so from then on, each a tenant of its own", plain.Name, of, f.number)
	}
	return Refuse("column", fmt.Sprintf("%s makes a scheme without that column; rotate to it and retire scheme %d", of.Command("scheme new"), f.number), "%s", why)
}
