package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestASampleFindsAndDoesNotProve: a twentieth is about a twentieth, what is wrong in it counts, and nothing more.
func TestASampleFindsAndDoesNotProve(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 60_000)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	db.Run(t, `VACUUM FULL users`) // without the dead rows, every block is as full as the others
	o := s.must("verify", "--table", "users", "--sample", "10%", "--json")
	v := parsed[verify.Result](t, o.out)
	if c := v.Columns[0]; !v.Proven || v.Sample != 10 || c.Rows < 3000 || c.Rows > 12_000 || c.Covered != c.Rows || c.Digest != "" || c.Nonces.Repeated != 0 {
		t.Errorf("a tenth of 60000 rows is %+v", v)
	}
	if state := stateOf(t, db); !state.Verified.IsZero() {
		t.Errorf("a sample counts as a proof: %+v", state)
	}
	if text := s.must("verify", "--table", "users", "--sample", "0.001").out; !strings.Contains(text, "nothing wrong in a sample of 0.001 %, which is no proof\n  ") || strings.Contains(text, " 0 rows") {
		t.Errorf("a person reads %s", text)
	}
	s.must("verify", "--table", "users")
	if state := stateOf(t, db); state.Verified.IsZero() || !state.Proven || !state.VerifiedFrom.Before(state.Verified) {
		t.Errorf("a full verification does not count: %+v", state)
	}
	db.Run(t, `ALTER TABLE users DISABLE TRIGGER USER; UPDATE users SET email = 'stale' WHERE id % 10 = 1; ALTER TABLE users ENABLE TRIGGER USER`)
	if o := s.run("verify", "--table", "users", "--sample", "50"); o.code != app.CodeUnproven || !strings.Contains(o.out, "NOT PROVEN") {
		t.Errorf("exit code %d: %s", o.code, o.out)
	}
	if state := stateOf(t, db); !state.Verified.IsZero() {
		t.Errorf("the proof stands though a sample failed: %+v", state)
	}
}

func stateOf(t *testing.T, db *testenv.DB) lifecycle.State {
	t.Helper()
	return must(lifecycle.Latest(t.Context(), db, "public.users", "email"))
}

// TestEveryRowCanBeInASample: many small samples of a table of several partitions meet rows everywhere.
func TestEveryRowCanBeInASample(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id int PRIMARY KEY, email text) PARTITION BY HASH (id);
CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE users_1 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO users SELECT g, 'user' || g FROM generate_series(1, 300) g`)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	v := parsed[verify.Result](t, s.must("verify", "--table", "users", "--sample", "1", "--json").out)
	if c := v.Columns[0]; c.Rows != 300 || !v.Proven { // one run holds a whole partition
		t.Errorf("the sample is %+v", c)
	}
}

func TestAReportIsFiled(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 1000)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	digest := func(file string, code int) verify.ColumnReport {
		t.Helper()
		if o := s.run("verify", "--table", "users", "--report", s.path(file)); o.code != code {
			t.Fatalf("exit code %d: %s", o.code, o.err)
		}
		var r report
		if err := json.Unmarshal(must(os.ReadFile(s.path(file))), &r); err != nil || r.Table != "public.users" || r.Program != app.Version() || r.Installation == "" || !r.Ended.After(r.Began) {
			t.Errorf("the report is %+v, %v", r, err)
		}
		text := string(must(os.ReadFile(strings.TrimSuffix(s.path(file), ".json") + ".txt")))
		if !strings.HasPrefix(text, "Verification of public.users in database ") || !strings.Contains(text, r.Columns[0].Digest) || strings.Contains(text, "example.org") {
			t.Errorf("a person reads %s", text)
		}
		return r.Columns[0]
	}
	first := digest("first.json", app.CodeDone)
	if first.Keys[1] != 900 || first.Nonces.Cells != 900 || first.Nonces.Distinct != 900 || !first.Nonces.Exact || len(first.Digest) != 64 {
		t.Errorf("it says %+v", first)
	}
	db.Run(t, `UPDATE users SET note = 'moved' WHERE id % 3 = 0; UPDATE users SET email_encrypted = NULL WHERE id % 7 = 0; CLUSTER users USING users_pkey`)
	s.must("backfill", "--table", "users", "--column", "email")
	if again := digest("again.json", app.CodeDone); again.Digest != first.Digest {
		t.Errorf("the same rows, sealed again and moved, have the digests %s and %s", first.Digest, again.Digest)
	}
	db.Run(t, `UPDATE users SET email = 'other' WHERE id = 1`)
	if other := digest("other.json", app.CodeUnproven); other.Digest == first.Digest {
		t.Error("other rows have the same digest")
	}
	names := must(filepath.Glob(s.path("*")))
	hidden := must(filepath.Glob(s.path(".*")))
	if len(hidden) > 0 {
		t.Errorf("left behind: %v beside %v", hidden, names)
	}
	if info := must(os.Stat(s.path("first.json"))); info.Mode() != 0o600 {
		t.Errorf("the report may be read by %v", info.Mode())
	}
}

// TestVerifyAfterTheCutover: names are swapped, then the plaintext is dropped, and the digest stays what it was.
func TestVerifyAfterTheCutover(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 1000)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	one := func(args ...string) (verify.ColumnReport, string) {
		t.Helper()
		v := parsed[verify.Result](t, s.must(append([]string{"verify", "--table", "users", "--json"}, args...)...).out)
		return v.Columns[0], s.must(append([]string{"verify", "--table", "users"}, args...)...).out
	}
	before, _ := one()
	db.Run(t, `ALTER TABLE users DISABLE TRIGGER USER; ALTER TABLE users RENAME email TO email_plaintext; ALTER TABLE users RENAME email_encrypted TO email`)
	for _, name := range []string{"email", "email_plaintext"} {
		swapped, _ := one("--column", name)
		if swapped.Column != "email" || swapped.Source != "email_plaintext" || swapped.Target != "email" || !swapped.Proven || swapped.Digest != before.Digest {
			t.Errorf("with swapped names --column %s is %+v", name, swapped)
		}
	}
	db.Run(t, `ALTER TABLE users DROP email_plaintext CASCADE`)
	gone, text := one("--column", "email")
	if gone.Column != "email" || gone.Source != "" || gone.Target != "email" || gone.Covered != 1000 || gone.Keys[1] != 900 || !gone.Proven || gone.Digest != before.Digest {
		t.Errorf("without the plaintext it is %+v", gone)
	}
	if !strings.Contains(text, "the plaintext is gone: cells were opened and authenticated, and compared with nothing\n") {
		t.Errorf("a person reads %s", text)
	}
	db.Run(t, `UPDATE users u SET email = o.email FROM users o WHERE u.id = 1 AND o.id = 2`)
	s.run("verify", "--table", "users", "--json")
	if o := s.run("verify", "--table", "users"); o.code != app.CodeUnproven || !strings.Contains(o.out, "1000 rows: 999 covered, 0 uncovered, 0 stale, 1 broken") {
		t.Errorf("with another row's cell: exit code %d, %s", o.code, o.out)
	}
}

func TestCellsOfUnknownKeysAreCounted(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	db.Run(t, `ALTER TABLE users DISABLE TRIGGER USER;
UPDATE users SET email_encrypted = overlay(email_encrypted PLACING '\x0009' FROM 7 FOR 2) WHERE id = 1; -- scheme
UPDATE users SET email_encrypted = overlay(email_encrypted PLACING '\x09' FROM 16 FOR 1) WHERE id = 2; -- key
UPDATE users SET email_encrypted = overlay(email_encrypted PLACING '\x0000' FROM 50 FOR 2) WHERE id = 3; -- damage`)
	o := s.run("verify", "--table", "users", "--json")
	if c := parsed[verify.Result](t, o.out).Columns[0]; o.code != app.CodeUnproven || c.Broken != 3 || c.Unknown != 2 {
		t.Errorf("it is %+v", c)
	}
	if o := s.run("verify", "--table", "users"); !strings.Contains(o.out, "2 of the broken cells are of a scheme or key that the registry does not have") {
		t.Errorf("a person reads %s", o.out)
	}
}

func TestVerifyCallsAreRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 10)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	unchanged(t, db, func() {
		for _, sample := range []string{"0", "100%", "-1", "x", "NaN"} {
			s.run("verify", "--table", "users", "--sample="+sample).refusedWith(t, app.CodeUsage, "--sample was", "--help")
		}
		s.run("verify", "--table", "users", "--report", s.path("no/such/folder.json")).refusedWith(t, app.CodeUsage, "write the report", "folder")
		s.run("verify", "--table", "users", "--report", s.path("proof.txt")).refusedWith(t, app.CodeUsage, "that is where the text goes", ".json")
	})
}

// TestStatusKeepsToFullVerifications: a sample after a proof changes nothing that status says.
func TestStatusKeepsToFullVerifications(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 100)
	s := newShell(t, db.URL).withKey()
	s.must(backfillUsers()...)
	s.must("verify", "--table", "users")
	before := s.column().Verified
	s.must("verify", "--table", "users", "--sample", "10")
	if after := s.column().Verified; before == nil || !reflect.DeepEqual(after, before) {
		t.Errorf("verified was %+v and is %+v", before, after)
	}
}
