package status

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// What EQL knows of a column.
const (
	EQLNotRegistered = "not-registered"
	EQLPending       = "pending"
	EQLEncrypting    = "encrypting"
	EQLActive        = "active"
)

const eqlType = "eql_v2_encrypted" // of a column that EQL encrypts

// eqlState is what EQL's own configuration says: by table and column, as it names them, the furthest state.
type eqlState struct {
	installed bool
	columns   map[[2]string]string
}

// readableEQLSQL asks before, since a refusal would end the transaction: a name is resolved only for who may use its schema.
const readableEQLSQL = `SELECT c.oid IS NOT NULL OR EXISTS (SELECT FROM pg_namespace WHERE nspname = 'eql_v2'),
 coalesce(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), false)
 AND (SELECT count(*) = 2 FROM pg_attribute WHERE attrelid = c.oid AND attname IN ('state', 'data') AND NOT attisdropped)
 FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = 'public' LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'eql_v2_configuration'`

// readEQL reads EQL's configuration, which belongs to its proxy, and leaves it untouched. What does not look as it
// should is passed over: it says nothing about a column then.
func readEQL(ctx context.Context, q pg.Querier) (e eqlState, err error) {
	may := false
	if err := q.QueryRow(ctx, readableEQLSQL).Scan(&e.installed, &may); err != nil {
		return e, fmt.Errorf("look for EQL: %w", err)
	}
	e.columns = map[[2]string]string{}
	if !may {
		return e, nil
	}
	_, err = pg.Collect(ctx, q, `SELECT state::text, data::text FROM public.eql_v2_configuration`, func(row pgx.CollectableRow) (none struct{}, err error) {
		var state, data *string
		if err := row.Scan(&state, &data); err != nil || state == nil || data == nil {
			return none, err
		}
		e.add(*state, []byte(*data))
		return none, nil
	})
	if err != nil {
		return e, fmt.Errorf("read EQL's configuration: %w", err)
	}
	return e, nil
}

// add takes one configuration in: {"tables": {table: {column: …}}}.
func (e *eqlState) add(state string, data []byte) {
	far := map[string]int{EQLPending: 1, EQLEncrypting: 2, EQLActive: 3}
	var config struct {
		Tables map[string]map[string]json.RawMessage `json:"tables"`
	}
	if far[state] == 0 || json.Unmarshal(data, &config) != nil {
		return
	}
	for table, columns := range config.Tables {
		for column := range columns {
			if name := [2]string{table, column}; far[state] > far[e.columns[name]] {
				e.columns[name] = state
			}
		}
	}
}

// of is the state of a column, by whatever name EQL may know it; "" if EQL has nothing to do with it.
func (e *eqlState) of(table pg.Table, columns []string, isEQL bool) string {
	for _, name := range []string{table.Name, table.String()} {
		for _, column := range columns {
			if state := e.columns[[2]string{name, column}]; state != "" && column != "" {
				return state
			}
		}
	}
	if e.installed && isEQL {
		return EQLNotRegistered
	}
	return ""
}
