package chaos

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/bus"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// world is everything that one seed runs.
type world struct {
	t            *testing.T
	plan         plan
	dir          string
	postgres     *embedded.Postgres
	db           *testenv.DB  // the test's own, superuser
	outages      atomic.Int64 // odd while Postgres is down
	queue        *queue
	bus          *bus.Bus
	ear          *ear
	kek          cell.KEK
	kekURI       string
	coordinators []*child
	workers      []*child
	app          *application
	operator     *operator
	began        time.Time

	mu      sync.Mutex
	crashes []string // programs that ended although nobody ended them
}

func newWorld(ctx context.Context, t *testing.T, p plan, programs string) *world {
	t.Helper()
	w := &world{t: t, plan: p, dir: t.TempDir(), began: time.Now()}
	w.postgres = testenv.DurablePostgres(t)
	w.db = testenv.Open(t, w.postgres.URL("postgres"))
	w.must(lifecycle.Install(ctx, w.db.DB))
	w.openKey(ctx)
	w.must(w.furnish(ctx))
	w.openNATS(ctx, programs)
	w.openFleet(programs)
	w.app = newApplication(w)
	w.operator = &operator{w: w, r: chance(p.seed, forOperator)}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) openKey(ctx context.Context) {
	w.t.Helper()
	path := filepath.Join(w.dir, "kek.json")
	w.must(kms.CreateFile(path))
	w.kekURI = "file:" + path
	var err error
	w.kek, err = kms.Open(ctx, w.kekURI, "")
	w.must(err)
}

// openNATS starts NATS, and whatever it runs in, and listens to it.
func (w *world) openNATS(ctx context.Context, programs string) {
	w.t.Helper()
	var err error
	w.queue, err = newQueue(w.dir, w.crash)
	w.must(err)
	if w.plan.embedded {
		c := w.add(programs, "coordinator", "cipherfleet", "serve", "--embedded", "--nats-port", strconv.Itoa(w.queue.port))
		w.queue.child, w.coordinators = c, []*child{c}
	}
	w.t.Cleanup(w.queue.kill)
	w.must(w.queue.up(ctx))
	w.ear, err = listenTo(w.queue)
	w.must(err)
	w.t.Cleanup(w.ear.conn.Close)
	w.bus, err = bus.Connect(ctx, bus.Config{URL: w.queue.url(), Name: "chaos", TokenFile: w.queue.tokenFile(), Patience: 30 * time.Second})
	w.must(err)
	w.t.Cleanup(w.bus.Close)
}

// openFleet starts the rest.
func (w *world) openFleet(programs string) {
	w.t.Helper()
	if !w.plan.embedded {
		w.coordinators = append(w.coordinators, w.add(programs, "coordinator", "cipherfleet", "serve"))
	}
	if w.plan.standby {
		w.coordinators = append(w.coordinators, w.add(programs, "standby", "cipherfleet", "serve"))
	}
	for i := range w.plan.workers {
		w.workers = append(w.workers, w.add(programs, fmt.Sprintf("worker%d", i), "cipherfleet-worker"))
	}
	for _, c := range slices.Concat(w.coordinators, w.workers) {
		w.must(c.start())
	}
}

// add makes a program of the fleet, with short leases, so that a seed takes seconds.
func (w *world) add(programs, name string, argv ...string) *child {
	env := w.environment()
	if argv[0] == "cipherfleet-worker" {
		env = append(env, "CIPHERFLEET_WORKER_ID="+name)
	}
	if slices.Contains(argv, "--embedded") {
		env = append(env, "CIPHERFLEET_STATE_DIR="+w.queue.dir)
	} else {
		env = append(env, w.reachNATS()...)
	}
	c := &child{name: name, argv: append([]string{filepath.Join(programs, argv[0])}, argv[1:]...), env: env, log: filepath.Join(w.dir, name+".log"), crash: w.crash}
	w.t.Cleanup(c.kill)
	return c
}

func (w *world) environment() []string {
	return []string{
		"DATABASE_URL=" + w.postgres.URL("postgres"), "CIPHERFLEET_KEK=" + w.kekURI, "HOME=" + w.dir,
		"CIPHERFLEET_LEASE=1s", "CIPHERFLEET_ACK_WAIT=2s", "CIPHERFLEET_RECONCILE=200ms", "CIPHERFLEET_DRAIN=30s", "CIPHERFLEET_SLOTS=" + strconv.Itoa(w.plan.slots),
		"CIPHERFLEET_LISTEN=off", "CIPHERFLEET_WORKER_LISTEN=off", "CIPHERFLEET_LOG_LEVEL=debug",
	}
}

func (w *world) reachNATS() []string {
	return []string{"NATS_URL=" + w.queue.url(), "CIPHERFLEET_NATS_TOKEN_FILE=" + w.queue.tokenFile()}
}

func (w *world) children() []*child {
	all := slices.Concat(w.coordinators, w.workers)
	if !w.plan.embedded {
		all = append(all, w.queue.child)
	}
	return all
}

// crash notes a program that ended by itself. Ending with "unavailable" while it starts is what a service manager is for.
func (w *world) crash(name string, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const unavailable = 6
	if code != unavailable {
		w.crashes = append(w.crashes, fmt.Sprintf("%s with exit code %d after %v", name, code, time.Since(w.began).Round(time.Millisecond)))
	}
}

// run is the course of a seed.
func (w *world) run(ctx context.Context) {
	application, close := context.WithCancel(ctx)
	defer close()
	writing := w.app.start(application)
	w.must(w.operator.begin(ctx))
	w.app.sealed(ctx)
	operating, stop := context.WithCancel(ctx)
	jobs := make(chan error, 1)
	go func() { jobs <- w.operator.keepGoing(operating) }()
	if err := w.blow(ctx); err != nil {
		w.t.Error(err)
	}
	stop()
	if err := <-jobs; err != nil {
		w.t.Error(err)
	}
	close()
	writing.Wait()
	w.note("the application stopped: %v", w.app)
	finishing, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := w.operator.finish(finishing); err != nil {
		w.t.Error(err)
	}
	w.judge(ctx)
}

func (w *world) note(format string, args ...any) {
	w.t.Logf("%6.2fs  %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

const courseSQL = `SELECT format('job %s pass %s range %s: %s, %s attempts, %s rows, %s skipped, %s conflicts, leased until %s, offered %s; %s checkpoints from %s to %s', left(r.job_id::text, 4), r.pass, r.id, r.state,
 r.attempts, r.rows, r.skipped, r.conflicts, to_char(r.lease_until, 'MI:SS.MS'), to_char(r.published_at, 'MI:SS.MS'), count(e.id), to_char(min(e.created_at), 'MI:SS.MS'), to_char(max(e.created_at), 'MI:SS.MS'))
 FROM cipherfleet.ranges r LEFT JOIN cipherfleet.events e ON e.range_id = r.id AND e.column_name = 'secret' GROUP BY r.id ORDER BY r.id`

// tell shows what a person needs who has to find out why a seed failed.
func (w *world) tell() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if rows, err := w.db.Query(ctx, courseSQL); err == nil {
		lines, _ := pgx.CollectRows(rows, pgx.RowTo[string]) // what can be read is told
		w.t.Logf("the ranges:\n%s", strings.Join(lines, "\n"))
	}
	for _, c := range w.children() {
		w.t.Logf("beginning and end of what %s said:\n%s", c.name, c.ends(15))
	}
}

// connect opens a connection of the application.
func (w *world) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(w.postgres.URL("postgres"))
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "application"
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.RuntimeParams["statement_timeout"] = strconv.FormatInt(patience.Milliseconds(), 10)
	return pgx.ConnectConfig(ctx, config)
}
