package standing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Dropped is the detail of a dropped event.
type Dropped struct {
	Attnum  int16 `json:"attnum"`            // that the plaintext had
	Applied bool  `json:"applied,omitempty"` // by cipherfleet itself; else it was found gone
}

// goneSQL finds columns whose plaintext is gone, though the log does not say so yet. The check on the cells marks the
// table for what it is: after a restore another one may bear its number.
const goneSQL = `SELECT c.id, c.relid, c.source_attnum, c.target_attnum, c.schema_name, c.table_name, c.source, c.target
 FROM cipherfleet.columns c
 WHERE c.retired_at IS NULL AND ($1::bigint = 0 OR c.id = $1)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.relid AND a.attnum = c.source_attnum AND NOT a.attisdropped)
  AND EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.relid AND k.contype = 'c' AND k.conkey = ARRAY[c.target_attnum]
   AND k.conname = pg_catalog.concat('cipherfleet_', c.id, '_cell'))
  AND (SELECT e.phase FROM cipherfleet.events e WHERE e.table_name = c.schema_name || '.' || c.table_name AND e.column_name = c.source
   ORDER BY e.id DESC LIMIT 1) = 'cut-over'
 ORDER BY c.id`

// RecordDropped looks which columns that are cut over have lost their plaintext, by whosever hand, and appends their
// dropped events, each in the transaction that saw it gone. It returns those columns; trouble with one does not keep the
// others. It is cheap when there is none, and safe to run several times at once.
func RecordDropped(ctx context.Context, db *pg.DB) ([]lifecycle.Column, error) {
	found, err := goneColumns(ctx, db, 0)
	if err != nil {
		return nil, err
	}
	var recorded []lifecycle.Column
	var trouble error
	for _, c := range found {
		did := false
		err := db.InTx(ctx, func(tx pg.Tx) (err error) {
			did, err = recordDropped(ctx, tx, c)
			return err
		})
		switch {
		case err != nil:
			trouble = errors.Join(trouble, fmt.Errorf("record that %s.%s is dropped: %w", c.Table, c.Source, err))
		case did:
			recorded = append(recorded, c)
		}
	}
	return recorded, trouble
}

func goneColumns(ctx context.Context, q pg.Querier, id uint32) ([]lifecycle.Column, error) {
	columns, err := pg.Collect(ctx, q, goneSQL, func(row pgx.CollectableRow) (c lifecycle.Column, err error) {
		return c, row.Scan(&c.ID, &c.Relid, &c.SourceNum, &c.TargetNum, &c.Table.Schema, &c.Table.Name, &c.Source, &c.Target)
	}, int64(id))
	if err != nil {
		return nil, fmt.Errorf("look for dropped columns: %w", err)
	}
	return columns, nil
}

// recordDropped looks again while nobody else moves the column. A run that is still open must end first: its job is
// about to fail, for the column is gone.
func recordDropped(ctx context.Context, tx pg.Tx, c lifecycle.Column) (bool, error) {
	if _, err := tx.Exec(ctx, `SELECT FROM cipherfleet.columns WHERE id = $1 FOR UPDATE`, c.ID); err != nil {
		return false, fmt.Errorf("hold the column: %w", err)
	}
	again, err := goneColumns(ctx, tx, c.ID)
	if err != nil || len(again) == 0 {
		return false, err
	}
	state, err := lifecycle.Latest(ctx, tx, c.Table.String(), c.Source)
	if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
		return false, err
	}
	if state.Phase != lifecycle.PhaseCutOver || state.Run.State == lifecycle.RunOpen || state.Run.State == lifecycle.RunPaused {
		return false, nil
	}
	if err := RetireMoved(ctx, tx, c); err != nil {
		return false, err
	}
	detail, err := json.Marshal(Dropped{Attnum: c.SourceNum})
	if err != nil {
		return false, err
	}
	_, err = (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: c.Table.String(), Column: c.Source, Kind: lifecycle.KindDropped, Detail: detail})
	return err == nil, err
}

// IsGone says whether the column's plaintext is not there any more, while its table is.
func IsGone(ctx context.Context, q pg.Querier, c lifecycle.Column) (gone bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = $1 AND k.contype = 'c' AND k.conname = $3)
 AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum = $2 AND NOT a.attisdropped)`, c.Relid, c.SourceNum, ddl.CheckName(c.ID)).Scan(&gone)
	if err != nil {
		return false, fmt.Errorf("look whether the column is gone: %w", err)
	}
	return gone, nil
}
