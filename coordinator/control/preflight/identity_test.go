package preflight_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// What a preflight says of a published table is what Postgres says of an UPDATE.
func TestPreflightRefusesATableWhosePublishedUpdatesHaveNoIdentity(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	const (
		bare   = `CREATE TABLE t (id int NOT NULL UNIQUE, email text); `
		parted = `CREATE TABLE t (id int NOT NULL, email text, UNIQUE (id)) PARTITION BY HASH (id); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0); `
		nested = `CREATE TABLE t (id int NOT NULL, email text, UNIQUE (id)) PARTITION BY HASH (id); CREATE TABLE m PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0) PARTITION BY HASH (id);
			CREATE TABLE t0 PARTITION OF m FOR VALUES WITH (MODULUS 1, REMAINDER 0); `
	)
	for name, test := range map[string]struct{ setup, leaf, refused string }{
		"unpublished":                  {bare, "t", ""},
		"table":                        {bare + `CREATE PUBLICATION p FOR TABLE t`, "t", `ALTER TABLE "s"."t" REPLICA IDENTITY USING INDEX "t_id_key"`},
		"all tables":                   {bare + `CREATE PUBLICATION p FOR ALL TABLES`, "t", `ALTER TABLE "s"."t" REPLICA IDENTITY USING INDEX "t_id_key"`},
		"schema":                       {bare + `CREATE PUBLICATION p FOR TABLES IN SCHEMA s`, "t", `ALTER TABLE "s"."t" REPLICA IDENTITY USING INDEX "t_id_key"`},
		"inserts only":                 {bare + `CREATE PUBLICATION p FOR TABLE t WITH (publish = 'insert, delete')`, "t", ""},
		"full":                         {bare + `ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t`, "t", ""},
		"index":                        {bare + `ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key; CREATE PUBLICATION p FOR TABLE t`, "t", ""},
		"primary key":                  {users + `; CREATE PUBLICATION p FOR TABLE t`, "t", ""},
		"primary key and nothing":      {users + `; ALTER TABLE t REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE t`, "t", `USING INDEX "t_pkey"`},
		"deferrable primary key":       {`CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, other int NOT NULL UNIQUE, email text); CREATE PUBLICATION p FOR TABLE t`, "t", `USING INDEX "t_other_key"`},
		"root":                         {parted + `CREATE PUBLICATION p FOR TABLE t`, "t0", `ALTER TABLE "s"."t0" REPLICA IDENTITY FULL`},
		"via root":                     {parted + `CREATE PUBLICATION p FOR TABLE t WITH (publish_via_partition_root)`, "t0", `ALTER TABLE "s"."t0" REPLICA IDENTITY FULL`},
		"all tables via root":          {parted + `CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root)`, "t0", `ALTER TABLE "s"."t0" REPLICA IDENTITY FULL`},
		"leaf":                         {parted + `CREATE PUBLICATION p FOR TABLE t0`, "t0", `ALTER TABLE "s"."t0" REPLICA IDENTITY FULL`},
		"middle via root":              {nested + `CREATE PUBLICATION p FOR TABLE m WITH (publish_via_partition_root)`, "t0", `ALTER TABLE "s"."t0" REPLICA IDENTITY FULL`},
		"full root over default leaf":  {parted + `ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t WITH (publish_via_partition_root)`, "t0", `ALTER TABLE "s"."t0" REPLICA IDENTITY FULL`},
		"full leaf below default root": {parted + `ALTER TABLE t0 REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t`, "t0", ""},
		"partitions with primary key":  {strings.Replace(parted, "UNIQUE (id)", "PRIMARY KEY (id)", 1) + `CREATE PUBLICATION p FOR ALL TABLES`, "t0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			db.Run(t, `CREATE SCHEMA s`)
			inSchema(t, db, "s", test.setup)
			defer db.Run(t, `DROP SCHEMA s CASCADE`)
			defer db.Run(t, `DROP PUBLICATION IF EXISTS p`)
			_, oracle := db.Exec(t.Context(), `UPDATE ONLY s.`+test.leaf+` SET email = email`)
			if (pg.Code(oracle) == "55000") != (test.refused != "") {
				t.Fatalf("Postgres says %v of an update", oracle)
			}
			if test.refused != "" {
				refused(t, db.DB, db.DB, ask("s"), refusal{field: "table", hint: test.refused,
					message: `publication "p" carries the updates of s.` + test.leaf + `, which has no replica identity: Postgres refuses to update it`})
				return
			}
			_, err := preflight.Check(t.Context(), db.DB, ask("s"))
			if err != nil {
				t.Errorf("have %v", err)
			}
		})
	}
}

// A publication may carry some rows or some columns only. What a preflight says is what Postgres says of an UPDATE.
func TestPreflightRefusesATableWhosePublishedPartHasNoIdentity(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	if testenv.One[int](t, db, `SELECT current_setting('server_version_num')::int`) < 150000 {
		return // no publication carries a part of a table
	}
	const parted = `CREATE TABLE t (id int PRIMARY KEY, email text, kind text) PARTITION BY HASH (id); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0); `
	const plain = `CREATE TABLE t (id int PRIMARY KEY, email text, kind text); `
	for name, test := range map[string]struct {
		setup, leaf string
		refused     bool
	}{
		"row filter":                         {plain + `CREATE PUBLICATION p FOR TABLE t WHERE (kind = 'x')`, "t", true},
		"row filter over the source":         {plain + `CREATE PUBLICATION p FOR TABLE t WHERE (email = 'x')`, "t", true},
		"row filter over the key":            {plain + `CREATE PUBLICATION p FOR TABLE t WHERE (id > 3)`, "t", false},
		"row filter with full identity":      {plain + `ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t WHERE (kind = 'x')`, "t", false},
		"row filter of inserts":              {plain + `CREATE PUBLICATION p FOR TABLE t WHERE (kind = 'x') WITH (publish = 'insert')`, "t", false},
		"columns without the key":            {plain + `CREATE PUBLICATION p FOR TABLE t (email)`, "t", true},
		"columns with the key":               {plain + `CREATE PUBLICATION p FOR TABLE t (id, email)`, "t", false},
		"columns with full identity":         {plain + `ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE t (id, email)`, "t", true},
		"another publication of everything":  {plain + `CREATE PUBLICATION p FOR ALL TABLES`, "t", false},
		"row filter of a root":               {parted + `CREATE PUBLICATION p FOR TABLE t WHERE (kind = 'x') WITH (publish_via_partition_root)`, "t0", true},
		"row filter of a root over the key":  {parted + `CREATE PUBLICATION p FOR TABLE t WHERE (id > 3) WITH (publish_via_partition_root)`, "t0", false},
		"columns of a partition without key": {parted + `CREATE PUBLICATION p FOR TABLE t0 (email)`, "t0", true},
	} {
		t.Run(name, func(t *testing.T) {
			db.Run(t, `CREATE SCHEMA s`)
			inSchema(t, db, "s", test.setup)
			defer db.Run(t, `DROP SCHEMA s CASCADE`)
			defer db.Run(t, `DROP PUBLICATION IF EXISTS p`)
			_, oracle := db.Exec(t.Context(), `UPDATE ONLY s.`+test.leaf+` SET email = email`)
			if (pg.Code(oracle) == "42P10") != test.refused {
				t.Fatalf("Postgres says %v of an update", oracle)
			}
			if test.refused {
				refused(t, db.DB, db.DB, ask("s"), refusal{field: "table", hint: "REPLICA IDENTITY",
					message: `publication "p" carries the updates of s.` + test.leaf + ` by a row filter or a list of columns that does not fit its replica identity: Postgres refuses to update it`})
				return
			}
			if _, err := preflight.Check(t.Context(), db.DB, ask("s")); err != nil {
				t.Errorf("have %v", err)
			}
		})
	}
}
