package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/worker/runner"
)

// manual is the SQL of docs/operations.md: the blocks below a heading, in their order.
func manual(t *testing.T, heading string) []string {
	t.Helper()
	text := string(must(os.ReadFile("../../docs/operations.md")))
	_, section, found := strings.Cut(text, "\n### "+heading+"\n")
	if !found {
		t.Fatalf("docs/operations.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n#")
	var blocks []string
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}

// staff are the roles of the manual, under names of this test.
type staff struct {
	t     *testing.T
	db    *testenv.DB
	names *strings.Replacer
	at    map[string]string // URL by the manual's name
}

func newStaff(t *testing.T, db *testenv.DB) *staff {
	t.Helper()
	s := &staff{t: t, db: db, at: map[string]string{}}
	var pairs []string
	for _, name := range []string{"table_owner", "fleet_coordinator", "fleet_worker", "fleet_reader", "shop"} {
		as, at := role(t, db, name)
		s.at[name] = at
		pairs = append(pairs, name, pg.Ident(as))
	}
	s.names = strings.NewReplacer(pairs...)
	return s
}

// obey runs SQL with this test's names for the roles.
func (s *staff) obey(sql string) {
	s.t.Helper()
	s.db.Run(s.t, s.names.Replace(sql))
}

// hire runs a worker with the rights of its role until the test ends.
func (s *staff) hire(nats testenv.NATSServer, key string) {
	s.t.Helper()
	config := bus.Config{URL: nats.URL, TokenFile: nats.TokenFile, Name: "worker"}
	queue := must(bus.Connect(s.t.Context(), config))
	work, dismiss := context.WithCancel(context.WithoutCancel(s.t.Context()))
	r := &runner.Runner{DB: testenv.Open(s.t, s.at["fleet_worker"]).DB, Bus: queue, KEK: must(kms.Open(s.t.Context(), "file:"+key, "")),
		Worker: "hired", Build: "test", Slots: 1, Lease: 10 * time.Second,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Tracer: noop.NewTracerProvider().Tracer("")}
	drain, ask := context.WithCancel(work)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(work, drain) }()
	s.t.Cleanup(func() {
		ask()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
		dismiss()
		queue.Close()
	})
}

// TestTheRightsOfTheManualSuffice runs a fleet in which every part has just the rights that docs/operations.md gives it.
func TestTheRightsOfTheManualSuffice(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 2000)
	s := newStaff(t, db)
	s.obey(`ALTER TABLE users OWNER TO table_owner; GRANT USAGE, CREATE ON SCHEMA public TO table_owner; GRANT USAGE ON SCHEMA public TO shop, fleet_coordinator;
GRANT SELECT, INSERT, UPDATE, DELETE ON users TO shop`)
	coordinator, workers, readers := manual(t, "The coordinator"), manual(t, "A worker"), manual(t, "Who only looks")
	s.obey(coordinator[0])

	nats := testenv.NATS(t)
	lead := newShell(t, s.at["fleet_coordinator"]).withKey().inNATS(nats)
	lead.must("install")
	// The column is there before the worker gets its right to it, which a person would grant after --prepare.
	s.obey(`ALTER TABLE users ADD email_encrypted bytea`)
	s.obey(workers[0])
	lead.serve()
	s.hire(nats, lead.path("cipherfleet.kek.json"))
	answers(t, lead)

	if o := lead.must("backfill", "--table", "users", "--column", "email"); !strings.Contains(o.out, "backfilled public.users: 1800 rows") {
		t.Errorf("the fleet said %s", o.out)
	}
	s.write()
	s.obey(coordinator[1]) // no member of the owner any more
	if o := lead.must("backfill", "--table", "users", "--column", "email"); !strings.Contains(o.out, "backfilled public.users: 2 rows") {
		t.Errorf("the fleet said %s", o.out)
	}
	s.obey(readers[0])
	s.look(lead)
	s.fail(lead)
}

// answers waits until the coordinator leads and answers requests.
func answers(t *testing.T, s *shell) {
	t.Helper()
	config := bus.Config{URL: s.env["NATS_URL"], TokenFile: s.env["CIPHERFLEET_NATS_TOKEN_FILE"], Name: "test"}
	queue := must(bus.Connect(t.Context(), config))
	t.Cleanup(queue.Close)
	testenv.Eventually(t, time.Minute, func() error { _, err := queue.Jobs(t.Context()); return err })
}

// write is the application's day: it has no right in schema cipherfleet, and capture does not stand in its way.
func (s *staff) write() {
	s.t.Helper()
	shop := testenv.Open(s.t, s.at["shop"])
	shop.Run(s.t, `INSERT INTO users (id, email) VALUES (5001, 'new@example.org'); UPDATE users SET email = 'other@example.org' WHERE id = 1; DELETE FROM users WHERE id = 2`)
	if missed := testenv.One[int](s.t, shop, `SELECT count(*) FROM users WHERE email IS NOT NULL AND email_encrypted IS NULL`); missed != 2 {
		s.t.Errorf("%d rows are uncovered", missed)
	}
	if _, err := shop.Exec(s.t.Context(), `SELECT FROM cipherfleet.deks`); pg.ClassOf(err) != pg.ClassDenied {
		s.t.Errorf("the application may read wrapped keys: %v", err)
	}
}

// look is what somebody with the rights of a reader sees, without and with the right to the table.
func (s *staff) look(lead *shell) {
	s.t.Helper()
	reader := newShell(s.t, s.at["fleet_reader"]).with("CIPHERFLEET_KEK", "file:"+lead.path("cipherfleet.kek.json"))
	c := reader.column()
	if c.Phase != lifecycle.PhaseBackfilled || c.Coverage.Exact || c.Coverage.Total < 1500 || c.Coverage.Covered != c.Coverage.Total || len(c.Flags) > 0 || *c.Missed != 2 || c.Schemes[0].Number != 1 {
		s.t.Errorf("a reader sees %+v", c)
	}
	reader.run("status", "--exact").refusedWith(s.t, app.CodeDenied, "insufficient privilege", "grant what is missing")
	s.obey(`GRANT USAGE ON SCHEMA public TO fleet_reader; GRANT SELECT ON users TO fleet_reader`)
	if c := reader.column("--exact"); !c.Coverage.Exact || c.Coverage.Total != 2000 || c.Coverage.Covered != 2000 {
		s.t.Errorf("with the right to the table: %+v", c.Coverage)
	}
	reader.must("verify", "--table", "users")
	if _, err := testenv.Open(s.t, s.at["fleet_reader"]).Exec(s.t.Context(), `UPDATE cipherfleet.jobs SET state = 'done'`); pg.ClassOf(err) != pg.ClassDenied {
		s.t.Errorf("a reader may write: %v", err)
	}
}

// fail takes the worker through what it does to a row that cannot be done, and to a job that cannot go on.
func (s *staff) fail(lead *shell) {
	s.t.Helper()
	s.obey(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF new.id = 7 THEN RETURN NULL; END IF; RETURN new; END';
UPDATE users SET email = 'again' || id WHERE id < 10; CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION public.refuse()`)
	o := lead.run("backfill", "--table", "users", "--column", "email", "--user-triggers", "fire", "--json")
	job := parsed[messages.Job](s.t, o.out)
	if o.code != app.CodeUnproven || job.Quarantined != 1 || !strings.Contains(o.err, "1 rows are in quarantine") {
		s.t.Errorf("exit code %d, %+v", o.code, job)
	}
	if c := lead.column(); c.Coverage.Quarantined != 1 || c.Coverage.Uncovered != 1 || *c.Job.StoppedBy != "1 rows are in quarantine" {
		s.t.Errorf("status says %+v, %+v", c.Coverage, c.Job)
	}
	worker := testenv.Open(s.t, s.at["fleet_worker"])
	relation := testenv.One[uint32](s.t, s.db, `SELECT 'users'::regclass::oid`)
	jobs := &work.Jobs{DB: s.db.DB, Log: &lifecycle.Log{}}
	created := must(jobs.Create(s.t.Context(), work.Job{RequestID: "to-fail", Relation: relation, Spec: must(jobs.Load(s.t.Context(), job.ID)).Spec}))
	jobs.DB = worker.DB
	if failed, err := jobs.Fail(s.t.Context(), created.ID, "a test wants it"); err != nil || failed.State != work.Failed {
		s.t.Errorf("the worker may not end a job: %v", err)
	}
	s.refuses(worker)
}

// refuses lists what a worker must not be able to do.
func (s *staff) refuses(worker *testenv.DB) {
	s.t.Helper()
	for _, sql := range []string{
		`UPDATE users SET email = 'x'`, `DELETE FROM users`, `ALTER TABLE users ADD other text`, `ALTER TABLE users DISABLE TRIGGER ALL`,
		`UPDATE cipherfleet.installation SET coordinator_epoch = 0`, `UPDATE cipherfleet.jobs SET spec = '{}'`, `INSERT INTO cipherfleet.columns DEFAULT VALUES`,
		`UPDATE cipherfleet.events SET phase = 'dropped'`, `DELETE FROM cipherfleet.events`, `DELETE FROM cipherfleet.deks`, `UPDATE cipherfleet.schemes SET state = 'destroyed'`,
		`DELETE FROM cipherfleet.quarantine`, `CREATE TABLE public.mine ()`, `DROP TABLE cipherfleet.ranges`,
	} {
		if _, err := worker.Exec(s.t.Context(), sql); pg.ClassOf(err) != pg.ClassDenied {
			s.t.Errorf("a worker may %s: %v", sql, err)
		}
	}
}
