package standing

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Reading runs f in a read-only transaction, on a standby too, whose statements are given up after a while.
func Reading(ctx context.Context, db *pg.DB, timeout string, f func(pg.Tx) error) error {
	return db.InReadTx(ctx, func(tx pg.Tx) error {
		const limitsSQL = `SELECT set_config('lock_timeout', '3s', true), set_config('row_security', 'off', true), set_config('statement_timeout', $1, true),
 set_config('bytea_output', 'hex', true), set_config('quote_all_identifiers', 'off', true), set_config('jit', 'off', true)`
		if _, err := tx.Exec(ctx, limitsSQL, timeout); err != nil {
			return err
		}
		return f(tx)
	})
}

// CheckInstalled refuses a database without schema cipherfleet, or with one that this program is too old for.
func CheckInstalled(ctx context.Context, q pg.Querier) error {
	have, err := lifecycle.Installed(ctx, q)
	if err != nil {
		return err
	}
	known, err := lifecycle.Version()
	if err != nil {
		return err
	}
	switch {
	case have == 0:
		return Refuse("", "cipherfleet install creates it, and so does the first cipherfleet backfill", "schema cipherfleet is not installed in this database")
	case have > known:
		return &lifecycle.NewerError{Installed: have, Known: known}
	}
	return nil
}

// Inspect is [pg.Inspect], where a name that nothing has is a [*Refusal].
func Inspect(ctx context.Context, q pg.Querier, schema, table string) (pg.Relation, error) {
	relation, err := pg.Inspect(ctx, q, schema, table)
	var missing *pg.NotFound
	if errors.As(err, &missing) {
		return relation, Lack("table", nearHint(missing.Near), "%v", missing)
	}
	return relation, err
}

// nearHint says which tables have a name like the one that nothing has.
func nearHint(near []pg.Table) string {
	if len(near) == 0 {
		return "names are taken literally: upper and lower case differ, and the schema is given apart"
	}
	names := make([]string, len(near))
	for i, t := range near {
		names[i] = fmt.Sprintf("table %q in schema %q", t.Name, t.Schema)
	}
	return "did you mean " + strings.Join(names, ", or ") + "?"
}
