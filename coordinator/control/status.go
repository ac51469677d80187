package control

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Status is where every registered column stands.
type Status struct {
	V       int            `json:"v"`
	At      time.Time      `json:"at"` // the server's clock
	Columns []ColumnStatus `json:"columns"`
}

// ColumnStatus is one column. Names are today's; those of what is gone are the registered ones.
type ColumnStatus struct {
	ID        uint32          `json:"column_id"`
	Table     string          `json:"table"`
	Column    string          `json:"column"`
	Target    string          `json:"target"`
	Phase     lifecycle.Phase `json:"phase"`
	Reach     *string         `json:"reach"` // the phase that the manifest wants; null: it does not name the column
	Coverage  Coverage        `json:"coverage"`
	Schemes   []SchemeRows    `json:"schemes"`
	EQL       *string         `json:"eql"` // null: the target holds cells of ours
	Indexes   []IndexStatus   `json:"indexes"`
	Missed    *int64          `json:"missed_writes"` // cells that capture has cleared since it was installed; null: not to be read
	PerMinute *float64        `json:"missed_writes_per_minute"`
	Verified  *Verified       `json:"verified"` // null: never, or a job began since
	Flags     []string        `json:"flags"`    // what is not as it was prepared; see the constants
	Job       *JobStatus      `json:"job"`      // the last one over this column
}

// IndexStatus is an index that the manifest wants, and whether its column is there.
type IndexStatus struct {
	Name    string `json:"name"`
	Wanted  bool   `json:"wanted"`
	Present bool   `json:"present"`
}

// Verified is the last time that every row was opened and compared.
type Verified struct {
	At     time.Time `json:"at"`
	Proven bool      `json:"proven"`
}

// JobStatus is how the last job over a column stands, or ended.
type JobStatus struct {
	ID            string          `json:"id"`
	State         string          `json:"state"`
	Rows          int64           `json:"rows"`
	RowsPerSecond float64         `json:"rows_per_second"`
	ETASeconds    *int64          `json:"eta_seconds"` // null: it does not move
	Ranges        messages.Ranges `json:"ranges"`
	Workers       int             `json:"workers"`
	StoppedBy     *string         `json:"stopped_by"`
	TraceID       *string         `json:"trace_id"`
}

// StatusRequest says what of the status is wanted. The zero one is every column, estimated.
type StatusRequest struct {
	Table    string            // name, or schema.name; empty: every table
	Exact    bool              // count every row instead of estimating
	Manifest manifest.Manifest // what is wanted of the columns; may be empty
}

// ReadStatus reads where columns stand, in read-only transactions. It needs no more than SELECT on the tables of schema
// cipherfleet; where the table itself may be read too, a sample of it makes the estimates better. Exact counts need it.
func ReadStatus(ctx context.Context, db *pg.DB, r StatusRequest) (Status, error) {
	s := Status{V: messages.Version, Columns: []ColumnStatus{}}
	var tables []registeredTable
	err := reading(ctx, db, "30s", func(tx pg.Tx) (err error) {
		if err := checkInstalled(ctx, tx); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&s.At); err != nil {
			return err
		}
		tables, err = registeredTables(ctx, tx, r.Table)
		return err
	})
	if err != nil {
		return Status{}, err
	}
	if r.Table != "" && len(tables) == 0 {
		return Status{}, lack("table", "cipherfleet status lists every column; names are taken literally", "no column of a table %q is registered", r.Table)
	}
	for _, t := range tables {
		for _, column := range t.columns {
			look := &look{db: db, request: r, table: t, column: column}
			if err := look.run(ctx); err != nil {
				return Status{}, fmt.Errorf("read the status of %s.%s: %w", t.name, column.Source, err)
			}
			s.Columns = append(s.Columns, look.status)
		}
	}
	return s, nil
}

// reading runs f in a read-only transaction whose statements are given up after a while.
func reading(ctx context.Context, db *pg.DB, timeout string, f func(pg.Tx) error) error {
	return db.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION READ ONLY`); err != nil {
			return err
		}
		const limitsSQL = `SELECT set_config('lock_timeout', '3s', true), set_config('row_security', 'off', true), set_config('statement_timeout', $1, true)`
		if _, err := tx.Exec(ctx, limitsSQL, timeout); err != nil {
			return err
		}
		return f(tx)
	})
}

// registeredTable is a table with registered columns.
type registeredTable struct {
	oid     uint32
	name    pg.Table // today's, or the registered one if the table is gone
	gone    bool
	columns []lifecycle.Column
}

const tablesSQL = `SELECT r.relid, c.oid IS NULL, coalesce(n.nspname::text, ''), coalesce(c.relname::text, '')
  FROM (SELECT DISTINCT relid FROM cipherfleet.columns WHERE retired_at IS NULL) r
  LEFT JOIN pg_catalog.pg_class c ON c.oid = r.relid LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY n.nspname, c.relname, r.relid`

// registeredTables are all of them, or those of one name, today's or registered.
func registeredTables(ctx context.Context, q pg.Querier, name string) ([]registeredTable, error) {
	rows, err := q.Query(ctx, tablesSQL)
	if err != nil {
		return nil, fmt.Errorf("read registered tables: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t registeredTable, err error) {
		return t, row.Scan(&t.oid, &t.gone, &t.name.Schema, &t.name.Name)
	})
	if err != nil {
		return nil, fmt.Errorf("read registered tables: %w", pg.Safe(err))
	}
	var wanted []registeredTable
	for _, t := range all {
		if t.columns, err = lifecycle.Columns(ctx, q, t.oid); err != nil {
			return nil, err
		}
		if t.gone {
			t.name = t.columns[0].Table
		}
		if name == "" || isNamed(t.name, name) || isNamed(t.columns[0].Table, name) {
			wanted = append(wanted, t)
		}
	}
	return wanted, nil
}

func isNamed(t pg.Table, name string) bool { return t.Name == name || t.String() == name }
