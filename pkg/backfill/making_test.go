package backfill_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// making prepares a table whose column an expression makes: public.items, of the SQL given. Inputs are filled in by the
// names that the expression has.
func making(t testing.TB, ctx context.Context, sql, source, target string, e ddl.Expression) *kit {
	t.Helper()
	k := &kit{t: t, table: pg.Table{Schema: "public", Name: "items"}, sources: []string{source}, budget: 100, lease: 10 * time.Second, db: testenv.Database(t),
		timeouts: backfill.Timeouts{Lock: 400 * time.Millisecond, Statement: 5 * time.Second}, keyring: cell.NewKeyring([16]byte{}),
		wrap: func(inner transform.Transform) transform.Transform { return inner }}
	k.db.Run(t, sql)
	k.relation = k.inspect(ctx)
	for _, list := range [][]ddl.Input{e.Inputs, e.Judges} {
		for i := range list {
			column, _ := k.relation.Column(list[i].Name)
			list[i].Attnum = column.Attnum
		}
	}
	from, _ := k.relation.Column(source)
	to, _ := k.relation.Column(target)
	var column lifecycle.Column
	check(t, k.db.InTx(ctx, func(tx pg.Tx) (err error) {
		column, err = lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: k.relation.OID, SourceNum: from.Attnum, TargetNum: to.Attnum,
			Table: k.table, Source: source, Target: target, Type: from.Type, Collation: from.Collation})
		return err
	}))
	c := ddl.Column{ID: column.ID, Table: k.table, Source: source, Target: target, Key: k.key().Names(), Expression: &e}
	spec := work.Column{ID: c.ID, Source: source, Target: target, SourceAttnum: from.Attnum, TargetAttnum: to.Attnum, Expression: &e,
		LogTable: k.table.String(), LogColumn: source}
	check(t, k.db.InTx(ctx, func(tx pg.Tx) error {
		for _, statement := range c.Capture().Do {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		for _, kind := range []lifecycle.Kind{lifecycle.KindSchemaAdded, lifecycle.KindDualWriting} {
			if _, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: kind}); err != nil {
				return err
			}
		}
		return nil
	}))
	k.columns = []work.Column{spec}
	k.jobs = &work.Jobs{DB: k.db.DB, Log: &lifecycle.Log{}}
	k.ranges = &work.Ranges{DB: k.db.DB, Worker: "w1", Lease: k.lease}
	k.relation = k.inspect(ctx)
	return k
}

// reads are the inputs of these names.
func reads(names ...string) (list []ddl.Input) {
	for _, name := range names {
		list = append(list, ddl.Input{Name: name})
	}
	return list
}

// rewritten counts the updates that the fleet makes, by a trigger of its own.
const rewritten = `CREATE TABLE public.written (n bigint);
CREATE FUNCTION public.count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.written VALUES (1); RETURN NULL; END $$;
CREATE TRIGGER counting AFTER UPDATE ON public.items FOR EACH ROW WHEN (current_setting('cipherfleet.writer', true) = 'fleet') EXECUTE FUNCTION public.count_it();`

func (k *kit) writes() int64 {
	k.t.Helper()
	return testenv.One[int64](k.t, k.db, `SELECT count(*) FROM public.written`)
}

const mails = `CREATE TABLE public.items (id bigint PRIMARY KEY, mail text, norm text);
INSERT INTO public.items SELECT i, CASE WHEN i % 10 = 0 THEN NULL ELSE ' User' || i || '@Example.COM ' END FROM generate_series(1, 3000) i;` + rewritten

func TestExpressionMakesEveryValueOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, mails, "mail", "norm", ddl.Expression{SQL: "lower(btrim(mail))", Inputs: reads("mail"), Type: "text"})
	for range 2 { // the second job finds nothing to do
		k.start(ctx, 400)
		if job := k.finish(ctx); job.State != work.Done {
			t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
		}
		if n := k.writes(); n != 2700 {
			t.Fatalf("%d rows were written, want 2700: where it makes NULL, nothing is to be written", n)
		}
	}
	if n := testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE norm IS DISTINCT FROM lower(btrim(mail))`); n != 0 {
		t.Errorf("%d rows have another value", n)
	}
	if n := testenv.One[int64](t, k.db, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); n != 2700 {
		t.Errorf("checkpoints count %d rows, want 2700", n)
	}
	k.proven(ctx, 3000)
	k.db.Run(t, `ALTER TABLE public.items DISABLE TRIGGER USER; UPDATE public.items SET norm = 'x' WHERE id = 1; UPDATE public.items SET norm = NULL WHERE id = 2; ALTER TABLE public.items ENABLE TRIGGER USER`)
	if r := k.verify(ctx)[0]; r.Stale != 1 || r.Uncovered != 1 || r.Covered != 2998 || len(r.Examples) != 1 {
		t.Errorf("verification found %+v", r)
	}
}

func TestExpressionThatRaisesIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, of int, parts int, share numeric(10,2));
INSERT INTO public.items SELECT i, i, CASE WHEN i IN (7, 500, 501, 2999, 3000) THEN 0 ELSE 3 END FROM generate_series(1, 3000) i;`+rewritten,
		"of", "share", ddl.Expression{SQL: "((of)::numeric / parts)", Inputs: reads("of", "parts"), Type: "numeric(10,2)"})
	k.start(ctx, 1000)
	if job := k.finish(ctx); job.State != work.Failed {
		t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
	}
	if n := k.writes(); n != 2995 {
		t.Errorf("%d rows were written, want 2995", n)
	}
	got := testenv.One[string](t, k.db, `SELECT string_agg(concat(key[1], ' ', reason), ', ' ORDER BY key[1]::int) FROM cipherfleet.quarantine WHERE resolved_at IS NULL`)
	const why = " the expression raises an error: SQLSTATE 22012"
	if want := "7" + why + ", 500" + why + ", 501" + why + ", 2999" + why + ", 3000" + why; got != want {
		t.Errorf("quarantine holds %s", got)
	}
	if r := k.verify(ctx)[0]; r.Broken != 5 || r.Covered != 2995 || r.Rows != 3000 {
		t.Errorf("verification found %+v", r)
	}
	k.db.Run(t, `UPDATE public.items SET parts = 6 WHERE parts = 0`)
	k.start(ctx, 1000)
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
	}
	if n := k.writes(); n != 2995 {
		t.Errorf("%d rows were written by the fleet, want 2995: capture made the others", n)
	}
	k.proven(ctx, 3000)
}

// What does not fit into the target is refused by it, and named by its class.
func TestExpressionThatDoesNotFitIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, mail text, norm varchar(5));
INSERT INTO public.items VALUES (1, 'short'), (2, 'too long'), (3, NULL)`, "mail", "norm", ddl.Expression{SQL: "mail", Inputs: reads("mail"), Type: "character varying(5)"})
	k.start(ctx, 1000)
	k.finish(ctx)
	if got := testenv.One[string](t, k.db, `SELECT concat(key[1], ' ', reason) FROM cipherfleet.quarantine WHERE resolved_at IS NULL`); got != "2 the database refuses the write: SQLSTATE 22001" {
		t.Errorf("quarantine holds %s", got)
	}
}

func TestExpressionInPlaceByVersion(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (tenant int, id uuid DEFAULT gen_random_uuid(), phone text, form smallint, PRIMARY KEY (tenant, id));
INSERT INTO public.items (tenant, phone) SELECT i % 3, '+41 ' || i FROM generate_series(1, 2000) i;`+rewritten,
		"phone", "phone", ddl.Expression{SQL: "(phone || 'x'::text)", Inputs: reads("phone"), Type: "text", Version: "form", Number: 2})
	for range 2 {
		k.start(ctx, 300)
		if job := k.finish(ctx); job.State != work.Done {
			t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
		}
		if n := k.writes(); n != 2000 {
			t.Fatalf("%d rows were written, want 2000", n)
		}
	}
	k.proven(ctx, 2000)
	if n := testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE phone ~ '^[+]41 [0-9]+x$' AND form = 2`); n != 2000 {
		t.Errorf("%d rows were made once, want 2000", n)
	}
	k.db.Run(t, `UPDATE public.items SET phone = 'new' WHERE tenant = 1 AND phone LIKE '%1x'`)
	changed := testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items WHERE form = 1 AND phone = 'new'`)
	if changed == 0 {
		t.Fatal("a write by an application did not take the version back")
	}
	k.start(ctx, 300)
	k.finish(ctx)
	if n := k.writes(); n != 2000+changed {
		t.Errorf("%d rows were written, want %d more than 2000", n, changed)
	}
	k.proven(ctx, 2000)
}

func TestExpressionInPlaceByCondition(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (id int PRIMARY KEY, phone text);
INSERT INTO public.items SELECT i, '+41 ' || i FROM generate_series(1, 500) i; INSERT INTO public.items VALUES (0, NULL);`+rewritten,
		"phone", "phone", ddl.Expression{SQL: "translate(phone, ' +'::text, ''::text)", Inputs: reads("phone"), Type: "text",
			When: "((phone IS NULL) OR (phone !~ '[^0-9]'::text))", Judges: reads("phone")})
	k.start(ctx, 100)
	if job := k.finish(ctx); job.State != work.Done || k.writes() != 500 {
		t.Fatalf("the job is %s: %s; %d rows were written", job.State, job.StoppedBy, k.writes())
	}
	k.proven(ctx, 501)
}

func TestGoldenOfExpressions(t *testing.T) {
	t.Parallel()
	const table = `CREATE TABLE public.items (id bigint PRIMARY KEY, mail text, norm text, "the Form" int); INSERT INTO public.items SELECT i FROM generate_series(1, 3000) i`
	byImage := ddl.Expression{SQL: "lower(mail)", Inputs: reads("mail"), Type: "text"}
	byVersion, byCondition := byImage, byImage
	byVersion.Version, byVersion.Number = "the Form", 3
	byCondition.When, byCondition.Judges = "(norm IS NOT NULL)", reads("norm")
	for name, e := range map[string]ddl.Expression{"made": byImage, "made_by_version": byVersion, "made_by_condition": byCondition} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := making(t, ctx, table, "mail", "norm", e)
			k.start(ctx, 1000)
			statements := backfill.GeneratedBy(k.shape(ctx, k.relation.OID))
			var text strings.Builder
			for _, g := range statements {
				fmt.Fprintf(&text, "-- %s\n%s;\n\n", g.Name, g.SQL)
			}
			compareGolden(t, name, text.String())
			k.db.Run(t, "ANALYZE public.items")
			k.prepareAll(ctx, statements)
		})
	}
}

// While the fleet works, an application writes what the expression reads: no value is older than its source.
func TestExpressionUnderWrites(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, mails, "mail", "norm", ddl.Expression{SQL: "lower(btrim(mail))", Inputs: reads("mail"), Type: "text"})
	k.limits.Rows = 50
	k.start(ctx, 300)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			_, err := k.db.Exec(ctx, `UPDATE public.items SET mail = $1 WHERE id % 97 = $2::int % 97`, fmt.Sprintf(" NEW %d ", n), n)
			if err == nil {
				_, err = k.db.Exec(ctx, `INSERT INTO public.items (id, mail, norm) VALUES ($1, 'MORE', 'wrong')`, 10_000+n)
			}
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	job := k.finish(ctx)
	close(stop)
	check(t, <-stopped)
	if job.State != work.Done {
		t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, testenv.One[int64](t, k.db, `SELECT count(*) FROM public.items`))
	if sum, n := testenv.One[int64](t, k.db, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`), k.writes(); sum != n {
		t.Errorf("checkpoints count %d rows, the table %d", sum, n)
	}
}
