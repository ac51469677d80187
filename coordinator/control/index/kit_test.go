package index_test

import (
	"os"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/index"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// office is a table of twenty rows, each with its cell, and who makes indexes of them.
type office struct {
	*testenv.Sealed
	t    *testing.T
	r    *index.Registry
	name standing.Name
}

const usersSQL = `CREATE TABLE users (id bigint PRIMARY KEY, email text, note text)`

func open(t *testing.T) *office {
	t.Helper()
	return openWith(t, usersSQL)
}

// openWith is an office whose table is made so.
func openWith(t *testing.T, sql string) *office {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, sql+`; INSERT INTO users SELECT i, 'value ' || i FROM generate_series(1, 20) i`)
	s := testenv.Prepare(t, db, pg.Table{Schema: "public", Name: "users"}, "email")
	return &office{Sealed: s, t: t, r: &index.Registry{DB: db.DB, KEK: s.KEK, Actor: "ada", Reason: "a test"}, name: standing.Name{Schema: "public", Table: "users", Column: "email"}}
}

// backfilled is an office whose column is.
func backfilled(t *testing.T) *office {
	t.Helper()
	o := open(t)
	o.Backfill(t)
	return o
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wanted is what most tests make.
func wanted() index.Wanted { return index.Wanted{Name: "bidx", Bytes: 16, Unique: true, Few: true} }

func (o *office) make(w index.Wanted) {
	o.t.Helper()
	p, err := o.r.PlanNew(o.t.Context(), o.name, w)
	check(o.t, err)
	_, err = o.r.New(o.t.Context(), p)
	check(o.t, err)
}

// token gives every row a token of its own, as a client would send it.
func (o *office) token(column string) {
	o.t.Helper()
	o.Run(o.t, `UPDATE users SET `+pg.Ident(column)+` = '\x01'::bytea || decode(md5(id::text), 'hex')`)
}

func (o *office) planBuild(generation int) index.BuildPlan {
	o.t.Helper()
	p, err := o.r.PlanBuild(o.t.Context(), o.name, "bidx", generation)
	check(o.t, err)
	return p
}

func (o *office) planDrop(generation int) index.DropPlan {
	o.t.Helper()
	p, err := o.r.PlanDrop(o.t.Context(), o.name, "bidx", generation)
	check(o.t, err)
	return p
}

func (o *office) build(generation int) {
	o.t.Helper()
	_, err := o.r.Build(o.t.Context(), o.planBuild(generation), false)
	check(o.t, err)
}

// stands is the state of every index, what is built of it, and whether its column and its key are there.
const standsSQL = `SELECT coalesce(string_agg(format('%s/%s %s, %s, %s, %s', x.name, x.generation, x.state,
  coalesce((SELECT CASE WHEN i.indisvalid THEN 'valid' ELSE 'invalid' END FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = format('cipherfleet_token_%s_index', x.id)), 'no index'),
  CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = 'users'::regclass AND a.attname = x.token) THEN 'tokens' ELSE 'no tokens' END,
  CASE WHEN d.wrapped IS NULL THEN 'no key' ELSE 'key' END), '; ' ORDER BY x.id), '') FROM cipherfleet.blind_indexes x JOIN cipherfleet.deks d ON d.blind_index = x.id`

func (o *office) stands(want string) {
	o.t.Helper()
	if have := testenv.One[string](o.t, o, standsSQL); have != want {
		o.t.Errorf("stands: %s\nwant:   %s", have, want)
	}
}

// all is everything that a verb could change, as one fingerprint.
const allSQL = `SELECT md5(concat((SELECT string_agg(x::text, ',' ORDER BY x.id) FROM cipherfleet.blind_indexes x), (SELECT string_agg(d::text, ',' ORDER BY d.id) FROM cipherfleet.deks d),
 (SELECT string_agg(e::text, ',' ORDER BY e.id) FROM cipherfleet.events e), (SELECT revision FROM cipherfleet.installation),
 (SELECT string_agg(format('%s %s', a.attname, a.attnum), ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = 'users'::regclass), (SELECT string_agg(format('%s %s', t.tgname, t.tgenabled), ',' ORDER BY t.tgname) FROM pg_trigger t),
 (SELECT string_agg(format('%s %s', c.oid, c.relname), ',' ORDER BY c.oid) FROM pg_class c WHERE c.relnamespace IN ('public'::regnamespace, 'cipherfleet'::regnamespace)), (SELECT string_agg(u::text, ',' ORDER BY u.id) FROM users u)))`

// refuses says that a verb is refused, with a hint, and changes nothing.
func (o *office) refuses(what string, verb func() error) {
	o.t.Helper()
	before := testenv.One[string](o.t, o, allSQL)
	err := verb()
	if code, hint := app.Explain(err); code != app.CodeUsage && code != app.CodeRefused || hint == "" {
		o.t.Errorf("%s: exit code %d, %v, hint %q", what, code, err, hint)
	}
	if after := testenv.One[string](o.t, o, allSQL); after != before {
		o.t.Errorf("%s: it was refused (%v), and something was changed", what, err)
	}
}

// lease is that of a program that works with the registry as it is now.
func (o *office) lease() {
	o.t.Helper()
	o.Run(o.t, `INSERT INTO cipherfleet.workers (id, kind, revision, seen_at, expires_at) SELECT 'slow', 'client', revision, now(), now() + interval '1 hour' FROM cipherfleet.installation`)
}
