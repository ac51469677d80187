package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestADecryptionUnderLoad: a dropped column gets its plaintext back while customers read and write it. Half-way a
// worker, the coordinator, a customer and the operator's own command are killed; the same command goes on. No read
// fails, and at the end every row's plaintext is what was written last.
func TestADecryptionUnderLoad(t *testing.T) {
	t.Parallel()
	withCustomers(t, (*rotation).decrypt, lifecycle.PhaseDropped)
}

// decrypt is the course of a seed.
func (w *rotation) decrypt(ctx context.Context) {
	w.prepare(ctx)
	w.decryptUnderLoad(ctx)
	w.everyPlaintextIsAsRecorded(ctx)
	w.decisionsAre(1)
	w.fleetEndsInOrder(ctx)
	w.nothingLeaked()
}

// decryptUnderLoad is what happens meanwhile.
func (w *rotation) decryptUnderLoad(ctx context.Context) {
	w.t.Helper()
	w.deaf = 2 // who looks every ten seconds alone writes cells beside a plaintext that he has not noticed
	w.openCustomers()
	w.goesOn(0, 1, 2, sleeper)
	w.watch()
	command := []string{"decrypt", "people.email", "--reason", "a test", "--user-triggers", "fire"}
	operating, kill := context.WithCancel(ctx)
	defer kill()
	killed := make(chan error, 1)
	go func() { killed <- w.command(operating, command...) }()
	w.strikeInReverse(ctx, kill)
	if <-killed == nil {
		w.t.Error("the command had ended before it was killed")
	}
	w.must(w.command(ctx, command...))
	w.plain, w.cells = "email", "email_encrypted"
	w.goesOn(1-w.killed, 2, sleeper)
	w.dismiss(ctx)
}

const reversingSQL = `SELECT coalesce((SELECT r.worker FROM cipherfleet.ranges r JOIN cipherfleet.events e ON e.range_id = r.id AND e.event = 'backfill_checkpoint' AND e.phase = 'cut-over'
 WHERE r.state = 'pending' AND r.lease_until > clock_timestamp() AND e.rows_processed > 0 LIMIT 1), '')`

// strikeInReverse kills, in the middle of a job that opens cells, the worker that is at it, a customer, the coordinator
// and the command that wants it all; the fleet's programs are started again.
func (w *rotation) strikeInReverse(ctx context.Context, killCommand func()) {
	w.t.Helper()
	name := ""
	testenv.Eventually(w.t, time.Minute, func() error {
		if name = testenv.One[string](w.t, w.db, reversingSQL); name == "" {
			return errors.New("nobody is in the middle of opening cells")
		}
		return nil
	})
	struck := w.workers[slices.IndexFunc(w.workers, func(c *child) bool { return c.name == name })]
	struck.kill()
	w.coordinators[0].kill()
	w.customers[w.killed].kill()
	killCommand()
	left := testenv.One[int](w.t, w.db, `SELECT count(*) FROM people WHERE email IS NOT NULL AND email_plaintext IS NULL`)
	w.note("%s, the coordinator, %s and the command are killed, with %d cells to open", name, w.customers[w.killed].name, left)
	if left == 0 {
		w.t.Error("it was too late to strike")
	}
	rest(ctx, between(w.r, 0, 500*time.Millisecond))
	w.must(w.coordinators[0].start())
	rest(ctx, between(w.r, 0, 500*time.Millisecond))
	w.must(struck.start())
}

// everyPlaintextIsAsRecorded compares each row with the record: it holds what was acknowledged last, or what the killed
// customer was about to write; and a cell beside it is of the same value.
func (w *rotation) everyPlaintextIsAsRecorded(ctx context.Context) {
	w.t.Helper()
	w.everyRowIsAsRecorded(ctx, "email_encrypted", "email", func(keyring *cell.Keyring, id int64, sealed []byte, plain *string, h *history) string {
		switch {
		case plain == nil:
			return "has no plaintext"
		case sealed != nil:
			return w.faulty(keyring, id, sealed, plain, h)
		}
		return w.unexpected(id, *plain, h)
	})
}

// decisionsAre counts who decided that the column is to be decrypted, and that nothing is left of the way back.
func (w *rotation) decisionsAre(want int) {
	w.t.Helper()
	for what, sql := range map[string]string{
		"decisions too many":          fmt.Sprintf(`SELECT count(*) - %d FROM cipherfleet.decryptions`, want),
		"rows are in quarantine":      `SELECT count(*) FROM cipherfleet.quarantine`,
		"events after the swap back":  `SELECT count(*) FROM cipherfleet.events WHERE event = 'backfill_checkpoint' AND phase = 'cut-over' AND id > (SELECT max(id) FROM cipherfleet.events WHERE event = 'rolled_back')`,
		"jobs have not ended":         `SELECT count(*) FROM cipherfleet.jobs WHERE state NOT IN ('done', 'cancelled')`,
		"swaps back beside the first": `SELECT count(*) - 1 FROM cipherfleet.events WHERE event = 'rolled_back'`,
		"triggers of reverse capture": `SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~cipherfleet%reverse%'`,
		"indexes of the way back":     `SELECT count(*) FROM pg_class WHERE relname LIKE 'cipherfleet\_%\_reverse\_%'`,
	} {
		if n := testenv.One[int64](w.t, w.db, sql); n != 0 {
			w.t.Errorf("%d %s", n, what)
		}
	}
}
