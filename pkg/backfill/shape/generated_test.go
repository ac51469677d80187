package shape_test

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
)

// generated is one statement that a shape makes, with the types of its parameters as they are sent; 0 is inferred.
type generated struct {
	Name, SQL string
	OIDs      []uint32
}

// generatedBy lists every statement of the engine for a shape, in all its variants.
func generatedBy(s *shape.Shape) []generated {
	var all []generated
	add := func(name, sql string, oids ...[]uint32) {
		g := generated{Name: name, SQL: sql}
		for _, part := range oids {
			g.OIDs = append(g.OIDs, part...)
		}
		all = append(all, g)
	}
	var key, arrays, none, cells []uint32
	for _, k := range s.Key {
		key, arrays = append(key, k.OID), append(arrays, k.ArrayOID)
	}
	arrays = append(arrays, pgtype.XIDArrayOID)
	for _, c := range s.Columns {
		if out := c.Output(); out.Sends() {
			arrays, cells = append(arrays, out.List), append(cells, out.OID)
		}
	}
	count := []uint32{pgtype.Int8OID}
	if1 := func(wanted bool, oids []uint32) []uint32 {
		if wanted {
			return oids
		}
		return none
	}
	for _, sparse := range []bool{false, true} {
		for _, bounds := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
			add(fmt.Sprintf("read, sparse %t, lower bound %t, upper bound %t", sparse, bounds[0], bounds[1]), s.ReadSQL(bounds[0], bounds[1], sparse),
				if1(bounds[0], key), if1(bounds[1], key), count)
		}
	}
	for _, lower := range []bool{false, true} {
		if s.Proxied() {
			break
		}
		for _, look := range []bool{false, true} {
			for _, skip := range []bool{false, true} {
				add(fmt.Sprintf("update, lower bound %t, skip locked %t, look %t", lower, skip, look), s.UpdateSQL(lower, skip, look), arrays, key, if1(lower, key))
			}
		}
	}
	if s.Proxied() {
		add("through the proxy", s.PlainSQL(), cells, key, []uint32{pgtype.XIDOID})
		add("lock through the proxy", s.PlainLockSQL(), key)
		add("present", s.PresentSQL(), key)
		add("proof", s.ProofSQL(true, true), key, key)
		add("take back", s.TakeBackSQL(), key, []uint32{pgtype.XIDOID})
	} else {
		add("lock", s.LockSQL(), key)
		add("write one", s.WriteOneSQL(), key, cells)
	}
	add("verify", s.VerifySQL(false), count)
	add("verify, lower bound", s.VerifySQL(true), key, count)
	add("run of a verified sample", s.SampleRunSQL(), []uint32{pgtype.TIDOID, pgtype.TIDOID}, count)
	add("hops", s.HopsSQL())
	add("sample", s.SampleSQL())
	add("middle", s.MiddleSQL(true, true, 200_000, 64), key, key)
	return all
}
