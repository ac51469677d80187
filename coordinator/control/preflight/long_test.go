package preflight_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// The check of short cells looks at all of them, that of others at their beginning. What is not known is taken for long.
func TestPreflightKnowsWhichCellsMayBeLong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		setup string
		long  bool
	}{
		"never analysed":     {users, true},
		"empty":              {users + `; ANALYZE t`, true},
		"short":              {users + `; INSERT INTO t SELECT g, 'ada@example.org' FROM generate_series(1, 100) g; ANALYZE t`, false},
		"long":               {users + `; INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 100) g; ANALYZE t`, true},
		"nothing but NULL":   {users + `; INSERT INTO t SELECT g FROM generate_series(1, 100) g; ANALYZE t`, true},
		"another's width":    {`CREATE TABLE t (id bigint PRIMARY KEY, email text, note text); INSERT INTO t SELECT g, repeat('x', 1000), 'n' FROM generate_series(1, 100) g; ANALYZE t`, true},
		"bounded by type":    {`CREATE TABLE t (id bigint PRIMARY KEY, email uuid)`, false},
		"partitioned, short": {`CREATE TABLE t (id bigint PRIMARY KEY, email text) PARTITION BY HASH (id); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO t SELECT g, 'ada' FROM generate_series(1, 100) g; ANALYZE t`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			db.Run(t, test.setup)
			plan := planned(t, db, ask("public"))
			steps := plan.Columns[0].Steps(plan, 7)
			if steps.Long != test.long {
				t.Errorf("long = %t", steps.Long)
			}
		})
	}
}

// Capture is told the types of what it compares; a target that is to be added has one too.
func TestPreflightTellsCaptureTheTypes(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE t (id bigint PRIMARY KEY, email text, there bytea, words text)`)
	r := ask("public")
	for target, want := range map[string]uint32{"": pgtype.ByteaOID, "there": pgtype.ByteaOID, "words": pgtype.TextOID} {
		r.Columns[0].Target = target
		plan := planned(t, db, r)
		steps := plan.Columns[0].Steps(plan, 7)
		if steps.Types[steps.Target] != want || steps.Types["email"] != pgtype.TextOID || steps.Types["id"] != pgtype.Int8OID {
			t.Errorf("target %q: %v", target, steps.Types)
		}
	}
	r.Columns[0].Target, r.Columns[0].Type = "", cell.FormJSON.String()
	plan := planned(t, db, r)
	if steps := plan.Columns[0].Steps(plan, 7); steps.Types[steps.Target] != 0 || steps.Form == cell.FormBytes || steps.Payload != ddl.PayloadCell {
		t.Errorf("a target that is to be jsonb: %v", steps.Types)
	}
}
