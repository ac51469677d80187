package lifecycle_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// usersTable makes a table and describes its column as a caller who looked at the catalog would.
func usersTable(t *testing.T, db *testenv.DB) lifecycle.Column {
	t.Helper()
	db.Run(t, "CREATE TABLE users (id bigint PRIMARY KEY, email text, cell bytea, phone text, phone_cell bytea)")
	return lifecycle.Column{Relid: testenv.One[uint32](t, db, "SELECT 'users'::regclass::oid"), SourceNum: 2, TargetNum: 3,
		Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "cell", Type: "text", Collation: `"default"`}
}

func tryRegister(t *testing.T, db *testenv.DB, want lifecycle.Column) (got lifecycle.Column, err error) {
	t.Helper()
	err = db.InTx(t.Context(), func(tx pg.Tx) error {
		got, err = lifecycle.RegisterColumn(t.Context(), tx, want)
		return err
	})
	return got, err
}

func register(t *testing.T, db *testenv.DB, want lifecycle.Column) lifecycle.Column {
	t.Helper()
	got, err := tryRegister(t, db, want)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func revision(t *testing.T, db *testenv.DB) int64 {
	t.Helper()
	i, err := lifecycle.ReadInstallation(t.Context(), db)
	if err != nil || i.Registry == [16]byte{} {
		t.Fatal(i, err)
	}
	return i.Revision
}

func TestAColumnKeepsItsID(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	want := usersTable(t, db)
	before := revision(t, db)
	first := register(t, db, want)
	if first.ID == 0 || revision(t, db) != before+1 {
		t.Errorf("id %d, revision %d after %d", first.ID, revision(t, db), before)
	}
	if again := register(t, db, want); again != first || revision(t, db) != before+1 {
		t.Errorf("registered again as %+v, revision %d", again, revision(t, db))
	}
	db.Run(t, "ALTER TABLE users RENAME email TO mail")
	db.Run(t, "ALTER TABLE users RENAME TO people")
	renamed := want
	renamed.Source, renamed.Table.Name = "mail", "people"
	if got := register(t, db, renamed); got != first {
		t.Errorf("renamed it is %+v, want %+v: the log knows it by its first name", got, first)
	}
	other := want
	other.Source, other.SourceNum, other.Target, other.TargetNum = "phone", 4, "phone_cell", 5
	second := register(t, db, other)
	if second.ID <= first.ID {
		t.Errorf("ids %d, %d", first.ID, second.ID)
	}
	columns, err := lifecycle.Columns(t.Context(), db, want.Relid)
	if err != nil || !slices.Equal(columns, []lifecycle.Column{first, second}) {
		t.Errorf("columns %+v, %v", columns, err)
	}
}

func TestAColumnMadeAnewIsAnotherOne(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	want := usersTable(t, db)
	first := register(t, db, want)
	db.Run(t, "ALTER TABLE users DROP COLUMN email, ADD COLUMN email text")
	want.SourceNum = 6
	second := register(t, db, want)
	if second.ID == first.ID {
		t.Error("another column has the id of a dropped one: its cells would open in the wrong place")
	}
	if columns, err := lifecycle.Columns(t.Context(), db, want.Relid); err != nil || len(columns) != 1 {
		t.Errorf("columns %+v, %v", columns, err)
	}
}

func TestATargetMadeAnewIsFollowed(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	want := usersTable(t, db)
	first := register(t, db, want)
	db.Run(t, "ALTER TABLE users DROP COLUMN cell, ADD COLUMN cell bytea")
	want.TargetNum = 6
	before := revision(t, db)
	for range 2 {
		if got := register(t, db, want); got.ID != first.ID || got.TargetNum != 6 || revision(t, db) != before+1 {
			t.Errorf("got %+v at revision %d after %d", got, revision(t, db), before)
		}
	}
}

func TestRegisterRefusesWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	want := usersTable(t, db)
	register(t, db, want)
	var conflict *lifecycle.ConflictError
	other := want
	other.Target, other.TargetNum = "phone_cell", 5
	if _, err := tryRegister(t, db, other); !errors.As(err, &conflict) || conflict.Column.Target != "cell" {
		t.Errorf("a second target: %v", err)
	}
	db.Run(t, "ALTER TABLE users RENAME email TO mail; ALTER TABLE users RENAME phone TO email")
	other = want
	other.SourceNum, other.TargetNum, other.Target = 4, 5, "phone_cell"
	if _, err := tryRegister(t, db, other); !errors.As(err, &conflict) {
		t.Errorf("a name that a renamed column was registered under: %v", err)
	}
}

func TestConcurrentRegistrationsAreOne(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	want := usersTable(t, db)
	ids := make([]uint32, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			got, err := tryRegister(t, db, want)
			if err != nil {
				t.Error(err)
			}
			ids[i] = got.ID
		})
	}
	all.Wait()
	if slices.Min(ids) != slices.Max(ids) || ids[0] == 0 {
		t.Errorf("ids %v", ids)
	}
}

func TestARetiredColumnLeavesItsIDBehind(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	want := usersTable(t, db)
	first := register(t, db, want)
	retire := func(id uint32) error {
		return db.InTx(t.Context(), func(tx pg.Tx) error { return lifecycle.Retire(t.Context(), tx, id) })
	}
	if err := retire(first.ID); err != nil {
		t.Fatal(err)
	}
	if second := register(t, db, want); second.ID <= first.ID {
		t.Errorf("id %d after %d", second.ID, first.ID)
	}
	if err := retire(999); err == nil {
		t.Error("an unknown column was retired")
	}
}
