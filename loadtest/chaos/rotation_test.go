package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// rotation is a world whose column gets another scheme.
type rotation struct {
	*world
	programs  string
	r         *rand.Rand
	phase     lifecycle.Phase
	plain     string // the column of the plaintext; empty: it is gone
	cells     string
	customers []*child
	killed    int // the customer that will be
	deaf      int // the customer that hears no notification
	column    uint32
	stale     *lifecycle.Keys // as they were before the rotation
	searched  bool            // the column has a blind index, or gets one
	bound     bool            // rows have a firm, which their cells come to be bound to
	firms     map[int64]int32 // by row, when all is over
	blanks    bool            // some values are NULL, and some are empty
}

// TestARotationWithoutRestart: customers who notice at different paces go on reading and writing while the column moves to
// another scheme, one of them and a worker are killed and the coordinator is restarted. No read fails, no write is
// lost, and Postgres proves that nothing of the old scheme is left. One who slept through all of it can then write
// nothing old. Meanwhile the column gets a blind index, which is built before the rotation or behind it, by a worker that is
// killed in the middle of that, too. Nobody ever finds a row by a value that it has not, and in the end each row is
// found by the one that it has.
func TestARotationWithoutRestart(t *testing.T) {
	t.Parallel()
	withCustomers(t, (*rotation).rotate, lifecycle.PhaseBackfilled, lifecycle.PhaseCutOver, lifecycle.PhaseDropped)
}

// withCustomers lets each seed have a world of its own, whose column begins in one of these phases, and runs a course in it.
func withCustomers(t *testing.T, course func(*rotation, context.Context), phases ...lifecycle.Phase) {
	t.Helper()
	programs, name := testenv.Programs(t), t.Name()
	for _, seed := range chosen() {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), seedTime)
			defer cancel()
			w := newRotation(ctx, t, seed, programs, phases[seed%uint64(len(phases))])
			t.Cleanup(func() {
				if t.Failed() || *tell {
					w.tell()
					for _, c := range w.customers {
						t.Logf("beginning and end of what %s said:\n%s", c.name, c.ends(5))
					}
				}
				if t.Failed() {
					t.Logf("to run it again: go test ./loadtest/chaos -run %s -seed %d -v", name, seed)
				}
			})
			course(w, ctx)
		})
	}
}

const (
	sleeper  = customers - 1 // it is stopped before the rotation, and wakes when the old scheme is retired
	founders = 1000          // rows of the beginning
)

func newRotation(ctx context.Context, t *testing.T, seed uint64, programs string, phase lifecycle.Phase) *rotation {
	t.Helper()
	w := &rotation{
		world:    &world{t: t, plan: plan{seed: seed, workers: 2, slots: 2}, dir: t.TempDir(), began: time.Now()},
		programs: programs, r: chance(seed, forStorm), plain: "email", cells: "email_encrypted",
		phase: phase,
	}
	w.killed, w.deaf = int(seed%2), int((seed/2+seed/6+1)%sleeper) // so that who polls every ten seconds alone is deaf in each phase
	t.Logf("seed %d: a column that is %s; customer %d is deaf, %d will be killed", seed, w.phase, w.deaf, w.killed)
	w.postgres = testenv.DurablePostgres(t)
	w.db = testenv.Open(t, w.postgres.URL("postgres"))
	w.must(lifecycle.Install(ctx, w.db.DB))
	w.openKey(ctx)
	w.db.Run(t, "CREATE SCHEMA chaos; CREATE TABLE people (id bigint PRIMARY KEY, email text); "+recordSQL)
	rows := make([][]any, founders)
	for i := range rows {
		rows[i] = []any{i + 1, portrait(seed, int64(i+1), 0)}
	}
	conn, err := w.connect(ctx)
	w.must(err)
	defer conn.Close(ctx)
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"people"}, []string{"id", "email"}, pgx.CopyFromRows(rows))
	w.must(err)
	w.openNATS(ctx, programs)
	w.openFleet(programs)
	return w
}

// failure is a command that ended with an exit code that no patience mends.
type failure struct {
	code int
	said string
}

func (f *failure) Error() string { return f.said }

// command runs a command of the operator's until what it asks is there to answer, and ready.
func (w *rotation) command(ctx context.Context, args ...string) error {
	const waiting, away = 3, 6
	var failed *failure
	err := eventually(ctx, func() error {
		cmd := exec.CommandContext(ctx, filepath.Join(w.programs, "cipherfleet"), args...)
		cmd.Env, cmd.Dir = append(w.environment(), w.reachNATS()...), w.dir
		said, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			return err
		}
		code := cmd.ProcessState.ExitCode()
		switch code {
		case waiting, away:
			rest(ctx, 200*time.Millisecond)
			return err
		case 0:
			w.note("cipherfleet %s: done", strings.Join(args, " "))
			return nil
		}
		failed = &failure{code, fmt.Sprintf("cipherfleet %v: exit code %d\n%s", args, code, said)}
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// answers waits for a coordinator. Without one, a command would not notice: the ear takes its request as well.
func (w *rotation) answers(ctx context.Context) error {
	return eventually(ctx, func() error {
		once, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		_, err := w.bus.Jobs(once)
		return err
	})
}

// rotate is the course of a seed.
func (w *rotation) rotate(ctx context.Context) {
	w.prepare(ctx)
	w.searched = true
	w.openCustomers()
	everybody := []int{0, 1, 2, sleeper}
	w.goesOn(everybody...)
	w.watch()
	w.must(w.command(ctx, "index", "new", "people.email", emailIndex, "--unique"))
	before := w.r.IntN(2) == 0
	if before {
		w.index(ctx)
	}
	var err error
	w.stale, err = lifecycle.LoadKeys(ctx, w.db.DB, w.kek)
	w.must(err)
	w.sleep()
	w.must(w.command(ctx, "scheme", "new", "people.email"))
	rotated := make(chan error, 1)
	rotating, stop := context.WithCancel(ctx)
	var operating sync.WaitGroup
	defer operating.Wait()
	defer stop()
	operating.Go(func() {
		rotated <- w.command(rotating, "rotate", "people.email", "--to", "2", "--chunk-rows", "50", "--user-triggers", "fire")
	})
	w.strike(ctx)
	w.must(<-rotated)
	w.retire(ctx)
	awake := []int{1 - w.killed, 2}
	w.goesOn(awake...)
	w.nothingOldGetsIn(ctx)
	w.wake(ctx)
	if !before {
		w.index(ctx)
	}
	w.goesOn(append(awake, sleeper)...)
	w.leave(ctx)
	w.everyValueIsAsRecorded(ctx)
	w.everyRowIsFound(ctx)
	w.theOldSchemeIsGone()
	w.fleetEndsInOrder(ctx)
	w.nothingLeaked()
}

// prepare brings the column to the phase of the seed.
func (w *rotation) prepare(ctx context.Context) {
	w.t.Helper()
	w.must(w.answers(ctx))
	w.must(w.command(ctx, "backfill", "--table", "people", "--column", "email", "--prepare"))
	if w.phase != lifecycle.PhaseBackfilled {
		w.must(w.command(ctx, "cutover", "people.email", "--soak", "0", "--reason", "a test"))
		w.plain, w.cells = "email_plaintext", "email"
	}
	if w.phase == lifecycle.PhaseDropped {
		w.must(w.command(ctx, "drop", "people.email", "--apply"))
		w.plain = ""
	}
	w.column = testenv.One[uint32](w.t, w.db, `SELECT id FROM cipherfleet.columns`)
}

func (w *rotation) openCustomers() {
	w.t.Helper()
	program, err := os.Executable()
	w.must(err)
	for i, poll := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second, 500 * time.Millisecond} {
		c := customer{Seed: w.plan.seed, Number: i, Name: fmt.Sprintf("customer%d", i), URL: w.postgres.URL("postgres"), KEK: w.kekURI,
			Poll: poll, Lease: max(3*poll, 3*time.Second), Migrate: float64(20 * (i % 2)), Rows: founders, Cells: w.cells, Search: w.searched, Bound: w.bound, Nulls: w.blanks}
		content, err := json.Marshal(c)
		w.must(err)
		file := filepath.Join(w.dir, c.Name+".json")
		w.must(os.WriteFile(file, content, 0o600))
		child := &child{name: c.Name, argv: []string{program, "-customer", file}, log: filepath.Join(w.dir, c.Name+".log"), crash: w.crash}
		w.t.Cleanup(child.kill)
		w.must(child.start())
		w.customers = append(w.customers, child)
	}
	w.deafen()
}

const deafenSQL = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN %' AND state = 'idle'`

// deafen cuts one customer off from notifications until the test ends: it has to poll.
func (w *rotation) deafen() {
	ctx, stop := context.WithCancel(w.t.Context())
	var deaf sync.WaitGroup
	deaf.Go(func() {
		for rest(ctx, 30*time.Millisecond) {
			_, _ = w.db.Exec(ctx, deafenSQL, w.customers[w.deaf].name) // the next one does it
		}
	})
	w.t.Cleanup(func() { stop(); deaf.Wait() })
}

// goesOn waits until each of these customers has had writes acknowledged and rows read from now on.
func (w *rotation) goesOn(numbers ...int) {
	w.t.Helper()
	began := testenv.One[time.Time](w.t, w.db, `SELECT clock_timestamp()`)
	testenv.Eventually(w.t, time.Minute, func() error {
		if err := w.crashed(); err != nil {
			return err
		}
		for _, n := range numbers {
			for _, act := range []string{acked, looked} {
				if have := testenv.One[int](w.t, w.db, `SELECT count(*) FROM chaos.record WHERE customer = $1 AND act = $2 AND at > $3`, n, act, began); have < 5 {
					return fmt.Errorf("customer %d: %d %s", n, have, act)
				}
			}
		}
		return nil
	})
}

func (w *rotation) crashed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.crashes) > 0 {
		w.t.Fatalf("ended by itself: %v", w.crashes)
	}
	return nil
}

// The test's own triggers: one slows the rotation down, so that there is a middle; the other notes who could not read
// a scheme when it became active, or might still write an older one when that was retired.
const watchSQL = `CREATE FUNCTION chaos.brake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(CASE WHEN %[1]t AND current_setting('cipherfleet.writer', true) = 'fleet' THEN 0.0003 ELSE 0.002 END);
  RETURN new;
END $$;
CREATE TRIGGER brake BEFORE UPDATE ON people FOR EACH ROW WHEN (current_setting('cipherfleet.writer', true) IN ('fleet', 'rotation')) EXECUTE FUNCTION chaos.brake();
CREATE TABLE chaos.early (what text NOT NULL, who text NOT NULL);
CREATE FUNCTION chaos.note_early() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.early SELECT new.number || ' becomes ' || new.state, w.id FROM cipherfleet.workers w WHERE w.expires_at > clock_timestamp()
   AND w.revision < CASE new.state WHEN 'active' THEN new.revision ELSE (SELECT max(s.activated) FROM cipherfleet.schemes s WHERE s.state = 'active') END;
  RETURN NULL;
END $$;
CREATE TRIGGER early AFTER UPDATE ON cipherfleet.schemes FOR EACH ROW WHEN (new.state IN ('active', 'retired') AND old.state <> new.state) EXECUTE FUNCTION chaos.note_early()`

func (w *rotation) watch() {
	w.t.Helper()
	w.db.Run(w.t, fmt.Sprintf(watchSQL, w.searched)) // tokens are written by the fleet, in chunks that are smaller
}

const atWorkSQL = `SELECT coalesce((SELECT r.worker FROM cipherfleet.ranges r JOIN cipherfleet.events e ON e.range_id = r.id AND e.event = 'backfill_checkpoint'
 WHERE r.state = 'pending' AND r.lease_until > clock_timestamp() AND r.job_id = (SELECT id FROM cipherfleet.jobs ORDER BY created_at DESC LIMIT 1) GROUP BY r.id HAVING count(*) >= 3 LIMIT 1), '')`

// atWork waits until a worker is in the middle of a range of the newest job, and until the query says that it is the right one.
func (w *rotation) atWork(right string) *child {
	w.t.Helper()
	name := ""
	testenv.Eventually(w.t, time.Minute, func() error {
		if !testenv.One[bool](w.t, w.db, right) {
			return fmt.Errorf("not yet: %s", right)
		}
		if name = testenv.One[string](w.t, w.db, atWorkSQL); name == "" {
			return errors.New("nobody is in the middle of a range")
		}
		return nil
	})
	return w.workers[slices.IndexFunc(w.workers, func(c *child) bool { return c.name == name })]
}

// strike kills the worker that is in the middle of it, and a customer, and restarts the coordinator.
func (w *rotation) strike(ctx context.Context) {
	w.t.Helper()
	struck := w.atWork(`SELECT count(*) > 0 FROM cipherfleet.schemes WHERE state = 'active' AND number = 2`)
	struck.kill()
	w.customers[w.killed].kill()
	left := testenv.One[int](w.t, w.db, w.ofScheme(1))
	w.note("%s and %s are killed, with %d cells of the old scheme left", struck.name, w.customers[w.killed].name, left)
	if left == 0 {
		w.t.Error("it was too late to strike")
	}
	if w.r.IntN(2) == 0 {
		w.coordinators[0].kill()
	} else if code, err := w.coordinators[0].drain(ctx); code != 0 || err != nil {
		w.t.Errorf("the coordinator ended with %d, %v", code, err)
	}
	rest(ctx, between(w.r, 0, 500*time.Millisecond))
	w.must(w.coordinators[0].start())
	rest(ctx, between(w.r, 0, 500*time.Millisecond))
	w.must(struck.start())
}

// ofScheme counts cells of a scheme by what they say themselves.
func (w *rotation) ofScheme(number int) string {
	return fmt.Sprintf(`SELECT count(*) FROM people WHERE substr(%s, 7, 2) = '\x%04x'`, w.cells, number)
}

// retire takes the old scheme away. What was sealed with it by those who noticed last is rotated once more.
func (w *rotation) retire(ctx context.Context) {
	w.t.Helper()
	const unproven = 5
	for {
		err := w.command(ctx, "scheme", "retire", "people.email", "1")
		var failed *failure
		if !errors.As(err, &failed) || failed.code != unproven {
			w.must(err)
			return
		}
		w.must(w.command(ctx, "rotate", "people.email", "--to", "2"))
	}
}

// nothingOldGetsIn: who still has the old key writes nothing with it.
func (w *rotation) nothingOldGetsIn(ctx context.Context) {
	w.t.Helper()
	row := int64(w.killed + customers) // nobody writes it any more
	old, err := w.stale.Keyring.Seal(nil, w.stale.Active[w.column], cell.Address{Column: w.column, Key: address([]any{row})}, []byte("old"))
	w.must(err)
	fence := fmt.Sprintf("cipherfleet_%d_schemes", w.column)
	const snapshotSQL = `SELECT md5(string_agg((to_jsonb(p) - '` + emailIndex + `')::text, ',' ORDER BY id)) FROM people p WHERE id IN ($1, $2)` // the fleet may add a token
	before := testenv.One[string](w.t, w.db, snapshotSQL, row, -row)
	update, insert := "UPDATE people SET "+w.cells+" = $1 WHERE id = $2", "INSERT INTO people ("+w.cells+", id) VALUES ($1, -$2::bigint)"
	for writer, statements := range map[string][]string{"client": {update, insert}, "": {update}, "fleet": {update}, "rotation": {update}} {
		for _, sql := range statements {
			err := w.db.InTx(ctx, func(tx pg.Tx) error {
				if _, err := tx.Exec(ctx, `SELECT set_config('cipherfleet.writer', $1, true)`, writer); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, sql, old, row)
				return err
			})
			var refusal *pg.Error
			if !errors.As(err, &refusal) || refusal.Code != "23514" || refusal.Constraint != fence {
				w.t.Errorf("as %q: %s: %v", writer, sql, err)
			}
		}
	}
	if after := testenv.One[string](w.t, w.db, snapshotSQL, row, -row); after != before {
		w.t.Error("the fence let something be changed")
	}
}

// sleep stops the sleeper, between two statements and in no transaction: that would keep everybody from altering the table.
func (w *rotation) sleep() {
	w.t.Helper()
	c := w.customers[sleeper]
	testenv.Eventually(w.t, time.Minute, func() error {
		c.send(syscall.SIGSTOP)
		if n := testenv.One[int](w.t, w.db, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state <> 'idle'`, c.name); n > 0 {
			c.send(syscall.SIGCONT)
			return fmt.Errorf("%s is in the middle of something", c.name)
		}
		return nil
	})
}

// wake lets the sleeper go on, who has slept since before the rotation. While it cannot renew its lease it reads,
// and writes nothing.
func (w *rotation) wake(ctx context.Context) {
	w.t.Helper()
	w.must(w.db.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT FROM cipherfleet.workers WHERE id LIKE $1 FOR UPDATE`, w.customers[sleeper].name+"-%"); err != nil {
			return err
		}
		began := testenv.One[time.Time](w.t, w.db, `SELECT clock_timestamp()`)
		w.customers[sleeper].send(syscall.SIGCONT)
		testenv.Eventually(w.t, time.Minute, func() error {
			for _, act := range []string{refused, looked} {
				if n := testenv.One[int](w.t, w.db, `SELECT count(*) FROM chaos.record WHERE customer = $1 AND act = $2 AND at > $3`, sleeper, act, began); n < 5 {
					return fmt.Errorf("%d %s", n, act)
				}
			}
			return w.crashed()
		})
		return nil
	}))
}

// leave ends the customers in order. What they kept from before the retirement they cannot open any more.
func (w *rotation) leave(ctx context.Context) {
	w.t.Helper()
	w.dismiss(ctx)
	if n := testenv.One[int](w.t, w.db, `SELECT count(*) FROM chaos.farewell WHERE old = 'retired'`); n != customers-1 {
		w.t.Errorf("for %d customers a cell of a retired scheme is what it should be: %v", n, testenv.Column[string](w.t, w.db, `SELECT old FROM chaos.farewell`))
	}
}

// dismiss ends the customers in order, but for the one that was killed.
func (w *rotation) dismiss(ctx context.Context) {
	w.t.Helper()
	for i, c := range w.customers {
		if i == w.killed {
			continue
		}
		if code, err := c.drain(ctx); code != 0 || err != nil {
			w.t.Errorf("%s ended with %d, %v", c.name, code, err)
		}
	}
}
