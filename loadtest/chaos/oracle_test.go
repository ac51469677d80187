package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// judge is the oracle: whatever happened, this is what must be true in the end.
func (w *world) judge(ctx context.Context) {
	w.t.Helper()
	began := time.Now()
	var ending sync.WaitGroup
	ending.Go(func() { w.fleetEndsInOrder(ctx) })
	w.everyRowDecrypts(ctx)
	w.tableIsItsMirror(ctx)
	w.rangesAreClosedOnce(ctx)
	w.checkpointsCountTheUpdates(ctx)
	for _, source := range w.plan.sources() {
		w.logTellsTheTruth(ctx, source)
	}
	w.commitsComeBeforeAcks(ctx)
	w.applicationNeverSuffered()
	ending.Wait()
	w.nothingLeaked()
	w.note("the oracle took %v", time.Since(began).Round(time.Millisecond))
}

// everyRowDecrypts opens every cell with keys loaded anew, and compares it with its source.
func (w *world) everyRowDecrypts(ctx context.Context) {
	w.t.Helper()
	keys, err := lifecycle.LoadKeys(ctx, w.db.DB, w.kek)
	w.must(err)
	conn, err := w.connect(ctx)
	w.must(err)
	defer conn.Close(ctx)
	ids := map[string]uint32{}
	for _, source := range w.plan.sources() {
		ids[source] = testenv.One[uint32](w.t, w.db, `SELECT id FROM cipherfleet.columns WHERE source = $1`, source)
	}
	l := w.plan.layout
	rows, err := conn.Query(ctx, fmt.Sprintf("SELECT secret, born, %s, %s FROM %s", strings.Join(w.plan.targets(), ", "), l.keyList(), l.table.SQL()))
	w.must(err)
	checked, wrong := 0, 0
	for rows.Next() {
		values, err := rows.Values()
		w.must(err)
		checked++
		for i, why := range w.faulty(keys.Keyring, ids, values) {
			if wrong++; wrong <= 5 {
				w.t.Errorf("row %v: %s %s", values[2+len(ids):], w.plan.sources()[i], why)
			}
		}
	}
	w.must(rows.Err())
	if wrong > 0 {
		w.t.Errorf("%d cells of %d rows are not what they should be", wrong, checked)
	}
	w.note("%d rows decrypt to their present source", checked-wrong)
}

// faulty says what is wrong with a row's cells, by the number of their column.
func (w *world) faulty(keyring *cell.Keyring, ids map[string]uint32, values []any) map[int]string {
	v := value{}
	if secret, ok := values[0].(string); ok {
		v.secret = &secret
	}
	if born, ok := values[1].(time.Time); ok {
		v.born = &born
	}
	found := map[int]string{}
	for i, source := range w.plan.sources() {
		plain := [][]byte{v.text(), v.instant()}[i]
		sealed, _ := values[2+i].([]byte)
		if plain == nil || sealed == nil {
			if (plain == nil) != (sealed == nil) {
				found[i] = fmt.Sprintf("is uncovered: source NULL %t, target NULL %t", plain == nil, sealed == nil)
			}
			continue
		}
		opened, _, err := keyring.Open(nil, cell.Address{Column: ids[source], Key: address(values[2+len(ids):])}, sealed)
		if err != nil {
			found[i] = "does not open: " + err.Error()
		} else if !bytes.Equal(opened, plain) {
			found[i] = fmt.Sprintf("is stale: the cell holds %q, the source %q", opened, plain)
		}
	}
	return found
}

// tableIsItsMirror compares what the application committed with what is there: no row lost, doubled or overwritten.
func (w *world) tableIsItsMirror(ctx context.Context) {
	w.t.Helper()
	l := w.plan.layout
	const columns = "rtrim(%[1]s.secret, '~'), %[1]s.born, %[1]s.note, %[1]s.version"
	sql := fmt.Sprintf("SELECT (SELECT count(*) FROM %[1]s), (SELECT count(*) FROM chaos.mirror), count(*) FROM %[1]s t FULL JOIN chaos.mirror m USING (%[2]s) WHERE (%[3]s) IS DISTINCT FROM (%[4]s)",
		l.table.SQL(), l.keyList(), fmt.Sprintf(columns, "t"), fmt.Sprintf(columns, "m"))
	var rows, mirrored, different int
	w.must(w.db.QueryRow(ctx, sql).Scan(&rows, &mirrored, &different))
	if rows != mirrored || different > 0 {
		w.t.Errorf("the table has %d rows, its mirror %d, and %d differ", rows, mirrored, different)
	}
}

// rangesAreClosedOnce also looks whether each pass over a leaf begins and ends open and leaves no gap. A job that sweeps
// once more of its own accord forgets the empty ranges of its earlier sweeps: they count as if they were there.
func (w *world) rangesAreClosedOnce(ctx context.Context) {
	w.t.Helper()
	for what, sql := range map[string]string{
		"ranges of a finished job are not done":       `SELECT count(*) FROM chaos.ranges r JOIN cipherfleet.jobs j ON j.id = r.job_id WHERE j.state = 'done' AND r.state NOT IN ('done', 'split')`,
		"ranges were not closed exactly once":         `SELECT count(*) FROM chaos.ranges r WHERE r.state = 'done' AND (SELECT count(*) FROM chaos.closed c WHERE c.range = r.id) <> 1`,
		"closings are of no range":                    `SELECT count(*) FROM chaos.closed c WHERE NOT EXISTS (SELECT FROM chaos.ranges r WHERE r.id = c.range AND r.state = 'done')`,
		"ranges were forgotten that did something":    `SELECT count(*) FROM chaos.forgotten WHERE state NOT IN ('done', 'split') OR pass = 0 OR rows <> 0`,
		"jobs did not end done":                       `SELECT count(*) FROM cipherfleet.jobs WHERE state <> 'done'`,
		"passes do not begin or do not end open":      `SELECT count(*) FROM (SELECT FROM chaos.ranges WHERE state <> 'split' GROUP BY job_id, relid, pass HAVING count(*) FILTER (WHERE after_key IS NULL) <> 1 OR count(*) FILTER (WHERE through_key IS NULL) <> 1) g`,
		"ranges begin where none ends":                `SELECT count(*) FROM chaos.ranges r WHERE r.state <> 'split' AND after_key IS NOT NULL AND (SELECT count(*) FROM chaos.ranges p WHERE p.state <> 'split' AND (p.job_id, p.relid, p.pass) = (r.job_id, r.relid, r.pass) AND p.through_key = r.after_key) <> 1`,
		"ranges count other rows than their events":   `SELECT count(*) FROM chaos.ranges r WHERE r.rows <> (SELECT coalesce(sum(e.rows_processed), 0) FROM cipherfleet.events e WHERE e.range_id = r.id AND e.event = 'backfill_checkpoint' AND e.column_name = 'secret')`,
		"checkpoints are of a claim that was over":    `SELECT count(*) FROM chaos.unfenced`,
		"rows are in quarantine":                      `SELECT count(*) FROM cipherfleet.quarantine`,
		"requests made several jobs, or jobs several": `SELECT count(*) - count(DISTINCT request_id) FROM cipherfleet.jobs`,
	} {
		if n := testenv.One[int64](w.t, w.db, sql); n != 0 {
			w.t.Errorf("%d %s", n, what)
		}
	}
}

// checkpointsCountTheUpdates compares, transaction by transaction, what the fleet says it wrote with what the
// test's own trigger saw it write.
func (w *world) checkpointsCountTheUpdates(ctx context.Context) {
	w.t.Helper()
	for _, source := range w.plan.sources() {
		var said, seen, differ int64
		w.must(w.db.QueryRow(ctx, `WITH e AS (SELECT xmin::text AS xid, sum(rows_processed) AS n FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND column_name = $1 GROUP BY 1),
 u AS (SELECT xid, count(*) AS n FROM chaos.updated GROUP BY 1)
SELECT coalesce(sum(e.n), 0)::bigint, coalesce(sum(u.n), 0)::bigint, count(*) FILTER (WHERE coalesce(e.n, 0) <> coalesce(u.n, 0)) FROM e FULL JOIN u USING (xid)`, source).Scan(&said, &seen, &differ))
		if said != seen || differ > 0 {
			w.t.Errorf("the checkpoints of %s add up to %d rows, but the fleet updated %d; %d transactions differ", source, said, seen, differ)
		}
		w.note("the checkpoints of %s add up to %d rows, and so many the fleet updated", source, said)
	}
}

// unclosedSQL is true when a range was neither closed or split at a moment, nor its job halted at it or shortly before: only then
// may its task leave the queue.
const unclosedSQL = `SELECT NOT EXISTS (SELECT FROM chaos.closed c WHERE c.range = $1 AND c.at <= $3)
 AND NOT EXISTS (SELECT FROM cipherfleet.events e WHERE e.range_id = $1 AND e.event = 'range_split' AND e.created_at <= $3)
 AND coalesce((SELECT e.event <> 'job_paused' AND NOT (e.event = 'job_resumed' AND e.created_at > $3::timestamptz - interval '3 seconds') FROM cipherfleet.events e
  WHERE e.job_id = $2::uuid AND e.event LIKE 'job\_%' AND e.created_at <= $3 ORDER BY e.id DESC LIMIT 1), true)`

// commitsComeBeforeAcks: a task that leaves the queue before its range is closed would be lost with its worker.
func (w *world) commitsComeBeforeAcks(ctx context.Context) {
	w.t.Helper()
	w.ear.mu.Lock()
	acks := slices.Clone(w.ear.acks)
	w.ear.mu.Unlock()
	early := 0
	for _, a := range acks {
		var is bool
		w.must(w.db.QueryRow(ctx, unclosedSQL, a.Range, a.Job, a.at).Scan(&is))
		if is {
			early++
		}
	}
	if early > 0 || len(acks) == 0 {
		w.t.Errorf("%d of %d tasks were acknowledged before their range was closed", early, len(acks))
	}
}

// logTellsTheTruth folds a column's events: nothing impossible, backfilled at the end, and each job's events in order.
func (w *world) logTellsTheTruth(ctx context.Context, column string) {
	w.t.Helper()
	var events []lifecycle.Event
	for e, err := range lifecycle.History(ctx, w.db.DB, w.plan.layout.table.String(), column) {
		w.must(err)
		events = append(events, e)
	}
	folded, err := lifecycle.Fold(events)
	if err != nil {
		w.t.Errorf("the log of %s: %v", column, err)
	}
	latest, err := lifecycle.Latest(ctx, w.db.DB, w.plan.layout.table.String(), column)
	if err != nil || latest != folded {
		w.t.Errorf("the latest state of %s is %+v (%v), but its history folds to %+v", column, latest, err, folded)
	}
	if folded.Phase != lifecycle.PhaseBackfilled || folded.Run.State != lifecycle.RunDone {
		w.t.Errorf("%s is %s and its run %s", column, folded.Phase, folded.Run.State)
	}
	kinds := map[string][]lifecycle.Kind{}
	for _, e := range events {
		kinds[e.Job] = append(kinds[e.Job], e.Kind)
	}
	for job, list := range kinds {
		if job == "" {
			continue
		}
		if why := outOfOrder(list); why != "" {
			w.t.Errorf("the events of %s in job %s: %s", column, job, why)
		}
	}
}

// outOfOrder: started, then checkpoints, splits, pauses and resumes, then backfilled, and nothing behind it but another
// start: a coordinator sweeps again what writes have missed since.
func outOfOrder(kinds []lifecycle.Kind) string {
	open := false
	for _, kind := range kinds {
		if open == (kind == lifecycle.KindBackfillStarted) {
			return string(kind) + " stands between two runs, or in the middle of one"
		}
		switch kind {
		case lifecycle.KindBackfillStarted:
			open = true
		case lifecycle.KindBackfilled:
			open = false
		case lifecycle.KindCheckpoint, lifecycle.KindRangeSplit, lifecycle.KindJobPaused, lifecycle.KindJobResumed:
		default:
			return "holds " + string(kind)
		}
	}
	if open {
		return "the last run has no end"
	}
	return ""
}

// applicationNeverSuffered: no deadlock, no timeout, no refusal; where snapshots are kept, losing a race is normal.
func (w *world) applicationNeverSuffered() {
	w.t.Helper()
	w.app.mu.Lock()
	defer w.app.mu.Unlock()
	for i, trouble := range w.app.troubles {
		if i == 5 {
			break
		}
		w.t.Errorf("a transaction of the application failed: %s", trouble)
	}
	if w.app.counts.committed.Load() == 0 {
		w.t.Error("the application committed nothing")
	}
}

// fleetEndsInOrder drains every program, and none may have ended by itself before.
func (w *world) fleetEndsInOrder(ctx context.Context) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var ending sync.WaitGroup
	for _, c := range slices.Concat(w.workers, w.coordinators) {
		ending.Go(func() {
			if code, err := c.drain(ctx); err != nil || code != 0 {
				w.t.Errorf("%s ended with exit code %d, %v", c.name, code, err)
			}
		})
	}
	ending.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, crash := range w.crashes {
		w.t.Errorf("ended by itself: %s", crash)
	}
}

// nothingLeaked looks for values and keys in every message, every log and what NATS has on disk.
func (w *world) nothingLeaked() {
	w.t.Helper()
	w.queue.kill() // its files stand still now
	w.ear.mu.Lock()
	defer w.ear.mu.Unlock()
	if len(w.ear.offers) == 0 || w.ear.progress == 0 {
		w.t.Errorf("%d messages were heard, among them %d tasks and %d of progress", w.ear.heard, len(w.ear.offers), w.ear.progress)
	}
	for i, subject := range w.ear.leaks {
		if i == 5 {
			break
		}
		w.t.Errorf("a value or a key shows in a message on %s", subject)
	}
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if leaks(content) {
			w.t.Errorf("a value or a key shows in %s", entry.Name())
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}
