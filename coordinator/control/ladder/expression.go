package ladder

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

const followedSQL = `SELECT coalesce((SELECT (e.details OPERATOR(pg_catalog.->>) 'missed')::pg_catalog.int8 FROM cipherfleet.events e JOIN cipherfleet.columns c
  ON c.id OPERATOR(pg_catalog.=) $1 AND e.column_name OPERATOR(pg_catalog.=) c.source
  AND e.table_name OPERATOR(pg_catalog.=) pg_catalog.concat_ws('.', c.schema_name, c.table_name)
 WHERE e.event OPERATOR(pg_catalog.=) 'verified' ORDER BY e.id DESC LIMIT 1), 0)`

// followed is nil if no row can have become undone since the column was verified, where capture makes the values itself:
// it counts the writes of which it could not. No row is read.
func followed(ctx context.Context, q pg.Querier, c ddl.Column) error {
	var then, now int64
	if err := q.QueryRow(ctx, followedSQL, c.ID).Scan(&then); err != nil {
		return fmt.Errorf("read what the last verification had seen: %w", err)
	}
	if err := q.QueryRow(ctx, ddl.Missed(c.ID)).Scan(&now); err != nil {
		return fmt.Errorf("count missed writes: %w", err)
	}
	if now != then {
		return standing.Refuse("column", "mend those rows, or the expression; then cipherfleet backfill, cipherfleet verify, and this again",
			"the expression raised an error in %d writes since the column was verified: their rows are not done", now-then)
	}
	return nil
}

// checkMade refuses to cut a column over that an expression makes, if something of the source would be lost that only its
// owner can say how to keep.
func (g *Gated) checkMade() error {
	alter := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s ", g.Relation.Table().SQL(), pg.Ident(g.Sealed.Name))
	switch {
	case g.Where != nil:
		return standing.Refuse("column", "backfill it with --where true first: then every row gets its cell", "only rows of %s that meet its condition have cells: other rows would lose their value", g.name())
	case g.Expression == nil:
		return g.CheckOrigin()
	case g.DDL().InPlace():
		return standing.Refuse("column", "nothing is left to do: applications read it under its own name", "%s was changed in place", g.name())
	case g.Plain.HasDefault && !g.Sealed.HasDefault:
		return standing.Refuse("column", alter+"SET DEFAULT ...", "%q has a default, which %q would not have in its place", g.Plain.Name, g.Sealed.Name)
	case g.Plain.NotNull && !g.Sealed.NotNull:
		return standing.Refuse("column", alter+"SET NOT NULL (a validated CHECK (... IS NOT NULL) spares the scan under its lock)",
			"%q is NOT NULL, and the expression may make NULL of it: say so of %q first", g.Plain.Name, g.Sealed.Name)
	}
	return nil
}
