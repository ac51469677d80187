package backfill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Why a row is in quarantine.
const (
	reasonRefused    = "the database refuses the write: SQLSTATE "
	reasonValue      = "the value cannot be transformed"
	reasonDestroyed  = "the key of its cell was destroyed"
	reasonNull       = "it is an encrypted NULL: set it to NULL"
	reasonClosed     = "the value that another system encrypted does not open: it is damaged, or of another key"
	reasonForm       = "the value that another system encrypted is none of the format that is read, or of a form that is not"
	reasonSuppressed = "a trigger suppresses the write"
	reasonCleared    = "a trigger changes the source with every write"
	reasonAltered    = "the column's type, or a trigger, alters the value"
	reasonExposed    = "what the proxy had stored is no payload of this column, or shows its plaintext"
)

// ErrQuarantineFull says that more rows are in quarantine than the job's budget allows: the job must stop.
var ErrQuarantineFull = errors.New("more rows are in quarantine than the budget allows")

const quarantineSQL = `INSERT INTO cipherfleet.quarantine (job_id, column_id, relid, key, key_hash, reason) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (job_id, column_id, relid, key_hash) DO UPDATE SET reason = excluded.reason, at = pg_catalog.now(), resolved_at = NULL`

// overBudgetSQL says whether more rows resist than $2. One whose key was destroyed does not count: somebody wanted that, it
// tells nothing of the other rows, and of a tenant it may be many. Nor does an encrypted NULL: it opens, and there may be
// many. What only waits beside another column counts as that does.
const overBudgetSQL = `SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) $2 FROM (SELECT DISTINCT relid, key FROM cipherfleet.quarantine
 WHERE job_id OPERATOR(pg_catalog.=) $1 AND resolved_at IS NULL AND reason OPERATOR(pg_catalog.<>) ALL (ARRAY['` + reasonDestroyed + `', '` + reasonNull + `', '` + work.ReasonBeside + `']::pg_catalog.text[])) q`

// quarantine sets one row aside, in its own transaction under the claim, so that the range can go on without it. All of its
// columns are: a row is written once, or not at all.
func (w *writer) quarantine(ctx context.Context, r row, reason string) error {
	key, err := w.keyText(ctx, r)
	if err != nil {
		return err
	}
	over := false
	err = w.transact(ctx, func(tx pg.Tx) (keyspace.Key, error) {
		for i, c := range w.shape.Columns {
			reason := reason
			if r.fault > 0 && r.fault != i+1 {
				reason = work.ReasonBeside
			}
			if _, err := tx.Exec(ctx, quarantineSQL, w.claim.Job, c.ID, w.shape.Leaf, []string(key), keyspace.Hash(key), reason); err != nil {
				return nil, err
			}
			if err := w.appendQuarantined(ctx, tx, w.columns[i], key, reason); err != nil {
				return nil, err
			}
		}
		if err := tx.QueryRow(ctx, overBudgetSQL, w.claim.Job, w.budget).Scan(&over); err != nil {
			return nil, err
		}
		return w.advance(ctx, progress{})
	})
	if err != nil {
		return fmt.Errorf("quarantine a row of %s: %w", w.shape.Table, err)
	}
	if over {
		return ErrQuarantineFull
	}
	return nil
}

func (w *writer) appendQuarantined(ctx context.Context, tx pg.Tx, event lifecycle.Event, key keyspace.Key, reason string) error {
	detail, err := json.Marshal(map[string]string{"key_hash": keyspace.Hash(key), "reason": reason})
	if err != nil {
		return err
	}
	event.Kind, event.Phase, event.Detail = lifecycle.KindRowQuarantined, cmp.Or(event.Phase, lifecycle.PhaseBackfilling), detail
	event.Epoch, event.TraceID = w.claim.Epoch, work.TraceID(ctx)
	_, err = w.log.Append(ctx, tx, event)
	return err
}

// keyText asks Postgres for the output form of a key: it is never worked out here.
func (w *writer) keyText(ctx context.Context, r row) (keyspace.Key, error) {
	statement := pg.Statement{SQL: "SELECT "}
	for i, k := range w.shape.Key {
		statement.Add(r.key[i], k.OID, k.Format())
		if i > 0 {
			statement.SQL += ", "
		}
		statement.SQL += fmt.Sprintf("pg_catalog.format('%%s', $%d)", i+1)
	}
	var key keyspace.Key
	statement.Row = func(wire [][]byte) error {
		for _, part := range wire {
			key = append(key, string(part))
		}
		return nil
	}
	if err := w.conn.Read(ctx, pg.Pinned, statement); err != nil {
		return nil, fmt.Errorf("write out a key of %s: %w", w.shape.Table, err)
	}
	return key, nil
}
