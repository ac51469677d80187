package cli

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// Whatever is no expression over the columns of one row is refused, and changes nothing.
func TestWhatIsNoExpressionIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	mails(t, db, 20)
	db.Run(t, `CREATE FUNCTION public.shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'evil' $$;
ALTER TABLE users ADD COLUMN computed text GENERATED ALWAYS AS (plan || 'x') STORED;
CREATE TABLE secrets AS SELECT 'x' AS s; ALTER DATABASE `+testenv.One[string](t, db, `SELECT quote_ident(current_database())`)+` SET search_path = public, pg_catalog`)
	s := newShell(t, db.URL)
	flags := func(more ...string) []string {
		return append([]string{"backfill", "--table", "users", "--column", "plan", "--prepare", "--transform", "expression"}, more...)
	}
	refused := map[string]int{}
	for expression, code := range map[string]int{
		`a); DROP TABLE secrets; --`:                          app.CodeUsage,
		`plan; DROP TABLE secrets`:                            app.CodeUsage,
		`plan) IS NULL), DROP CONSTRAINT x, ADD CHECK ((plan`: app.CodeUsage,
		`E'a' || '\') IS NULL OR (true'`:                      app.CodeUsage,
		`plan /* `:                                            app.CodeUsage,
		`plan, "E-mail"`:                                      app.CodeRefused, // a row is no text
		`SELECT s FROM secrets`:                               app.CodeRefused,
		`(SELECT s FROM public.secrets)`:                      app.CodeRefused,
		`EXISTS (SELECT FROM public.secrets)::text`:           app.CodeRefused,
		`max(plan)`:                                           app.CodeRefused,
		`first_value(plan) OVER ()`:                           app.CodeRefused,
		`regexp_split_to_table(plan, 'x')`:                    app.CodeRefused,
		`shout(plan)`:                                         app.CodeRefused, // without its schema
		`public.shout(nothing)`:                               app.CodeRefused,
		`secrets.s`:                                           app.CodeRefused,
		`users::text`:                                         app.CodeRefused,
		`cipherfleet_row::text`:                               app.CodeUsage,
		`ctid::text`:                                          app.CodeRefused,
		`tableoid::text`:                                      app.CodeUsage,
		`gen_random_uuid()::text`:                             app.CodeRefused,
		`plan || now()`:                                       app.CodeRefused,
		`plan || CURRENT_DATE`:                                app.CodeRefused,
		`plan || random()`:                                    app.CodeRefused,
		`nextval('s')::text`:                                  app.CodeRefused,
		`computed`:                                            app.CodeRefused,
		`plan +`:                                              app.CodeRefused,
		`$1`:                                                  app.CodeRefused,
		`plan::int::nothing`:                                  app.CodeRefused,
		`'x'::int::text`:                                      app.CodeRefused,
	} {
		unchanged(t, db, func() {
			o := s.run(flags("--target", "made", "--type", "text", "--expression", expression)...)
			o.refusedWith(t, code, "columns[0].expression", "")
			refused[expression] = o.code
		})
	}
	unchanged(t, db, func() {
		s.run(flags("--target", "made", "--type", "nothing", "--expression", "plan")...).refusedWith(t, app.CodeRefused, "columns[0].type: it names a type that is not there", "schema before types")
		s.run(flags("--target", "made", "--type", "int DEFAULT 7", "--expression", "plan")...).refusedWith(t, app.CodeUsage, "columns[0].type", "")
		s.run(flags("--target", "made", "--type", "point", "--expression", "plan")...).refusedWith(t, app.CodeRefused, "does not go into the target's", "cast it")
		s.run(flags("--target", "level", "--type", "text", "--expression", "7")...).refusedWith(t, app.CodeRefused, `target "level" has type integer, not text`, "leave the type out")
		s.run(flags("--target", "id", "--expression", "7")...).refusedWith(t, app.CodeRefused, "part of the key", "--key")
		s.run(flags("--expression", "plan")...).refusedWith(t, app.CodeUsage, "columns[0].target", "")
		s.run(flags("--target", "plan", "--expression", "plan")...).refusedWith(t, app.CodeUsage, "columns[0].done: is missing", "")
		s.run(flags("--target", "plan", "--expression", "plan", "--done-version", "nothing", "--done-number", "1")...).refusedWith(t, app.CodeRefused, `"nothing"`, "")
		s.run(flags("--target", "plan", "--expression", "plan", "--done-version", "E-mail", "--done-number", "1")...).refusedWith(t, app.CodeRefused, `column "E-mail" has type text`, "smallint")
		s.run(flags("--target", "plan", "--expression", "plan", "--done-version", "level", "--done-number", "3000000000")...).refusedWith(t, app.CodeUsage, "does not fit", "up to 2147483647")
		s.run(flags("--target", "plan", "--expression", "plan", "--done-when", "(SELECT true)")...).refusedWith(t, app.CodeRefused, "columns[0].done.when", "")
		s.run(flags("--target", "plan", "--expression", "plan", "--done-when", "plan")...).refusedWith(t, app.CodeRefused, "columns[0].done.when", "")
		s.run(flags("--target", "made", "--expression", "plan", "--strict")...).refusedWith(t, app.CodeUsage, "strict", "")
	})
	if !testenv.One[bool](t, db, `SELECT to_regclass('public.secrets') IS NOT NULL`) {
		t.Error("a table was dropped")
	}
	s.must(flags("--target", "made", "--expression", "lower(public.shout(plan))")...) // under a search path on which lower is another
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE made IS DISTINCT FROM pg_catalog.lower(plan)`); n != 0 {
		t.Errorf("%d rows have another value", n)
	}
}
