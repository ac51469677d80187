package ladder_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

const plainUsers = `CREATE TABLE users (id bigint PRIMARY KEY, email text, note text); INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 20) g`

// cutRefusal is one thing that stands in a cutover's way.
type cutRefusal struct {
	make          string // run when the column is ripe
	event         *lifecycle.Event
	ask           func(*ladder.CutoverRequest)
	code          int // 0: CodeRefused
	message, hint string
}

func because(reason string) func(*ladder.CutoverRequest) {
	return func(r *ladder.CutoverRequest) { r.Reason = reason }
}

func event(e lifecycle.Event) *lifecycle.Event { return &e }

func cutRefusals() map[string]cutRefusal {
	long := strings.Repeat("x", 60)
	return map[string]cutRefusal{
		"not backfilled":    {event: event(lifecycle.Event{Kind: lifecycle.KindAdvanced, Phase: lifecycle.PhaseDualWriting}), message: "is dual-writing, not backfilled", hint: "cipherfleet backfill"},
		"not verified":      {event: event(lifecycle.Event{Kind: lifecycle.KindAdvanced, Phase: lifecycle.PhaseBackfilled}), message: "was not verified since", hint: "cipherfleet verify"},
		"disproved":         {event: event(verified("100", false)), ask: because("who cares"), message: "found cells that are wrong", hint: "cipherfleet verify"},
		"sample disproved":  {event: event(verified("5", false)), ask: because("who cares"), message: "found cells that are wrong", hint: "cipherfleet verify"},
		"soak":              {ask: func(r *ladder.CutoverRequest) { r.Soak = time.Hour }, code: app.CodeWaiting, message: "have been watched for", hint: "wait until"},
		"capture off":       {make: `ALTER TABLE users DISABLE TRIGGER "~cipherfleet_1_update"`, message: "of public.users.email go unnoticed", hint: "cipherfleet backfill"},
		"no check":          {make: `ALTER TABLE users DROP CONSTRAINT cipherfleet_1_cell`, message: "is gone or not validated", hint: "cipherfleet backfill"},
		"no cells":          {make: `ALTER TABLE users DROP email_encrypted CASCADE`, message: "is gone from the table", hint: "cipherfleet status"},
		"name taken":        {make: `ALTER TABLE users ADD email_plaintext text`, message: `has a column "email_plaintext" already`, hint: "by-name"},
		"name too long":     {make: `ALTER TABLE users RENAME email TO ` + long, message: "more than 63 bytes", hint: "by-name"},
		"job":               {make: `INSERT INTO cipherfleet.jobs (relid, spec, state) VALUES ('users'::regclass, '{}', 'running')`, message: "a job over public.users has not ended", hint: "job ls"},
		"unknown column":    {ask: func(r *ladder.CutoverRequest) { r.Column.Column = "phone" }, message: `"phone" of public.users is not registered`, hint: "cipherfleet status"},
		"unknown table":     {ask: func(r *ladder.CutoverRequest) { r.Column.Table = "user" }, message: "user", hint: "did you mean"},
		"view and index":    {make: `CREATE VIEW v AS SELECT email FROM users; CREATE INDEX i ON users (email)`, message: "index public.i; view public.v", hint: "--despite 'public.i'"},
		"index in the soak": {make: `CREATE INDEX i ON users (email)`, ask: func(r *ladder.CutoverRequest) { r.Soak = time.Hour }, message: "index public.i", hint: "--despite 'public.i'"},
		"one acknowledged":  {make: `CREATE VIEW v AS SELECT email FROM users; CREATE INDEX i ON users (email)`, ask: func(r *ladder.CutoverRequest) { r.Despite = []string{"public.i"} }, message: "mean: view public.v", hint: "--despite 'public.v'"},
		"publication":       {make: `CREATE PUBLICATION p FOR TABLE users`, message: "publication p", hint: "--despite 'p'"},
		"by name, a filter": {make: `CREATE PUBLICATION p FOR TABLE users WHERE (email > ''); ALTER TABLE users REPLICA IDENTITY FULL`, ask: func(r *ladder.CutoverRequest) { r.Strategy = standing.StrategyByName }, message: "publication p", hint: "--despite 'p'"},
	}
}

func TestCutoverRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range cutRefusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			db.Run(t, plainUsers)
			r := ripen(t, db, inPublic("users", "email"), "id")
			if test.make != "" {
				db.Run(t, test.make)
			}
			if test.event != nil {
				r.log(t, *test.event)
			}
			if test.code == 0 {
				test.code = app.CodeRefused
			}
			if test.ask == nil {
				test.ask = func(*ladder.CutoverRequest) {}
			}
			r.refusedCut(t, test.code, test.message, test.hint, test.ask)
			if plan, err := r.ladder().PlanCutover(t.Context(), askFor(r, test.ask)); err == nil {
				t.Errorf("a dry run says that it could be done: %+v", plan)
			}
		})
	}
}

func askFor(r ripe, change func(*ladder.CutoverRequest)) ladder.CutoverRequest {
	request := r.request()
	change(&request)
	return request
}

func TestCutoverRefusesADomainThatIsNotNull(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE DOMAIN mail AS text NOT NULL DEFAULT 'a'; CREATE DOMAIN address AS mail; CREATE TABLE users (id bigint PRIMARY KEY, email address)`)
	r := ripen(t, db, inPublic("users", "email"), "id")
	r.refusedCut(t, app.CodeRefused, "domain public.mail, which is NOT NULL", "ALTER DOMAIN public.mail DROP NOT NULL")
	db.Run(t, `ALTER DOMAIN mail DROP NOT NULL`)
	r.cut(t)
	db.Run(t, `INSERT INTO users (id) VALUES (1)`)
	if testenv.One[bool](t, db, `SELECT email_plaintext IS NOT NULL FROM users`) {
		t.Error("the domain's default still writes plaintext")
	}
}

func TestCutoverRefusesWhoDoesNotOwnTheTable(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	name := "stranger_" + testenv.One[string](t, db, `SELECT current_database()::text`)
	db.Run(t, "CREATE ROLE "+pg.Ident(name))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			if _, err := db.Exec(ctx, sql+pg.Ident(name)); err != nil {
				t.Error(err)
			}
		}
	})
	db.Run(t, "GRANT USAGE ON SCHEMA cipherfleet TO "+pg.Ident(name))
	db.Run(t, "GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO "+pg.Ident(name))
	stranger := r
	stranger.DB = testenv.Open(t, db.URL+"&options=-crole%3D"+name)
	before := testenv.Catalog(t, db)
	_, err := stranger.ladder().Cutover(t.Context(), r.request())
	if code, _ := app.Explain(err); code != app.CodeDenied || testenv.Catalog(t, db) != before {
		t.Errorf("exit code %d: %v", code, err)
	}
}

// Less than a full verification needs a reason, which is recorded.
func TestACutoverRestsOnAVerificationOrAReason(t *testing.T) {
	t.Parallel()
	const job = "00000000-0000-0000-0000-000000000001"
	again := []lifecycle.Event{{Kind: lifecycle.KindBackfillStarted, Job: job}, {Kind: lifecycle.KindBackfilled, Job: job}}
	old := verified("100", true)
	old.Detail = []byte(`{"proven": true, "began": "2020-01-01T00:00:00Z"}`)
	for name, test := range map[string]struct {
		events         []lifecycle.Event
		message, proof string
	}{
		"none since":              {again, "was not verified since", standing.ProofNone},
		"begun before backfilled": {append(slices.Clone(again), old), "was not verified since", standing.ProofNone},
		"a sample":                {append(slices.Clone(again), verified("5", true)), "only a sample", standing.ProofSample},
		"a sample beside a proof": {[]lifecycle.Event{verified("5", true)}, "", standing.ProofFull},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			db.Run(t, plainUsers)
			r := ripen(t, db, inPublic("users", "email"), "id")
			r.log(t, test.events...)
			if test.message != "" {
				r.refusedCut(t, app.CodeRefused, test.message, "cipherfleet verify")
			}
			r.cut(t, because("a table of test data"))
			have := testenv.One[string](t, db, `SELECT concat_ws(' ', details ->> 'proof', details ->> 'reason') FROM cipherfleet.events WHERE event = 'cut_over'`)
			if have != test.proof+" a table of test data" {
				t.Errorf("recorded: %q", have)
			}
		})
	}
}

func TestWhatIsAcknowledgedIsRecorded(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	db.Run(t, `CREATE VIEW v AS SELECT email FROM users; CREATE UNIQUE INDEX i ON users (email);
		CREATE FUNCTION f(u users) RETURNS text LANGUAGE sql AS 'SELECT u.email'`)
	result := r.cut(t, func(c *ladder.CutoverRequest) {
		c.Despite = []string{"public.v", "public.i", "public.f(u public.users)"}
	})
	if want := []string{"function public.f(u public.users)", "unique index public.i", "view public.v"}; !slices.Equal(result.Acknowledged, want) {
		t.Errorf("recorded: %q", result.Acknowledged)
	}
}

// A row that is written while the cutover waits for its lock is seen under it: the lock is let go, the fleet asked.
func TestACutoverGivesWayToARowThatIsUncovered(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	leaf := pg.Named{OID: testenv.One[uint32](t, db, `SELECT 'users'::regclass::oid`), Schema: "public", Name: "users"}
	db.Run(t, r.UncoveredIndex(leaf).Do[0]) // building it would wait for the writer
	writer, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Rollback(t.Context()) //nolint:errcheck // after a commit it does nothing
	if _, err := writer.Exec(t.Context(), `UPDATE users SET email = 'new' WHERE id = 3`); err != nil {
		t.Fatal(err)
	}
	var asked []messages.StartRequest
	request := r.request()
	request.Sweep = func(_ context.Context, s messages.StartRequest) error {
		asked = append(asked, s)
		r.seal(t)
		return nil
	}
	ended := make(chan error, 1)
	go func() { _, err := r.ladder().Cutover(t.Context(), request); ended <- err }()
	testenv.Eventually(t, time.Minute, func() error { return waitsForLock(t, db) })
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(asked) != 1 || asked[0].Columns[0] != (messages.ColumnRequest{Source: "email", Target: "email_encrypted"}) || !slices.Equal(asked[0].Key, []string{"id"}) {
		t.Errorf("the fleet was asked %+v", asked)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE (email IS NULL) <> (email_plaintext IS NULL)`); n != 0 {
		t.Errorf("%d rows are uncovered after the cutover", n)
	}
}

func TestACutoverGivesUpWhenNobodySeals(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	r := ripen(t, db, inPublic("users", "email"), "id")
	db.Run(t, `UPDATE users SET email = 'new' WHERE id = 3`)
	asked := 0
	_, err := r.ladder().Cutover(t.Context(), askFor(r, func(c *ladder.CutoverRequest) {
		c.Sweep = func(context.Context, messages.StartRequest) error { asked++; return nil }
	}))
	if code, hint := app.Explain(err); code != app.CodeUnproven || asked < 3 || !strings.Contains(hint, "which applications write without cells") {
		t.Errorf("exit code %d after asking %d times: %v, %s", code, asked, err, hint)
	}
	if r.state(t).Phase != lifecycle.PhaseBackfilled {
		t.Error("it was recorded all the same")
	}
}
