package cli

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestTimeLimitsOfTheRoleAreNamed: limits that no work fits into are no outage, and what the hint says lifts them.
func TestTimeLimitsOfTheRoleAreNamed(t *testing.T) {
	t.Parallel()
	for limit, message := range map[string]string{"statement_timeout": "57014 (query cancelled", "idle_session_timeout": "57P05 (idle-session timeout)"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			people(t, db, 100)
			db.Run(t, fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET %s = 1', current_database()); END $$`, limit))
			s := newShell(t, db.URL).withKey()
			o := s.run(backfillUsers()...)
			o.refusedWith(t, app.CodeUnavailable, message, limit+"=0 in DATABASE_URL")
			u := must(url.Parse(db.URL))
			query := u.Query()
			query.Set(limit, "0")
			u.RawQuery = query.Encode()
			s.with("DATABASE_URL", u.String()).must(backfillUsers()...)
		})
	}
}
