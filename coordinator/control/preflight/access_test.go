package preflight_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// role makes a role with these rights and connects as it.
func role(t *testing.T, db *testenv.DB, name, attributes string, rights ...string) *pg.DB {
	t.Helper()
	name += "_" + testenv.One[string](t, db, `SELECT current_database()::text`)
	db.Run(t, "CREATE ROLE "+pg.Ident(name)+" "+attributes)
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			if _, err := db.Exec(context.WithoutCancel(t.Context()), sql+pg.Ident(name)); err != nil {
				t.Error(err)
			}
		}
	})
	for _, right := range rights {
		db.Run(t, fmt.Sprintf(right, pg.Ident(name)))
	}
	return withSetting(t, db.URL, "role", name).DB
}

// withSetting connects with one setting of the session.
func withSetting(t *testing.T, to, name, value string) *testenv.DB {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return testenv.Open(t, u.String())
}

const (
	schemaUse = `GRANT USAGE ON SCHEMA public TO %s`
	registry  = `GRANT USAGE ON SCHEMA cipherfleet TO %[1]s; GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO %[1]s`
	owns      = `ALTER TABLE t OWNER TO %s`
)

func TestPreflightRefusesWithoutRights(t *testing.T) {
	t.Parallel()
	fleet := `CREATE TABLE t (id int PRIMARY KEY, email text, email_encrypted bytea, other text)`
	for name, test := range map[string]struct {
		rights     []string
		attributes string
		setup      string
		ask        func(*messages.StartRequest)
		want       refusal
	}{
		"no right to the schema": {rights: []string{registry}, want: refusal{field: "table", message: `role "%s" may not use schema "secret"`, hint: "GRANT USAGE ON SCHEMA"},
			setup: `CREATE SCHEMA secret; ALTER TABLE t SET SCHEMA secret`, ask: func(r *messages.StartRequest) { r.Schema = "secret" }},
		"not the owner": {rights: []string{schemaUse, registry, `GRANT ALL ON t TO %s`}, want: refusal{field: "table", message: `role "%s" may not alter public.t`, hint: "as the owner"}},
		"hidden rows": {rights: []string{schemaUse, registry, owns}, setup: `ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY`,
			want: refusal{code: app.CodeRefused, kind: messages.CodeRefused, field: "table", message: `row security hides rows of public.t from role "%s": they would be left as they are`, hint: "BYPASSRLS"}},
		"no right to skip": {rights: []string{schemaUse, registry, owns}, ask: skip, want: refusal{field: "user_triggers",
			message: `skipping triggers needs the right to set session_replication_role, which role "%s" does not have`, hint: "GRANT SET ON PARAMETER"}},
		"an owner without rights": {rights: []string{schemaUse, registry, owns, `REVOKE ALL ON t FROM %s`}, want: refusal{field: "table", message: `role "%s" may not read the row versions (xmin) of public.t`, hint: "GRANT SELECT ON TABLE"}},
		"an owner who may not write": {rights: []string{schemaUse, registry, owns, `REVOKE UPDATE ON t FROM %s`}, want: refusal{field: "columns[0].target",
			message: `role "%s" may not read and write column "email_encrypted" of public.t`, hint: "GRANT SELECT, UPDATE ON TABLE"}},
		"an owner who may read but the source": {rights: []string{schemaUse, registry, owns, `REVOKE SELECT ON t FROM %[1]s; GRANT SELECT (id, xmin, email_encrypted) ON t TO %[1]s`},
			want: refusal{field: "columns[0].source", message: `role "%s" may not read column "email" of public.t`, hint: "GRANT SELECT ON TABLE"}},
		"an owner who may read but the key": {rights: []string{schemaUse, registry, owns, `REVOKE SELECT ON t FROM %[1]s; GRANT SELECT (xmin, email, email_encrypted) ON t TO %[1]s`},
			want: refusal{field: "key", message: `role "%s" may not read key column "id" of public.t`, hint: "GRANT SELECT ON TABLE"}},
		"no right to install": {rights: []string{schemaUse, owns}, setup: `DROP SCHEMA cipherfleet CASCADE`, want: refusal{field: "",
			message: `schema cipherfleet is not installed in database "%[2]s", and role "%[1]s" may not create it`, hint: "cipherfleet install"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			db.Run(t, fleet)
			as := role(t, db, "r", test.attributes, test.rights...)
			if test.setup != "" {
				db.Run(t, test.setup)
			}
			r := ask("public")
			if test.ask != nil {
				test.ask(&r)
			}
			if test.want.code == 0 {
				test.want.code, test.want.kind = app.CodeDenied, messages.CodeDenied
			}
			user, database := testenv.One[string](t, as, `SELECT current_user::text`), testenv.One[string](t, as, `SELECT current_database()::text`)
			test.want.message = strings.NewReplacer("%[1]s", user, "%[2]s", database, "%s", user).Replace(test.want.message)
			if strings.Contains(test.setup, "DROP SCHEMA cipherfleet") {
				refusedUninstalled(t, as, r, test.want)
				return
			}
			refused(t, db.DB, as, r, test.want)
		})
	}
}

// refusedUninstalled is refused where there is no schema cipherfleet to compare.
func refusedUninstalled(t *testing.T, db *pg.DB, r messages.StartRequest, want refusal) {
	t.Helper()
	_, err := preflight.Check(t.Context(), db, r)
	var have *standing.Refusal
	if !errors.As(err, &have) || have.Code != want.code || have.Message != want.message || !strings.Contains(have.Hint, want.hint) {
		t.Errorf("have %+v, want %+v", err, want)
	}
	if testenv.One[bool](t, db, `SELECT to_regnamespace('cipherfleet') IS NOT NULL`) {
		t.Error("schema cipherfleet was made")
	}
}

func TestPreflightOfAnUnreadableRegistryIsDenied(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, users)
	as := role(t, db, "r", "", schemaUse, owns)
	_, err := preflight.Check(t.Context(), as, ask("public"))
	if code, hint := app.Explain(err); code != app.CodeDenied || hint == "" {
		t.Errorf("have %v, exit code %d, hint %q", err, code, hint)
	}
}

func TestPreflightRefusesAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, users)
	name := testenv.One[string](t, db, `SELECT current_database()::text`)
	reader := withSetting(t, db.URL, "default_transaction_read_only", "on")
	refused(t, db.DB, reader.DB, ask("public"), refusal{message: `database "` + name + `" is read-only by default_transaction_read_only`, hint: "off"})
}

func TestPreflightRefusesAStandby(t *testing.T) {
	t.Parallel()
	server := testenv.DurablePostgres(t)
	db := testenv.Open(t, server.URL("postgres"))
	db.Run(t, users)
	db.Run(t, `COPY (SELECT) TO `+pg.Literal(testenv.One[string](t, db, `SHOW data_directory`)+"/standby.signal"))
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := preflight.Check(t.Context(), testenv.Open(t, server.URL("postgres")).DB, ask("public"))
	var have *standing.Refusal
	if !errors.As(err, &have) || have.Message != `database "postgres" is on a standby, where nothing can be written` || have.Code != app.CodeRefused || !strings.Contains(have.Hint, "primary") {
		t.Errorf("have %v", err)
	}
}

func TestPreflightOfOtherEncodings(t *testing.T) {
	t.Parallel()
	admin := testenv.EmptyDatabase(t)
	name := testenv.One[string](t, admin, `SELECT current_database()::text`) + "_latin"
	admin.Run(t, `CREATE DATABASE `+pg.Ident(name)+` TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.WithoutCancel(t.Context()), `DROP DATABASE `+pg.Ident(name)+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(admin.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	db := testenv.Open(t, u.String())
	if err := lifecycle.Install(t.Context(), db.DB); err != nil {
		t.Fatal(err)
	}
	db.Run(t, `CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, email text, n int, b bytea)`)
	hint := "move the data to a UTF8 database"
	refused(t, db.DB, db.DB, ask("public"), refusal{field: "columns[0].source", message: `column "email" is text, and the encoding of database "` + name + `" is LATIN1, not UTF8`, hint: hint})
	r := ask("public")
	columns("n", "b")(&r)
	if _, err := preflight.Check(t.Context(), db.DB, r); err != nil {
		t.Errorf("numbers and bytes: %v", err)
	}
	r.Key = []string{"code"}
	refused(t, db.DB, db.DB, r, refusal{field: "key", message: `column "code" is text, and the encoding of database "` + name + `" is LATIN1, not UTF8`, hint: hint})
}
