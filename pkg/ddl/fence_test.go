package ddl_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// sealedUnder is a cell of the users' column under a scheme.
func sealedUnder(scheme uint16) []byte {
	c := cellOf(7)
	binary.BigEndian.PutUint16(c[6:], scheme)
	return c
}

const checkViolation = "23514"

// A fence is proven only when no cell of a retired scheme is left, and refuses every later one.
func TestAFenceIsProofAndGuard(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.write(t, ddl.WriterClient, "INSERT INTO users (id, email, cell) VALUES (1, 'a', $1)", sealedUnder(1))
	f.write(t, ddl.WriterClient, "INSERT INTO users (id, email, cell) VALUES (2, 'b', $1)", sealedUnder(2))
	f.Run(t, "INSERT INTO users (id, email) VALUES (3, 'c')")
	if n := testenv.One[int](t, f, f.LeftBehind(1, 10)); n != 1 {
		t.Errorf("%d cells of scheme 1", n)
	}
	before := testenv.One[string](t, f, everything)
	f.do(t, f.Fence([]uint16{1}).Do)
	if _, err := f.Exec(t.Context(), f.ValidateFence().Do[0]); pg.Code(err) != checkViolation {
		t.Errorf("an old cell is left, and the fence is proven: %v", err)
	}
	f.do(t, f.Fence([]uint16{1}).Undo)
	if testenv.One[string](t, f, everything) != before {
		t.Error("a fence that was taken back left something")
	}
	f.write(t, ddl.WriterFleet, "UPDATE users SET cell = $1 WHERE id = 1", sealedUnder(2))
	for range 2 { // and once more after an attempt that was broken off
		f.do(t, f.Fence([]uint16{1}).Do)
	}
	f.do(t, f.ValidateFence().Do)
	f.do(t, f.RaiseFence().Do)
	if !testenv.One[bool](t, f, "SELECT convalidated FROM pg_constraint WHERE conname = $1", ddl.FenceName(7)) {
		t.Error("raised, it is not proven")
	}
	for scheme, code := range map[uint16]string{1: checkViolation, 2: "", 3: "", 256: "", 257: "", 65535: ""} {
		if _, err := f.Exec(t.Context(), "UPDATE users SET cell = $1 WHERE id = 3", sealedUnder(scheme)); pg.Code(err) != code {
			t.Errorf("scheme %d: code %q, want %q", scheme, pg.Code(err), code)
		}
	}
	f.do(t, []string{"UPDATE users SET cell = NULL WHERE id = 3"})
}

// The fence before stands until the next one is proven.
func TestAFenceIsReplacedWithoutAGap(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	insert := func(retired []uint16) {
		t.Helper()
		err := f.InTx(t.Context(), func(tx pg.Tx) error {
			if _, err := tx.Exec(t.Context(), "SET LOCAL cipherfleet.writer = 'client'"); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), "INSERT INTO users (id, cell) VALUES (1, $1)", sealedUnder(1))
			return err
		})
		if pg.Code(err) != checkViolation {
			t.Errorf("while the fence against %v is made: %v", retired, err)
		}
	}
	for _, retired := range [][]uint16{{1}, {1, 2}} {
		f.do(t, f.Fence(retired).Do)
		insert(retired)
		f.do(t, f.ValidateFence().Do)
		f.do(t, f.RaiseFence().Do)
		insert(retired)
	}
	names := testenv.Column[string](t, f, "SELECT conname::text FROM pg_constraint WHERE conrelid = 'users'::regclass AND conname LIKE '%schemes%'")
	if !slices.Equal(names, []string{ddl.FenceName(7)}) {
		t.Errorf("fences: %v", names)
	}
}

func TestAFenceIsRecognised(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"cell", "select", `a"b`, "Käse", "%s"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t)
			c := ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "t"}, Target: target}
			db.Run(t, "CREATE TABLE t ("+pg.Ident(target)+" bytea)")
			for _, retired := range [][]uint16{{1}, {2}, {1, 2, 3}, {1, 4}, {7, 2, 9}} {
				fixture{db, c}.do(t, c.Fence(retired).Do)
				text := printed(t, db, ddl.NextFenceName(7))
				if !c.IsFence(text, retired) || c.IsFence(text, append([]uint16{300}, retired...)) {
					t.Errorf("against %v: %s", retired, text)
				}
			}
		})
	}
}

func TestACensusCountsSchemes(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	for i, scheme := range []uint16{1, 1, 258, 2, 65535, 258} {
		f.write(t, ddl.WriterClient, "INSERT INTO users (id, email, cell) VALUES ($1, 'a', $2)", i, sealedUnder(scheme))
	}
	f.Run(t, "INSERT INTO users (id, email) VALUES (100, 'c')")
	got := testenv.Column[string](t, f, "SELECT concat_ws(':', encode(s, 'hex'), n) FROM ("+f.Census()+") AS c (s, n)")
	if want := []string{"0001:2", "0002:1", "0102:2", "ffff:1"}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if n := testenv.One[int](t, f, f.LeftBehind(258, 1)); n != 1 {
		t.Errorf("counted %d, beyond the limit", n)
	}
}

// On a partitioned table the fence stands around every partition, those to come too.
func TestAFenceAroundPartitions(t *testing.T) {
	t.Parallel()
	c := usersColumn()
	f := fixture{testenv.Database(t), c}
	f.Run(t, "CREATE TABLE users (id bigint PRIMARY KEY, email text, cell bytea) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF users FOR VALUES FROM (0) TO (10)")
	for _, retired := range [][]uint16{{1}, {1, 2}} {
		f.do(t, c.Fence(retired).Do)
		f.do(t, c.ValidateFence().Do)
		f.do(t, c.RaiseFence().Do)
	}
	f.Run(t, "CREATE TABLE high PARTITION OF users FOR VALUES FROM (10) TO (20)")
	for _, id := range []int{1, 11} {
		if _, err := f.Exec(t.Context(), "INSERT INTO users (id, cell) VALUES ($1, $2)", id, sealedUnder(1)); pg.Code(err) != checkViolation {
			t.Errorf("row %d: %v", id, err)
		}
	}
}
