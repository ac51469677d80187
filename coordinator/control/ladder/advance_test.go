package ladder_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestAnAdvanceKilledBetweenAnyTwoStatements: whatever stands then is recorded, and the same request goes on.
func TestAnAdvanceKilledBetweenAnyTwoStatements(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := testenv.Database(t)
	db.Run(t, plainUsers)
	path := filepath.Join(t.TempDir(), "kek.json")
	if err := kms.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := kms.Open(ctx, "file:"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	r := ladder.AdvanceRequest{Column: inPublic("users", "email"), To: lifecycle.PhaseDualWriting}
	climb := func(l *ladder.Ladder) error {
		l.KEK = kek
		plan, err := l.PlanAdvance(ctx, r)
		if err == nil {
			err = l.Advance(ctx, r, plan)
		}
		return err
	}
	stop := customers(t, db)
	var killed []string
	last := testenv.Catalog(t, db)
	for nth := int64(1); ; nth++ {
		statement, err := killedAt(t, db, nth, climb)
		if statement == "" {
			if err != nil {
				t.Fatalf("nothing was killed at %d: %v", nth, err)
			}
			break
		}
		killed = append(killed, statement)
		state, err := lifecycle.Latest(ctx, db, "public.users", "email")
		added := testenv.One[bool](t, db, `SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'email_encrypted')`)
		captures := testenv.One[bool](t, db, `SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname LIKE '~cipherfleet%')`)
		if err != nil || added != (state.Phase != "") || captures != (state.Phase == lifecycle.PhaseDualWriting) {
			t.Errorf("killed before %q: it is %q, target %t, capture %t: %v", statement, state.Phase, added, captures, err)
		}
		if now := testenv.Catalog(t, db); now != last {
			last, nth = now, 0 // a shorter way is left: that too is killed at each step
		}
	}
	stop()
	all := strings.Join(killed, "\n")
	for _, want := range []string{"ADD COLUMN", "ADD CONSTRAINT", "VALIDATE CONSTRAINT", "CREATE OR REPLACE TRIGGER", "INSERT INTO cipherfleet.deks", "INSERT INTO cipherfleet.events"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing was killed before %s", want)
		}
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM cipherfleet.events WHERE event IN ('schema_added', 'dual_writing')`); n != 2 {
		t.Errorf("%d events, want each rung once", n)
	}
}
