package ddl_test

import (
	"crypto/rand"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// sealedBy is a cell of the users' column under a key, as the column holds it; what follows the key is random.
func sealedBy(form cell.Form, key uint32) any {
	c := cell.Header{Column: 7, Scheme: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, KeyID: key}.Append(nil)
	body := make([]byte, 64)
	_, _ = rand.Read(body) // never fails
	stored := form.Append(nil, append(c, body...))
	if form == cell.FormBytes {
		return stored
	}
	return string(stored)
}

// shredders are the keys that are refused in these tests: neighbours of theirs in every byte are not.
func shredders() []uint32 { return []uint32{5, 0x01020304, 4294967295} }

func others() []uint32 {
	return []uint32{1, 4, 6, 0x01020303, 0x01020305, 0x02020304, 4294967294, 0x05000000}
}

// Cells under a key that was shredded are refused, from whoever they come, in every form; rows that have one may be
// written, and moved, and whatever else is written is not looked at.
func TestCellsUnderAShreddedKeyAreRefused(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			f := formed(t, form)
			old := sealedBy(form, 5)
			insert := func(id int, stored any) error {
				_, err := f.Exec(t.Context(), "INSERT INTO users (id, cell) VALUES ($1, $2)", id, stored)
				return err
			}
			if err := insert(1, old); err != nil {
				t.Fatal(err)
			}
			for range 2 { // and once more, as by the next who shreds
				f.do(t, f.Shredded(shredders()).Do)
			}
			for i, key := range shredders() {
				for n := range 20 {
					if err := insert(100+n, sealedBy(form, key)); pg.Code(err) != checkViolation {
						t.Fatalf("key %d: %v", key, err)
					}
				}
				_, err := f.Exec(t.Context(), "UPDATE users SET cell = $1 WHERE id = 1", sealedBy(form, key))
				var server *pgconn.PgError
				if pg.Code(err) != checkViolation {
					t.Errorf("an update: %v", err)
				} else if errors.As(err, &server) && server.ConstraintName != ddl.ShreddedName(7) {
					t.Errorf("it breaks %s", server.ConstraintName)
				}
				for j, other := range others() {
					if err := insert(1000*(i+1)+j, sealedBy(form, other)); err != nil {
						t.Errorf("another key, %d: %v", other, err)
					}
				}
			}
			f.Run(t, "UPDATE users SET note = 'x' WHERE id = 1; UPDATE users SET cell = cell WHERE id = 1; UPDATE users SET id = 2 WHERE id = 1")
			f.Run(t, "UPDATE users SET cell = NULL WHERE id = 2; DELETE FROM users WHERE id = 2")
			if n := testenv.One[int](t, f, "SELECT count(*) FROM users WHERE "+ddl.Under("cell", form, others())); n != 3*len(others()) {
				t.Errorf("%d cells are under the other keys", n)
			}
			replica := f.InTx(t.Context(), func(tx pg.Tx) error {
				if _, err := tx.Exec(t.Context(), "SET LOCAL session_replication_role = replica"); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), "INSERT INTO users (id, cell) VALUES (1, $1)", sealedBy(form, 5))
				return err
			})
			if pg.Code(replica) != checkViolation {
				t.Errorf("a replicated write: %v", replica)
			}
			before := testenv.One[string](t, f, everything)
			f.do(t, f.Shredded(nil).Do)
			if err := insert(1, sealedBy(form, 5)); err != nil {
				t.Errorf("taken away, it refuses: %v", err)
			}
			f.do(t, f.Shredded(shredders()).Do)
			if testenv.One[string](t, f, everything) != before {
				t.Error("made again it is another one")
			}
			f.do(t, f.Shredded(shredders()).Undo)
			f.do(t, f.AddTarget().Undo) // nothing hangs on the column any more
		})
	}
}

// A row whose key is gone moves between partitions, with others; what is new in one is refused.
func TestARowOfAShreddedTenantMovesBetweenPartitions(t *testing.T) {
	t.Parallel()
	f := prepare(t, usersColumn(), `CREATE TABLE users (id bigint, email text, note text, PRIMARY KEY (id, note)) PARTITION BY LIST (note)`,
		`CREATE TABLE users_a PARTITION OF users FOR VALUES IN ('a'); CREATE TABLE users_b PARTITION OF users FOR VALUES IN ('b')`)
	for id := range 3 {
		f.write(t, ddl.WriterClient, "INSERT INTO users (id, note, cell) VALUES ($1, 'a', $2)", id, sealedBy(cell.FormBytes, 5))
	}
	f.do(t, f.Capture().Undo)
	f.do(t, f.Shredded([]uint32{5}).Do)
	f.Run(t, `ALTER TABLE users RENAME cell TO secret; UPDATE users SET note = 'b'`)
	if n := testenv.One[int](t, f, "SELECT count(*) FROM users_b WHERE secret IS NOT NULL"); n != 3 {
		t.Errorf("%d rows moved", n)
	}
	for _, table := range []string{"users", "users_b"} {
		if _, err := f.Exec(t.Context(), "INSERT INTO "+table+" (id, note, secret) VALUES (9, 'b', $1)", sealedBy(cell.FormBytes, 5)); pg.Code(err) != checkViolation {
			t.Errorf("%s: %v", table, err)
		}
	}
}
