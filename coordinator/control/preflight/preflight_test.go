package preflight_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// refusal is one bad request: what the schema holds, what is asked, and what comes back.
type refusal struct {
	setup   string // run with the schema on the search path
	ask     func(r *messages.StartRequest)
	code    int // 0: CodeRefused
	kind    string
	field   string
	message string // %s stands for the schema
	hint    string // part of it
}

const (
	users   = `CREATE TABLE t (id bigint PRIMARY KEY, email text)`
	nothing = `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'`
)

func ask(schema string) messages.StartRequest {
	return messages.StartRequest{Schema: schema, Table: "t", Columns: []messages.ColumnRequest{{Source: "email"}}, Prepare: true}
}

func table(name string) func(*messages.StartRequest) {
	return func(r *messages.StartRequest) { r.Table = name }
}

func key(columns ...string) func(*messages.StartRequest) {
	return func(r *messages.StartRequest) { r.Key = columns }
}

func columns(pairs ...string) func(*messages.StartRequest) {
	return func(r *messages.StartRequest) {
		r.Columns = nil
		for _, pair := range pairs {
			source, target, _ := strings.Cut(pair, ">")
			r.Columns = append(r.Columns, messages.ColumnRequest{Source: source, Target: target})
		}
	}
}

func unprepared(r *messages.StartRequest) { r.Prepare = false }

func skip(r *messages.StartRequest) { r.UserTriggers = messages.TriggersSkip }

// inSchema runs statements with the schema first on the search path.
func inSchema(t *testing.T, db *testenv.DB, schema, statements string) {
	t.Helper()
	err := db.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SET LOCAL search_path = "+pg.Ident(schema)); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), statements)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// refused asks and compares the refusal; nothing may have changed.
func refused(t *testing.T, admin, db *pg.DB, r messages.StartRequest, want refusal) {
	t.Helper()
	before := testenv.Catalog(t, admin)
	_, err := preflight.Check(t.Context(), db, r)
	if after := testenv.Catalog(t, admin); after != before {
		t.Error("the catalog changed")
	}
	var have *standing.Refusal
	if !errors.As(err, &have) {
		t.Fatalf("have %v, want a refusal", err)
	}
	if want.code == 0 {
		want.code = app.CodeRefused
	}
	if want.kind == "" {
		want.kind = messages.CodeRefused
	}
	if have.Code != want.code || have.Kind != want.kind || have.Field != want.field || have.Message != want.message || !strings.Contains(have.Hint, want.hint) || have.Hint == "" {
		t.Errorf("have %+v\nwant %+v", *have, want)
	}
	if code, hint := app.Explain(fmt.Errorf("start a job: %w", err)); code != want.code || hint != have.Hint {
		t.Errorf("explained as exit code %d, hint %q", code, hint)
	}
}

func TestPreflightRefuses(t *testing.T) {
	t.Parallel()
	for group, cases := range map[string]map[string]refusal{"table": tableRefusals(), "key": keyRefusals(), "column": columnRefusals()} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			n := 0
			for name, test := range cases {
				n++
				schema := fmt.Sprintf("s%d", n)
				db.Run(t, "CREATE SCHEMA "+schema)
				t.Run(name, func(t *testing.T) {
					inSchema(t, db, schema, test.setup)
					r := ask(schema)
					if test.ask != nil {
						test.ask(&r)
					}
					if strings.Contains(test.message, "%[1]s") || strings.Contains(test.message, "%s") {
						test.message = fmt.Sprintf(test.message, schema)
					}
					refused(t, db.DB, db.DB, r, test)
				})
			}
		})
	}
}

func TestPreflightRefusesATemporaryTable(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `CREATE TEMPORARY TABLE t (id int PRIMARY KEY, email text)`); err != nil {
		t.Fatal(err)
	}
	schema := testenv.One[string](t, conn, `SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 't' AND relpersistence = 't'`)
	refused(t, db.DB, db.DB, ask(schema), refusal{field: "table", message: schema + ".t is temporary: what is committed there may be lost", hint: "SET LOGGED"})
}
