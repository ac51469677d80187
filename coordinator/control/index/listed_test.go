package index_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestFewRowsAreFilledFromTheirList: an index that is ready gets one of the rows without a token, with which a job reads
// those alone; without it, or where there are too many of them, it walks the table. It goes with the column.
func TestFewRowsAreFilledFromTheirList(t *testing.T) {
	t.Parallel()
	o := backfilled(t)
	o.make(wanted())
	listed := func(want bool, why string) {
		t.Helper()
		p, err := index.PlanFill(t.Context(), o.DB.DB, messages.StartRequest{V: messages.Version, RequestID: "r", Table: "users", Columns: []messages.ColumnRequest{{Source: "email"}},
			Direction: messages.DirectionIndex, Index: "bidx"})
		check(t, err)
		if p.JobColumn().Index.Listed != want {
			t.Errorf("%s: listed %t", why, !want)
		}
	}
	if _, steps, err := index.Unlisted(t.Context(), o.DB.DB, 1); len(steps) > 0 || err != nil {
		t.Errorf("before it is ready: %v, %v", steps, err)
	}
	o.token("bidx")
	o.build(0)
	listed(false, "there is no list")
	column, steps, err := index.Unlisted(t.Context(), o.DB.DB, 1)
	if len(steps) != 1 || err != nil || column != o.ID {
		t.Fatalf("of column %d: %v, %v", column, steps, err)
	}
	step := steps["cipherfleet_token_1_uncovered"]
	o.Run(t, step.Do[0])
	o.Run(t, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cipherfleet_token_1_uncovered'::regclass`)
	listed(false, "it is half built")
	for _, sql := range append(step.Undo, step.Do...) {
		o.Run(t, sql)
	}
	listed(true, "no row lacks its token")
	if _, steps, err := index.Unlisted(t.Context(), o.DB.DB, 1); len(steps) > 0 || err != nil {
		t.Errorf("once it is there: %v, %v", steps, err)
	}
	o.Run(t, `ALTER TABLE users DISABLE TRIGGER USER; INSERT INTO users (id, email, email_encrypted) SELECT i, 'more', (SELECT email_encrypted FROM users WHERE id = 1) FROM generate_series(100, 60000) i`)
	listed(false, "too many lack theirs")
	o.Run(t, `UPDATE users SET bidx = decode(md5(id::text), 'hex') WHERE id BETWEEN 105 AND 60000; ALTER TABLE users ENABLE TRIGGER USER`)
	o.Run(t, `VACUUM ANALYZE users`)
	listed(true, "five lack theirs")
	tokens := ddl.Token{Index: 1, Table: o.Table, Cell: "email_encrypted", Name: "bidx", Key: []string{"id"}}
	for _, sql := range []string{tokens.Listed(), "SELECT t.id FROM ONLY users t WHERE (" + tokens.Uncovered() + ") ORDER BY t.id LIMIT $1"} {
		sql = strings.ReplaceAll(sql, "$1", "5000")
		if plan := strings.Join(testenv.Column[string](t, o, "EXPLAIN "+sql), "\n"); !strings.Contains(plan, "cipherfleet_token_1_uncovered") {
			t.Errorf("%s\n%s", sql, plan)
		}
	}
	_, err = o.r.Drop(t.Context(), o.planDrop(0), time.Minute)
	check(t, err)
	if n := testenv.One[int](t, o, `SELECT count(*) FROM pg_class WHERE relname LIKE 'cipherfleet\_token\_1%'`); n != 0 {
		t.Errorf("%d are left", n)
	}
}
