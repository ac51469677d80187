package status

import (
	"context"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Report is where every registered column stands.
type Report struct {
	V       int       `json:"v"`
	At      time.Time `json:"at"` // the server's clock
	Columns []Column  `json:"columns"`
}

// Column is one column: a registered one, or one that only the manifest names. Table and target have today's names,
// those of what is gone are the registered ones. The column has the name that its plaintext has today, or the one that
// it gave to its cells at a cutover.
type Column struct {
	ID        uint32              `json:"column_id"` // 0: only the manifest names it
	Table     string              `json:"table"`
	Column    string              `json:"column"`
	Target    string              `json:"target"`
	MovesFrom *string             `json:"moves_from"`      // the column whose cells move into this one's; null: none
	Plaintext *string             `json:"plaintext"`       // today's name of the plaintext column where it is another one; null: it is not
	Phase     lifecycle.Phase     `json:"phase"`           // "": nothing has happened yet
	Reach     *string             `json:"reach"`           // the phase that the manifest wants; null: it does not name the column
	Where     *string             `json:"where,omitempty"` // the condition of rows that need a cell, as Postgres prints it; left out: all do
	Coverage  Coverage            `json:"coverage"`
	Schemes   []SchemeRows        `json:"schemes"`
	EQL       *string             `json:"eql"` // null: EQL has nothing to do with it; else not-registered, pending, encrypting or active
	Indexes   []Index             `json:"indexes"`
	Strict    bool                `json:"strict"`        // writes that miss the target fail
	Missed    *int64              `json:"missed_writes"` // cells that capture has cleared since it was installed; null: not to be read
	PerMinute *float64            `json:"missed_writes_per_minute"`
	MissedBy  []standing.MissedBy `json:"missed_by"` // who did, in the last day, the latest first; after a cutover: who wrote the plaintext alone, since then or since a verification that found no cell wrong
	Verified  *Verified           `json:"verified"`  // null: never, or something since took it away
	Flags     []string            `json:"flags"`     // what is not as it was prepared, or not as the manifest wants it; see the constants
	Job       *Job                `json:"job"`       // the last one over this column
}

// Index is an index over a column's cells: one that the manifest wants, or one that is there.
type Index struct {
	Name    string `json:"name"`
	Wanted  bool   `json:"wanted"`
	Present bool   `json:"present"`

	Generation int    `json:"generation,omitempty"` // of a blind index; all that follows is of one
	State      string `json:"state,omitempty"`
	Tokens     string `json:"tokens,omitempty"` // the column of tokens
	Valid      bool   `json:"valid,omitempty"`  // Postgres has the index that lookups use
	Behind     bool   `json:"behind,omitempty"` // rows have been left without a token since it was filled last
	Normalise  string `json:"normalise,omitempty"`
	Bytes      int    `json:"bytes,omitempty"` // of a token
	Unique     bool   `json:"unique,omitempty"`
}

// Verified is the last time that every row was opened and compared.
type Verified struct {
	At        time.Time `json:"at"`
	Proven    bool      `json:"proven"`
	NoneWrong bool      `json:"none_wrong"`                 // no cell was of another value; rows may have been uncovered
	Unproven  []string  `json:"unproven_indexes,omitempty"` // blind indexes with tokens that were wrong, missing or not to be judged
}

// Job is how the last job over a column stands, or ended.
type Job struct {
	ID            string          `json:"id"`
	Kind          string          `json:"kind"` // backfill, rotate, rollback or index
	State         string          `json:"state"`
	Rows          int64           `json:"rows"`
	RowsPerSecond float64         `json:"rows_per_second"`
	ETASeconds    *int64          `json:"eta_seconds"` // null: it does not move
	Ranges        messages.Ranges `json:"ranges"`
	Workers       int             `json:"workers"`
	HandedBack    []string        `json:"handed_back"` // why workers gave ranges back that nobody works on now: classes of errors, or SQLSTATEs
	StoppedBy     *string         `json:"stopped_by"`
	TraceID       *string         `json:"trace_id"`
}

// Request says what of the status is wanted. The zero one is every column, estimated.
type Request struct {
	Table    string            // name, or schema.name; empty: every table
	Exact    bool              // count every row instead of estimating
	Manifest manifest.Manifest // what is wanted of the columns; may be empty
	Read     ReadCondition     // nil: the manifest's conditions are not compared with those of jobs
}

// Read reads where columns stand, in read-only transactions, and with a number of statements that does not grow
// with the tables. It needs no more than SELECT on the tables of schema cipherfleet; where the table itself may be read
// too, a sample of it makes the estimates better. Exact counts need it, and read table after table. A plaintext that is
// seen gone after its cutover is recorded as dropped, by whoever may.
func Read(ctx context.Context, db *pg.DB, r Request) (Report, error) {
	v, err := ReadSurvey(ctx, db, r.Manifest, r.Table, true)
	if err != nil {
		return Report{}, err
	}
	looks := v.Looks()
	if r.Table != "" && len(looks) == 0 {
		return Report{}, standing.Lack("table", "cipherfleet status lists every column; names are taken literally", "no column of a table %q is registered", r.Table)
	}
	if err := Cover(ctx, db, looks, Covering{Exact: r.Exact, Read: r.Read}); err != nil {
		return Report{}, err
	}
	s := Report{V: messages.Version, At: v.At, Columns: []Column{}}
	for _, l := range looks {
		l.SetFlags()
		s.Columns = append(s.Columns, l.Status)
	}
	return s, nil
}

// ReadSurvey takes a survey, and a second one if the first shows that the log is behind what can be seen.
func ReadSurvey(ctx context.Context, db *pg.DB, m manifest.Manifest, only string, installed bool) (*Survey, error) {
	take := func() (v *Survey, mayRecord bool, err error) {
		err = standing.Reading(ctx, db, "30s", func(tx pg.Tx) (err error) {
			if installed {
				if err := standing.CheckInstalled(ctx, tx); err != nil {
					return err
				}
			}
			if v, err = TakeSurvey(ctx, tx, m, only); err != nil || !v.behind() {
				return err
			}
			return tx.QueryRow(ctx, mayRecordSQL).Scan(&mayRecord)
		})
		return v, mayRecord, err
	}
	v, mayRecord, err := take()
	if err != nil || !mayRecord {
		return v, err
	}
	if recorded, err := standing.RecordDropped(ctx, db); err != nil || len(recorded) == 0 {
		return v, err
	}
	v, _, err = take()
	return v, err
}

// mayRecordSQL asks before, for status has to work for those who may only read, and on a standby.
const mayRecordSQL = `SELECT has_table_privilege('cipherfleet.events', 'INSERT') AND has_table_privilege('cipherfleet.columns', 'UPDATE')
 AND has_table_privilege('cipherfleet.schemes', 'UPDATE') AND has_table_privilege('cipherfleet.installation', 'UPDATE')
 AND NOT pg_is_in_recovery() AND NOT current_setting('default_transaction_read_only')::bool`

// behind says that a column is cut over by the log, and its plaintext is gone.
func (v *Survey) behind() bool {
	return slices.ContainsFunc(v.Columns, func(c lifecycle.Column) bool {
		relation, there := v.Relations[c.Relid]
		return there && v.States[c.ID].State.Phase == lifecycle.PhaseCutOver && relation.ColumnAt(c.SourceNum).Attnum == 0
	})
}
