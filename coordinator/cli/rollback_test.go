package cli

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// reader is an application that knows cells: it seals what it writes, as pkg/client does.
type reader struct {
	t       testing.TB
	db      *testenv.DB
	keyring *cell.Keyring
	scheme  cell.Scheme
	wrote   map[int64]*string // what each row was last given
}

// newReader opens the keys of the only column.
func newReader(t *testing.T, db *testenv.DB, s *shell) *reader {
	t.Helper()
	kek, err := kms.Open(t.Context(), "file:"+s.path("cipherfleet.kek.json"), "")
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := testenv.LoadKeyring(t.Context(), db, kek)
	if err != nil {
		t.Fatal(err)
	}
	scheme, known := keyring.Scheme(testenv.One[uint32](t, db, `SELECT id FROM cipherfleet.columns`), 1)
	if !known {
		t.Fatal("the column has no scheme")
	}
	return &reader{t: t, db: db, keyring: keyring, scheme: scheme, wrote: map[int64]*string{}}
}

// cell is the cell of a text in the row with that id.
func (r *reader) cell(id int64, text string) []byte {
	r.t.Helper()
	keys, err := cell.NewKeyEncoder([]cell.TypeInfo{{OID: 20, Name: "int8", Kind: 'b', Category: 'N'}})
	if err != nil {
		r.t.Fatal(err)
	}
	address, err := keys.Append(nil, [][]byte{binary.BigEndian.AppendUint64(nil, uint64(id))})
	if err != nil {
		r.t.Fatal(err)
	}
	sealed, err := r.keyring.Seal(nil, r.scheme, cell.Address{Column: r.scheme.Column, Key: address}, []byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	return sealed
}

// exec writes; the row with that id then holds text, nil for none.
func (r *reader) exec(writer string, id int64, text *string, sql string, args ...any) {
	r.t.Helper()
	err := r.db.InTx(r.t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(r.t.Context(), "SELECT set_config($1, $2, true)", ddl.WriterSetting, writer); err != nil {
			return err
		}
		_, err := tx.Exec(r.t.Context(), sql, args...)
		return err
	})
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	r.wrote[id] = text
}

func text(s string) *string { return &s }

// writeEverywhere writes by every route there is after a cutover, beginning with row first.
func (r *reader) writeEverywhere(first int64) {
	r.t.Helper()
	at := func(n int64) int64 { return first + n }
	word := func(n int64) string { return fmt.Sprintf("written %d", at(n)) }
	r.exec("", at(0), text(word(0)), `UPDATE users SET email = $2 WHERE id = $1`, at(0), r.cell(at(0), word(0)))
	r.exec(ddl.WriterClient, at(1), text(word(1)), `UPDATE users SET email = $2 WHERE id = $1`, at(1), r.cell(at(1), word(1)))
	r.exec(ddl.WriterClient, at(2), text(word(2)), `UPDATE users SET email = $2, email_plaintext = $3 WHERE id = $1`, at(2), r.cell(at(2), word(2)), word(2))
	r.exec("", at(3), text(word(3)), `UPDATE users SET email = $2, email_plaintext = 'not that' WHERE id = $1`, at(3), r.cell(at(3), word(3)))
	r.exec("", at(4), nil, `UPDATE users SET email = NULL WHERE id = $1`, at(4))
	r.exec("", at(5), text(""), `UPDATE users SET email = $2 WHERE id = $1`, at(5), r.cell(at(5), ""))
	r.exec("", at(6), nil, `DELETE FROM users WHERE id = $1`, at(6))
	delete(r.wrote, at(6))
	moved := 1000 + at(7)
	r.exec("", moved, text(word(7)), `UPDATE users SET id = $2, email = $3 WHERE id = $1`, at(7), moved, r.cell(moved, word(7)))
	delete(r.wrote, at(7))
	created := 2000 + at(8)
	r.exec("", created, text(word(8)), `INSERT INTO users (id, email) VALUES ($1, $2)`, created, r.cell(created, word(8)))
	created++
	r.exec("", created, text(word(9)), `INSERT INTO users (id, email) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET email = excluded.email`, created, r.cell(created, word(9)))
	r.exec("", created, text(word(10)), `INSERT INTO users (id, email) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET email = excluded.email`, created, r.cell(created, word(10)))
}

// wantRead demands that an application that reads plaintext from a column finds what was last written.
func (r *reader) wantRead(column string) {
	r.t.Helper()
	for id, want := range r.wrote {
		have := testenv.Column[*string](r.t, r.db, fmt.Sprintf(`SELECT %s FROM users WHERE id = $1`, column), id)
		if len(have) != 1 || (have[0] == nil) != (want == nil) || want != nil && *have[0] != *want {
			r.t.Errorf("row %d does not hold what was last written to it", id)
		}
	}
}

// encryptedUsers are n people whose column email is encrypted, verified and cut over by the commands.
func encryptedUsers(t *testing.T, n int, more string, cutover ...string) (*testenv.DB, *shell, *reader) {
	t.Helper()
	db := testenv.Database(t)
	people(t, db, n)
	if more != "" {
		db.Run(t, more)
	}
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare", "--user-triggers", "fire")
	s.must("verify", "--table", "users")
	s.must(append([]string{"cutover", "users.email", "--soak", "0"}, cutover...)...)
	r := newReader(t, db, s)
	for _, id := range testenv.Column[int64](t, db, `SELECT id FROM users`) {
		plain := "email_plaintext"
		if len(cutover) > 0 {
			plain = "email"
		}
		r.wrote[id] = testenv.One[*string](t, db, `SELECT `+plain+` FROM users WHERE id = $1`, id)
	}
	return db, s, r
}

// A write by any route since the cutover is there when applications read the plaintext again.
func TestRollbackLosesNoWrite(t *testing.T) {
	t.Parallel()
	db, s, r := encryptedUsers(t, 300, "")
	r.writeEverywhere(10)
	o := s.must("rollback", "users.email", "--reason", "reports", "--json")
	if !strings.Contains(o.out, `"from":"cut-over","to":"backfilled","already":false,"jobs":1`) {
		t.Errorf("it says %s", o.out)
	}
	if have := columnsOf(t, db, "users"); !strings.Contains(have, "email ") && !strings.HasSuffix(have, "email_encrypted") {
		t.Errorf("the columns are %s", have)
	}
	r.wantRead("email")
	if phase := phaseOf(t, db); phase != "backfilled" {
		t.Errorf("the column is %s", phase)
	}
	if o := s.must("rollback", "users.email"); !strings.Contains(o.out, "rolled back already") {
		t.Errorf("repeated it says %s", o.out)
	}
	db.Run(t, `UPDATE users SET email = 'after' WHERE id = 1`)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE id = 1 AND email_encrypted IS NULL`); n != 1 {
		t.Error("capture does not stand again")
	}
	s.must("backfill", "--table", "users", "--column", "email")
	s.must("verify", "--table", "users")
	s.must("cutover", "users.email", "--soak", "0")
	r.wrote[1] = text("after")
	s.must("rollback", "users.email")
	r.wantRead("email")
	wantNoResidue(t, db)
}

// A row may be written again with the value that it has. Reverse capture cannot tell that from a write of the cell alone, by
// a client or not, so the plaintext goes; the cell keeps the value, and a rollback brings it back. Who seals values anew and
// says so keeps the plaintext.
func TestAValueWrittenAgainIsNeverLost(t *testing.T) {
	t.Parallel()
	db, s, r := encryptedUsers(t, 100, "")
	const cell, both = `UPDATE users SET email = $2 WHERE id = $1`, `UPDATE users SET email = $2, email_plaintext = $3 WHERE id = $1`
	for i, tc := range []struct {
		writer, sql string
		kept        bool
	}{
		{"", cell, false}, {"", both, false}, {ddl.WriterClient, cell, false}, {ddl.WriterClient, both, false}, {ddl.WriterRotation, cell, true},
	} {
		id := int64(11 + i)
		word := r.wrote[id]
		args := []any{id, r.cell(id, *word), *word}
		if tc.sql == cell {
			args = args[:2]
		}
		r.exec(tc.writer, id, word, tc.sql, args...)
		if kept := testenv.One[bool](t, db, `SELECT email_plaintext IS NOT NULL FROM users WHERE id = $1`, id); kept != tc.kept {
			t.Errorf("as %q, %s: the plaintext is there: %t", tc.writer, tc.sql, kept)
		}
	}
	if o := s.must("verify", "--table", "users", "--json"); !strings.Contains(o.out, `"ahead":4`) {
		t.Errorf("verify says %s", o.out)
	}
	s.must("rollback", "users.email")
	r.wantRead("email")
	wantNoResidue(t, db)
}

// wantNoResidue demands that a rollback left nothing of its own behind.
func wantNoResidue(t *testing.T, db *testenv.DB) {
	t.Helper()
	const sql = `SELECT relname::text FROM pg_class WHERE relname LIKE 'cipherfleet\_%\_reverse\_%' UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '%reverse%'
 UNION ALL SELECT conname::text FROM pg_constraint WHERE conname LIKE '%\_present' OR conname LIKE '%\_coverage' UNION ALL SELECT proname::text FROM pg_proc WHERE proname LIKE 'reverse\_%' AND pronamespace = 'cipherfleet'::regnamespace`
	if left := testenv.Column[string](t, db, sql); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestRollbackByNameRenamesNothing(t *testing.T) {
	t.Parallel()
	db, s, r := encryptedUsers(t, 50, "", "--strategy", "by-name")
	before := columnsOf(t, db, "users")
	word := "by name"
	r.exec("", 5, &word, `UPDATE users SET email_encrypted = $1 WHERE id = 5`, r.cell(5, word))
	r.exec("", 6, text("of code that knows no cells"), `UPDATE users SET email = $1 WHERE id = 6`, "of code that knows no cells")
	r.exec("", 100, text("of that code too"), `INSERT INTO users (id, email) VALUES (100, $1)`, "of that code too")
	s.must("rollback", "users.email")
	if columnsOf(t, db, "users") != before {
		t.Errorf("the columns are %s", columnsOf(t, db, "users"))
	}
	r.wantRead("email")
	wantNoResidue(t, db)
}

// What a cutover moved comes back: default, NOT NULL, comments, rights.
func TestRollbackRestoresWhatMoved(t *testing.T) {
	t.Parallel()
	const schema = `SELECT concat_ws(' ', a.attname, a.attnotnull, pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum), a.attacl::text)
 FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = 'users'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`
	db := testenv.Database(t)
	people(t, db, 50)
	db.Run(t, `UPDATE users SET email = 'none' WHERE email IS NULL; ALTER TABLE users ALTER email SET NOT NULL, ALTER email SET DEFAULT lower('NONE');
		COMMENT ON COLUMN users.email IS 'where to write to'; GRANT SELECT (email) ON users TO PUBLIC`)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	s.must("verify", "--table", "users")
	before := testenv.Column[string](t, db, schema)
	s.must("cutover", "users.email", "--soak", "0")
	r := newReader(t, db, s)
	word := "since"
	r.exec("", 5, &word, `UPDATE users SET email = $1 WHERE id = 5`, r.cell(5, word))
	s.must("rollback", "users.email")
	r.wantRead("email")
	if after := testenv.Column[string](t, db, schema); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("before the cutover\n%s\nafter the rollback\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	wantNoResidue(t, db)
}

func TestRollbackWithACellThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	db, s, r := encryptedUsers(t, 50, "")
	r.exec("", 7, text("mended"), `UPDATE users SET email = $1 WHERE id = 7`, r.cell(8, "of another row"))
	before := columnsOf(t, db, "users")
	o := s.run("rollback", "users.email")
	if o.code != app.CodeUnproven || !strings.Contains(o.err, "1 rows are in quarantine") || !strings.Contains(o.err, "--quarantined --keys") {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
	if columnsOf(t, db, "users") != before || phaseOf(t, db) != "cut-over" {
		t.Error("the column is not cut over any more")
	}
	r.exec("", 7, text("mended"), `UPDATE users SET email = $1 WHERE id = 7`, r.cell(7, "mended"))
	s.must("rollback", "users.email")
	r.wantRead("email")
}

func TestRollbackBeforeACutover(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	people(t, db, 50)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	dry := s.must("rollback", "users.email", "--dry-run")
	if !strings.Contains(dry.err, "roll public.users.email back from backfilled to schema-added") || !strings.Contains(dry.err, "nothing was changed") {
		t.Errorf("it says %s", dry.err)
	}
	s.must("rollback", "users.email")
	if phase := phaseOf(t, db); phase != "schema-added" {
		t.Errorf("the column is %s", phase)
	}
	if n := testenv.One[int](t, db, `SELECT count(*) FROM users WHERE (email IS NULL) <> (email_encrypted IS NULL)`); n != 0 {
		t.Errorf("%d rows lost their cell", n)
	}
	db.Run(t, `UPDATE users SET email_encrypted = 'nothing guards it' WHERE id = 1; UPDATE users SET email_encrypted = NULL WHERE id = 1`)
	if o := s.must("rollback", "users.email"); !strings.Contains(o.out, "rolled back already") {
		t.Errorf("repeated it says %s", o.out)
	}
	s.must("backfill", "--table", "users", "--column", "email")
	s.must("verify", "--table", "users")
	s.must("rollback", "users.email", "--drop-target")
	if have := columnsOf(t, db, "users"); strings.Contains(have, "encrypted") {
		t.Errorf("the columns are %s", have)
	}
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	s.must("verify", "--table", "users")
}

func TestRollbackRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before  string
		args    []string
		message string
	}{
		"a column nobody knows":    {"", []string{"users.phone"}, `"phone"`},
		"another rung":             {"", []string{"users.email", "--to", "cut-over"}, "accepted is schema-added"},
		"two rungs":                {"", []string{"users.email", "--to", "schema-added"}, "is cut over"},
		"a renamed column":         {"ALTER TABLE users RENAME email_plaintext TO mail", []string{"users.email"}, `was called "email_plaintext"`},
		"a name that is taken":     {"ALTER TABLE users ADD COLUMN email_encrypted text", []string{"users.email"}, `has a new column "email_encrypted"`},
		"capture that is disabled": {`DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE users DISABLE TRIGGER %I', tgname) FROM pg_trigger WHERE tgname LIKE '%reverse_update'); END $$`, []string{"users.email"}, "reverse capture is missing"},
		"no plaintext":             {"ALTER TABLE users DROP COLUMN email_plaintext CASCADE", []string{"users.email"}, "is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, s, _ := encryptedUsers(t, 20, "")
			if tc.before != "" {
				db.Run(t, tc.before)
			}
			before := columnsOf(t, db, "users")
			o := s.run(append([]string{"rollback"}, tc.args...)...)
			if o.code != app.CodeRefused && o.code != app.CodeUsage || !strings.Contains(o.err, tc.message) || !strings.Contains(o.err, "hint") {
				t.Errorf("exit code %d: %s", o.code, o.err)
			}
			if columnsOf(t, db, "users") != before || phaseOf(t, db) != "cut-over" {
				t.Error("something was changed")
			}
		})
	}
}

// Applications write cells all the time: the job alone would never be through.
func TestRollbackEndsUnderTraffic(t *testing.T) {
	t.Parallel()
	_, s, r := encryptedUsers(t, 300, "")
	const writers = 2
	ctx, stop := context.WithCancel(t.Context())
	wrote := make(chan map[int64]*string, writers)
	for w := range int64(writers) {
		mine := map[int64]*string{}
		go func() {
			defer func() { wrote <- mine }()
			for n := int64(0); ctx.Err() == nil; n++ {
				id := n*writers%300 + w + 1
				word := fmt.Sprintf("%d of writer %d", n, w)
				if _, err := r.db.Exec(ctx, `UPDATE users SET email = $2::bytea WHERE id = $1`, id, r.cell(id, word)); err == nil {
					mine[id] = &word
				}
			}
		}()
	}
	o := s.run("rollback", "users.email", "--json")
	stop()
	for range writers {
		for id, word := range <-wrote {
			r.wrote[id] = word
		}
	}
	if o.code != app.CodeDone {
		t.Fatalf("exit code %d: %s", o.code, o.err)
	}
	t.Log(o.out)
	r.wantRead("email")
}

// An empty table, and partitions.
func TestRollbackOfAPartitionedTable(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, note text) PARTITION BY RANGE (id);
		CREATE TABLE users_a (gone int, note text, email text NOT NULL, id bigint NOT NULL); ALTER TABLE users_a DROP COLUMN gone;
		ALTER TABLE users ATTACH PARTITION users_a FOR VALUES FROM (0) TO (50); CREATE TABLE users_b PARTITION OF users FOR VALUES FROM (50) TO (10000);
		INSERT INTO users SELECT g, 'user' || g, 'n' FROM generate_series(1, 100) g`)
	s := newShell(t, db.URL).withKey()
	s.must("backfill", "--table", "users", "--column", "email", "--prepare")
	s.must("verify", "--table", "users")
	s.must("cutover", "users.email", "--soak", "0")
	r := newReader(t, db, s)
	for _, id := range []int64{3, 60} {
		r.exec("", id, text(fmt.Sprint("since ", id)), `UPDATE users SET email = $2 WHERE id = $1`, id, r.cell(id, fmt.Sprint("since ", id)))
	}
	db.Run(t, `CREATE TABLE users_c PARTITION OF users FOR VALUES FROM (10000) TO (20000)`)
	r.exec("", 10001, text("new partition"), `INSERT INTO users (id, email) VALUES ($1, $2)`, 10001, r.cell(10001, "new partition"))
	s.must("rollback", "public.users.email")
	r.wantRead("email")
	wantNoResidue(t, db)
	if n := testenv.One[int](t, db, `SELECT count(*) FROM pg_attribute WHERE attname = 'email' AND attnotnull AND attrelid IN (SELECT relid FROM pg_partition_tree('users'))`); n != 4 {
		t.Errorf("%d of 4 relations have NOT NULL again", n)
	}
	s.must("verify", "--table", "users")
}
