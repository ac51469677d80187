package cli

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// A table of one range, each row of which takes long to write: without a split one slot would do all the work.
func TestASlowRangeIsSharedWithAnIdleSlot(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	people(t, db, 600)
	db.Run(t, `CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'`)
	db.Run(t, `CREATE TRIGGER slow BEFORE UPDATE ON public.users FOR EACH ROW EXECUTE FUNCTION public.slow()`)
	newShell(t, db.URL).withKey().must("backfill", "--table", "users", "--column", "email", "--prepare", "--user-triggers", "fire")
	if n := testenv.One[int64](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event = 'range_split'`); n < 1 {
		t.Errorf("%d ranges were split, want at least one", n)
	}
	if n := testenv.One[int64](t, db, `SELECT count(*) FROM cipherfleet.ranges WHERE parent IS NOT NULL AND rows > 50 AND pass = 0`); n < 2 {
		t.Errorf("%d of the parts had work to do, want two", n)
	}
}
