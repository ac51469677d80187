package ddl_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// awkwardSwap moves everything that can be moved, under names that hold everything a name can.
func awkwardSwap() ddl.Swap {
	c := awkward()
	return ddl.Swap{Column: c, Strict: true, Plain: `e'mail "x"_plaintext`, Places: []ddl.Place{{Table: c.Table, Default: `'a''b'::text`, NotNull: true,
		PlainComment: `how to \reach 'em`, SealedComment: "cells",
		Grants: []ddl.Grant{{Privilege: "SELECT"}, {Privilege: "UPDATE", Grantee: "pg_read_all_data", Grantable: true}}}}}
}

func TestGoldenSwap(t *testing.T) {
	t.Parallel()
	byName := awkwardSwap()
	byName.Strict, byName.Plain, byName.Places = false, "", []ddl.Place{{Table: byName.Table, NullDefault: true}}
	for name, swap := range map[string]ddl.Swap{"swap": awkwardSwap(), "by_name": byName} {
		step := swap.Step()
		text := strings.Join(step.Do, ";\n") + ";\n-- undo\n" + strings.Join(step.Undo, ";\n") + ";\n"
		after := swap.Column
		if swap.Plain != "" {
			after.Source, after.Target = swap.Plain, swap.Source
		}
		for _, own := range []struct { // it has a golden file of its own; capture, undone, holds what undoes strict
			what string
			list []string
		}{{"capture", swap.Capture().Do}, {"capture, undone", swap.Capture().Undo}, {"strict", swap.Column.Strict().Do}, {"strict, undone", swap.Column.Strict().Undo},
			{"reverse capture", after.ReverseCapture().Do}, {"reverse capture, undone", after.ReverseCapture().Undo}} {
			text = strings.ReplaceAll(text, strings.Join(own.list, ";\n")+";\n", "-- "+own.what+"\n")
		}
		compareGolden(t, name, text)
	}
}

// placesSQL is everything that a swap touches: columns with what hangs on them, constraints, triggers, functions. An
// empty list of rights is as good as none.
const placesSQL = `SELECT concat_ws(' ', attrelid::regclass, attname, attnum, attnotnull, nullif(attacl, '{}'), pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
  FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace <> 11 AND relkind IN ('r', 'p', 'S')) AND attnum > 0
 UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace <> 11
 UNION ALL SELECT concat_ws(' ', tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
 UNION ALL SELECT concat_ws(' ', proname, prosrc) FROM pg_proc WHERE pronamespace = 'cipherfleet'::regnamespace ORDER BY 1`

func TestSwapUndoes(t *testing.T) {
	t.Parallel()
	swap := awkwardSwap()
	f := prepare(t, swap.Column, awkwardSchema, awkwardTable)
	swap.Types = f.Types
	table, plain, sealed := swap.Table.SQL(), pg.Ident(swap.Source), pg.Ident(swap.Target)
	f.Run(t, "ALTER TABLE "+table+" ALTER "+plain+" SET DEFAULT 'a''b', ALTER "+plain+" SET NOT NULL")
	f.Run(t, "COMMENT ON COLUMN "+table+"."+plain+` IS E'how to \\reach ''em'`)
	f.Run(t, "COMMENT ON COLUMN "+table+"."+sealed+` IS 'cells'`)
	f.Run(t, "GRANT SELECT ("+plain+") ON "+table+" TO PUBLIC")
	f.Run(t, "GRANT UPDATE ("+plain+") ON "+table+" TO pg_read_all_data WITH GRANT OPTION")
	f.do(t, swap.Column.Strict().Do)
	before := testenv.Column[string](t, f, placesSQL)
	step := swap.Step()
	f.do(t, step.Do)
	if have := testenv.One[string](t, f, `SELECT concat_ws(' | ', attname, attnotnull, attacl, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = $1::regclass AND attname = $2`, table, swap.Source); !strings.Contains(have, "=r/") ||
		!strings.Contains(have, "pg_read_all_data=w*/") || !strings.HasSuffix(have, `| how to \reach 'em`) {
		t.Errorf("the cell column is %s", have)
	}
	if have := testenv.One[string](t, f, `SELECT concat_ws(' | ', attnotnull, pg_get_expr(adbin, adrelid)) FROM pg_attribute
		LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = $1::regclass AND attname = $2`, table, swap.Plain); have != "f" {
		t.Errorf("the plaintext column is %s", have)
	}
	now := swap.Column
	now.Target = swap.Source
	f.do(t, now.ValidatePresent().Do)
	f.do(t, now.Require().Do)
	if !testenv.One[bool](t, f, `SELECT attnotnull FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2`, table, swap.Source) {
		t.Error("the cells may be NULL")
	}
	f.do(t, step.Undo)
	if after := testenv.Column[string](t, f, placesSQL); !slices.Equal(after, before) {
		t.Errorf("undone, it is not as it was:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// The index is used under a lock, where a scan would take as long as the table is large.
func TestUncoveredIsAnsweredByItsIndex(t *testing.T) {
	t.Parallel()
	f := users(t, "text")
	f.Run(t, "INSERT INTO users SELECT g FROM generate_series(1, 1000) g")
	leaf := pg.Named{OID: testenv.One[uint32](t, f, "SELECT 'users'::regclass::oid"), Schema: "public", Name: "users"}
	f.Run(t, f.UncoveredIndex(leaf).Do[0])
	f.Run(t, f.UncoveredIndex(leaf).Do[0])
	if testenv.One[bool](t, f, f.Uncovered(leaf)) {
		t.Error("a row without a value is uncovered")
	}
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		_, err := tx.Exec(t.Context(), "SET LOCAL enable_seqscan = off") // the table is small
		plan := strings.Join(testenv.Column[string](t, tx, "EXPLAIN "+f.Uncovered(leaf)), "\n")
		if !strings.Contains(plan, f.UncoveredIndexName(leaf)) || strings.Contains(plan, "Seq Scan") {
			t.Error(plan)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Run(t, "INSERT INTO users VALUES (0, 'a')")
	if !testenv.One[bool](t, f, f.Uncovered(leaf)) {
		t.Error("a row without a cell is covered")
	}
	f.Run(t, f.UncoveredIndex(leaf).Undo[0])
	if n := testenv.One[int](t, f, "SELECT count(*) FROM pg_class WHERE relname = $1", f.UncoveredIndexName(leaf)); n != 0 {
		t.Error("the index is still there")
	}
}
