package lifecycle_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestLatestOfIsLatestOfEach: also of a column to which nothing has happened, and of a log that cannot be.
func TestLatestOfIsLatestOfEach(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE "T.x" (id int, a text, b text, c text)`)
	db.Run(t, `INSERT INTO cipherfleet.columns (relid, source_attnum, target_attnum, schema_name, table_name, source, target, type)
 SELECT '"T.x"'::regclass, n, n + 10, 'public', 'T.x', 'a''' || n, 't', 'text' FROM generate_series(1, 4) n;
UPDATE cipherfleet.columns SET retired_at = now() WHERE id = 4`)
	const job = `'11111111-1111-1111-1111-111111111111'`
	db.Run(t, `INSERT INTO cipherfleet.events (table_name, column_name, event, phase, job_id, rows_processed, rows_total, cursor_value, skipped) VALUES
 ('public.T.x', 'a''1', 'dual_writing', 'dual-writing', NULL, NULL, NULL, NULL, 0),
 ('public.T.x', 'a''1', 'backfill_started', 'backfilling', `+job+`, NULL, 100, NULL, 0),
 ('public.T.x', 'a''1', 'backfill_checkpoint', 'backfilling', `+job+`, 40, NULL, '4', 0),
 ('public.T.x', 'a''1', 'backfill_checkpoint', 'backfilling', `+job+`, 60, NULL, '9', 0),
 ('public.T.x', 'a''1', 'backfilled', 'backfilled', `+job+`, NULL, NULL, NULL, 0),
 ('public.T.x', 'a''2', 'cut_over', 'cut-over', NULL, NULL, NULL, NULL, 0)`)
	columns, err := lifecycle.Registered(t.Context(), db)
	if err != nil || len(columns) != 3 || columns[0].Table != (pg.Table{Schema: "public", Name: "T.x"}) {
		t.Fatalf("%+v, %v", columns, err)
	}
	all, err := lifecycle.LatestOf(t.Context(), db, columns)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, c := range columns {
		state, err := lifecycle.Latest(t.Context(), db, c.Table.String(), c.Source)
		if have := all[c.ID]; !reflect.DeepEqual(have.State, state) || (err == nil) != (have.Err == nil) {
			t.Errorf("%s: %+v, %v, want %+v, %v", c.Source, have.State, have.Err, state, err)
		}
	}
	if s := all[columns[0].ID].State; s.Phase != lifecycle.PhaseBackfilled || s.Run.Rows != 100 || s.Run.Cursor != "9" {
		t.Errorf("%+v", s)
	}
	if err := all[columns[1].ID].Err; !errors.Is(err, lifecycle.ErrImpossible) {
		t.Errorf("a cutover of nothing: %v", err)
	}
}
