package backfill_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// leastTypes and leastValues keep the lists from shrinking.
const leastTypes, leastValues = 39, 101

func TestTheListOfTypesIsLong(t *testing.T) {
	t.Parallel()
	types, values := 0, 0
	for _, f := range families() {
		types += len(f.kinds)
		for _, k := range f.kinds {
			values += len(k.values)
		}
	}
	t.Logf("%d types, %d values", types, values)
	if types < leastTypes || values < leastValues {
		t.Errorf("%d types and %d values are tested, want at least %d and %d", types, values, leastTypes, leastValues)
	}
}

// Every value of every type, sealed by the engine and opened again by a job in reverse: the bytes are the same, and NULL
// is NULL.
func TestEveryTypeSurvives(t *testing.T) {
	t.Parallel()
	for name, f := range families() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			var sources []string
			for i := range f.kinds {
				sources = append(sources, fmt.Sprintf("c%d", i))
			}
			k := prepare(t, ctx, engine.Pinned(f.sql()), engine.On(pg.Table{Schema: "public", Name: "items"}, sources...), engine.HostileDefaults)
			k.Start(ctx, 5)
			if job := k.Finish(ctx); job.State != work.Done || k.Quarantined(t) != 0 {
				t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
			}
			k.Proven(ctx, int64(f.rows()))
			if job := k.back(ctx); job.State != work.Done || k.Quarantined(t) != 0 {
				t.Fatalf("the job in reverse ended %s with %d rows in quarantine: %s", job.State, k.Quarantined(t), job.StoppedBy)
			}
			for i := range f.kinds {
				f.comeBack(k, i)
			}
		})
	}
}

// back runs a job in reverse that opens every column's cells into a column of the same type that was empty until then.
func (k *kit) back(ctx context.Context) work.Job {
	k.T.Helper()
	for i := range k.Columns {
		source, _ := k.Relation.Column(fmt.Sprintf("back%d", i))
		k.Columns[i].Source, k.Columns[i].SourceAttnum, k.Columns[i].Reverse = source.Name, source.Attnum, true
	}
	k.Start(ctx, 5)
	return k.Finish(ctx)
}

// sql makes the family's table: a column per type, a row per value, and a last row of NULLs alone.
func (f family) sql() string {
	var b strings.Builder
	b.WriteString(f.before + ";\nCREATE TABLE public.items (id bigint PRIMARY KEY")
	for i, k := range f.kinds {
		fmt.Fprintf(&b, ", c%d %s", i, k.sql)
	}
	for i, k := range f.kinds {
		fmt.Fprintf(&b, ", back%d %s", i, k.sql)
	}
	b.WriteString(")")
	for row := range f.rows() {
		fmt.Fprintf(&b, ";\nINSERT INTO public.items VALUES (%d", row)
		for _, k := range f.kinds {
			if row < len(k.values) {
				fmt.Fprintf(&b, ", %s::%s", pg.Literal(k.values[row]), k.sql)
			} else {
				b.WriteString(", NULL")
			}
		}
		b.WriteString(")")
	}
	return b.String()
}

// rows are as many as the longest list of values, and one of NULLs.
func (f family) rows() int {
	most := 0
	for _, k := range f.kinds {
		most = max(most, len(k.values))
	}
	return most + 1
}

// comeBack compares a column with what came back of it.
func (f family) comeBack(k *kit, column int) {
	k.T.Helper()
	kind := f.kinds[column]
	if n := testenv.One[int](k.T, k.DB, fmt.Sprintf(`SELECT count(*) FROM public.items WHERE c%d IS NOT DISTINCT FROM NULL AND c%[1]d_sealed IS NULL`, column)); n != f.rows()-len(kind.values) {
		k.T.Errorf("%s: %d rows are NULL and sealed as NULL, want %d", kind.sql, n, f.rows()-len(kind.values))
	}
	same := "record_image_eq(ROW(c%[1]d), ROW(back%[1]d)) AND "
	if kind.loose {
		same = ""
	}
	same += "pg_catalog.format('%%s', c%[1]d) = pg_catalog.format('%%s', back%[1]d)"
	for _, row := range testenv.Column[int](k.T, k.DB, fmt.Sprintf("SELECT id FROM public.items WHERE ("+same+") IS NOT TRUE", column)) {
		k.T.Errorf("%s %q came back as %q", kind.sql, kind.values[row],
			testenv.One[string](k.T, k.DB, fmt.Sprintf("SELECT pg_catalog.format('%%s', back%d) FROM public.items WHERE id = %d", column, row)))
	}
}

func TestTypesThatDoNotSurviveAreRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := testenv.Database(t)
	refused := map[string]string{
		"money": "make it numeric first", "money[]": "make it numeric first", "regclass": "names an object of this database", "regproc": "names an object of this database",
		"regrole[]": "names an object of this database", "oid": "names an object of this database", "xid": "system type", "tid": "system type", "pg_lsn": "system type",
		`"char"`: "system type", "public.holder": "it contains money", "public.holder[]": "it contains money", "public.spending": "it contains money",
		"public.kept": "names an object of this database",
	}
	db.Run(t, `CREATE TYPE public.holder AS (a int, b money); CREATE TYPE public.spending AS RANGE (subtype = money); CREATE DOMAIN public.kept AS regclass[]`)
	for name, why := range refused {
		table := pg.Table{Schema: "public", Name: "of " + name}
		db.Run(t, fmt.Sprintf(`CREATE TABLE %s (id int PRIMARY KEY, secret %s)`, table.SQL(), name))
		source, _ := must(pg.Inspect(ctx, db, table.Schema, table.Name))(t).Column("secret")
		if codec, err := cell.CodecFor(keyspace.TypeInfo(source.Base)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s is sealed with codec %v, %v; want a refusal that says %q", name, codec, err, why)
		}
	}
}
