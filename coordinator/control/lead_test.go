package control

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestAnEpochOutlivesACrashWhateverTheDatabaseCommitsLikeByDefault(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`)
	again := testenv.Open(t, db.URL)
	p := New(Plane{DB: again.DB})
	conn, err := p.campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Discard(t.Context())
	if how := testenv.One[string](t, conn, `SELECT current_setting('synchronous_commit')`); how == "off" {
		t.Error("the leader's epoch may be lost in a crash")
	}
	if _, err := New(Plane{DB: again.DB}).campaign(t.Context()); !errors.Is(err, ErrLed) {
		t.Errorf("a second leader: %v", err)
	}
}
