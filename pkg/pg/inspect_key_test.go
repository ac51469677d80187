package pg_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestInspectKeys(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE EXTENSION citext`, `CREATE EXTENSION btree_gist`,
		`CREATE TABLE t (a int NOT NULL, b text NOT NULL, "c d" citext NOT NULL, may_be_null int, e int4range NOT NULL)`,
		`CREATE UNIQUE INDEX k_good ON t ("c d", a) INCLUDE (b)`,
		`CREATE UNIQUE INDEX k_down ON t (a DESC, b DESC)`,
		`ALTER TABLE t ADD CONSTRAINT k_primary PRIMARY KEY (b, a)`,
		`ALTER TABLE t ADD CONSTRAINT k_deferrable UNIQUE (a) DEFERRABLE`,
		`CREATE UNIQUE INDEX k_partial ON t (a) WHERE b > ''`,
		`CREATE UNIQUE INDEX k_expression ON t (lower(b), a)`,
		`CREATE UNIQUE INDEX k_null ON t (may_be_null, a)`,
		`CREATE UNIQUE INDEX k_class ON t (b text_pattern_ops)`,
		`CREATE UNIQUE INDEX k_collation ON t (b COLLATE "C")`,
		`CREATE UNIQUE INDEX k_mixed ON t (b, a DESC)`,
		`CREATE UNIQUE INDEX k_nulls ON t (b NULLS FIRST)`,
		`CREATE UNIQUE INDEX k_invalid ON t (e)`, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'k_invalid'::regclass`,
		`ALTER TABLE t ADD CONSTRAINT k_exclusion EXCLUDE USING gist (a WITH =, e WITH &&)`, `CREATE INDEX k_plain ON t (a)`)
	r := inspect(t, db, "public", "t")
	have := map[string][]string{}
	for _, k := range r.Keys {
		have[k.String()] = k.Unusable
		if k.Usable() != (len(k.Unusable) == 0) {
			t.Errorf("%s: usable %v", k, k.Usable())
		}
	}
	same(t, "keys", have, map[string][]string{
		"k_good (c d, a)":         {},
		"k_down (a, b)":           {},
		"k_primary (b, a)":        {},
		"k_deferrable (a)":        {"it is deferrable"},
		"k_partial (a)":           {"it is partial"},
		"k_expression (, a)":      {"it holds an expression"},
		"k_null (may_be_null, a)": {`column "may_be_null" may be NULL`},
		"k_class (b)":             {`column "b" has an operator class that is not its type's default`},
		"k_collation (b)":         {`column "b" is indexed under another collation than its own`},
		"k_mixed (b, a)":          {"its columns do not all run in one plain direction"},
		"k_nulls (b)":             {"its columns do not all run in one plain direction"},
		"k_invalid (e)":           {"it is not valid"},
	})
	if k, ok := r.UsableKey(); !ok || !k.Primary || k.Index.Name != "k_primary" {
		t.Errorf("usable key is %s, %v", k, ok)
	}
	run(t, db, `ALTER TABLE t DROP CONSTRAINT k_primary`)
	r = inspect(t, db, "public", "t")
	if k, ok := r.UsableKey(); !ok || k.Index.Name != "k_down" {
		t.Errorf("without a primary key the usable key is %s, %v", k, ok)
	}
	run(t, db, `DROP INDEX k_down, k_good`)
	if k, ok := inspect(t, db, "public", "t").UsableKey(); ok {
		t.Errorf("with no fit index the usable key is %s", k)
	}
}

func TestInspectKeyOperators(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE SCHEMA "Ex t"`, `CREATE EXTENSION citext SCHEMA "Ex t"`, `CREATE TABLE t (a varchar(9), b "Ex t".citext, PRIMARY KEY (b, a))`)
	k, _ := inspect(t, db, "public", "t").UsableKey()
	ops := func(schema string) pg.Operators {
		op := func(name string) pg.Operator { return pg.Operator{Schema: schema, Name: name} }
		return pg.Operators{Less: op("<"), LessEqual: op("<="), Equal: op("="), GreaterEqual: op(">="), Greater: op(">")}
	}
	same(t, "key columns", k.Columns, []pg.KeyColumn{{Name: "b", Attnum: 2, Operators: ops("Ex t")}, {Name: "a", Attnum: 1, Operators: ops("pg_catalog")}})
	if sql := k.Columns[0].Operators.Equal.SQL(); sql != `OPERATOR("Ex t".=)` {
		t.Errorf("operator is spelled %s", sql)
	}
	tx := alone(t, db)
	run(t, tx, `SET LOCAL search_path = ''`)
	if !testenv.One[bool](t, tx, `SELECT 'A'::"Ex t".citext `+k.Columns[0].Operators.Equal.SQL()+` 'a'::"Ex t".citext`) {
		t.Error("the operator of the key is not citext's own")
	}
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `CREATE TABLE t (a int NOT NULL, b int NOT NULL, c int)`, `CREATE UNIQUE INDEX a1 ON t (a, b) WHERE c = 1`, `CREATE UNIQUE INDEX a2 ON t (b, a)`,
		`CREATE UNIQUE INDEX c1 ON t (c)`, `CREATE INDEX p ON t (b)`)
	r := inspect(t, db, "public", "t")
	if k, ok := r.KeyOf([]string{"a", "b"}); !ok || k.Index.Name != "a2" {
		t.Errorf("key of a and b is %s, %v", k, ok)
	}
	if k, ok := r.KeyOf([]string{"c"}); !ok || k.Index.Name != "c1" || k.Usable() {
		t.Errorf("key of c is %s, %v", k, ok)
	}
	for _, columns := range [][]string{{"b"}, {"a"}, {"a", "b", "c"}, nil} {
		if k, ok := r.KeyOf(columns); ok {
			t.Errorf("key of %v is %s", columns, k)
		}
	}
}
