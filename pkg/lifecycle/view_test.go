package lifecycle_test

import (
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestTheViewOfOtherToolsHasRunningSums: cs_migrations has their columns, sums per job, and the log's own order.
func TestTheViewOfOtherToolsHasRunningSums(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	appendAll(t, db, append(ready(), started(jobA, 100), checkpoint(jobA, 40), of(lifecycle.KindError, jobA), checkpoint(jobA, 10), of(lifecycle.KindJobCancelled, jobA), started(jobB, 60))...)
	appendAll(t, db, lifecycle.Event{Table: table, Column: "other", Job: jobB, Kind: lifecycle.KindCheckpoint, Rows: 1000})
	appendAll(t, db, checkpoint(jobB, 5), checkpoint(jobB, 7), backfilled(jobB), reach(lifecycle.KindCutOver, lifecycle.PhaseCutOver))
	got := testenv.Column[string](t, db, `SELECT concat_ws(' ', event, phase, cursor_value, coalesce(rows_processed::text, '-'), coalesce(rows_total::text, '-'))
 FROM cipherfleet.cs_migrations WHERE table_name = $1 AND column_name = $2 ORDER BY id`, table, column)
	want := []string{
		"schema_added schema-added - -", "dual_writing dual-writing - -",
		"backfill_started backfilling - 100", "backfill_checkpoint backfilling c 40 100", "error backfilling 40 100", "backfill_checkpoint backfilling c 50 100", "job_cancelled backfilling 50 100",
		"backfill_started backfilling - 60", "backfill_checkpoint backfilling c 5 60", "backfill_checkpoint backfilling c 12 60", "backfilled backfilled 12 60",
		"cut_over cut-over - -",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the view shows\n%q\nwant\n%q", got, want)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.cs_migrations v JOIN cipherfleet.events e USING (id) WHERE v.created_at = e.created_at`); n != len(want)+1 {
		t.Errorf("%d rows are the log's, want %d", n, len(want)+1)
	}
	types := testenv.Column[string](t, db, `SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'cipherfleet.cs_migrations'::regclass AND attname LIKE 'rows%' ORDER BY attnum`)
	if want := []string{"bigint", "bigint"}; !slices.Equal(types, want) {
		t.Errorf("rows are %v", types)
	}
	columns := testenv.Column[string](t, db, `SELECT attname::text FROM pg_attribute WHERE attrelid = 'cipherfleet.cs_migrations'::regclass AND attnum > 0 ORDER BY attnum`)
	if want := []string{"id", "table_name", "column_name", "event", "phase", "cursor_value", "rows_processed", "rows_total", "details", "created_at"}; !slices.Equal(columns, want) {
		t.Errorf("its columns are %v", columns)
	}
}
