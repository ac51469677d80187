package backfill_test

import (
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// rewritten counts the updates that the fleet makes, by a trigger of its own.
const rewritten = `CREATE TABLE public.written (n bigint);
CREATE FUNCTION public.count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.written VALUES (1); RETURN NULL; END $$;
CREATE TRIGGER counting AFTER UPDATE ON public.items FOR EACH ROW WHEN (current_setting('cipherfleet.writer', true) = 'fleet') EXECUTE FUNCTION public.count_it();`

func (k *kit) writes() int64 {
	k.T.Helper()
	return testenv.One[int64](k.T, k.DB, `SELECT count(*) FROM public.written`)
}

const mails = `CREATE TABLE public.items (id bigint PRIMARY KEY, mail text, norm text);
INSERT INTO public.items SELECT i, CASE WHEN i % 10 = 0 THEN NULL ELSE ' User' || i || '@Example.COM ' END FROM generate_series(1, 3000) i;` + rewritten

func TestExpressionMakesEveryValueOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, mails, "mail", "norm", ddl.Expression{SQL: "lower(btrim(mail))", Inputs: engine.Reads("mail"), Type: "text"})
	for range 2 { // the second job finds nothing to do
		k.Start(ctx, 400)
		if job := k.Finish(ctx); job.State != work.Done {
			t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
		}
		if n := k.writes(); n != 2700 {
			t.Fatalf("%d rows were written, want 2700: where it makes NULL, nothing is to be written", n)
		}
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE norm IS DISTINCT FROM lower(btrim(mail))`); n != 0 {
		t.Errorf("%d rows have another value", n)
	}
	if n := testenv.One[int64](t, k.DB, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`); n != 2700 {
		t.Errorf("checkpoints count %d rows, want 2700", n)
	}
	k.Proven(ctx, 3000)
	k.DB.Run(t, `ALTER TABLE public.items DISABLE TRIGGER USER; UPDATE public.items SET norm = 'x' WHERE id = 1; UPDATE public.items SET norm = NULL WHERE id = 2; ALTER TABLE public.items ENABLE TRIGGER USER`)
	if r := k.Verify(ctx)[0]; r.Stale != 1 || r.Uncovered != 1 || r.Covered != 2998 || len(r.Examples) != 1 {
		t.Errorf("verification found %+v", r)
	}
}

func TestExpressionThatRaisesIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, of int, parts int, share numeric(10,2));
INSERT INTO public.items SELECT i, i, CASE WHEN i IN (7, 500, 501, 2999, 3000) THEN 0 ELSE 3 END FROM generate_series(1, 3000) i;`+rewritten,
		"of", "share", ddl.Expression{SQL: "((of)::numeric / parts)", Inputs: engine.Reads("of", "parts"), Type: "numeric(10,2)"})
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Failed {
		t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
	}
	if n := k.writes(); n != 2995 {
		t.Errorf("%d rows were written, want 2995", n)
	}
	got := testenv.One[string](t, k.DB, `SELECT string_agg(concat(key[1], ' ', reason), ', ' ORDER BY key[1]::int) FROM cipherfleet.quarantine WHERE resolved_at IS NULL`)
	const why = " the expression raises an error: SQLSTATE 22012"
	if want := "7" + why + ", 500" + why + ", 501" + why + ", 2999" + why + ", 3000" + why; got != want {
		t.Errorf("quarantine holds %s", got)
	}
	if r := k.Verify(ctx)[0]; r.Broken != 5 || r.Covered != 2995 || r.Rows != 3000 {
		t.Errorf("verification found %+v", r)
	}
	k.DB.Run(t, `UPDATE public.items SET parts = 6 WHERE parts = 0`)
	k.Start(ctx, 1000)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
	}
	if n := k.writes(); n != 2995 {
		t.Errorf("%d rows were written by the fleet, want 2995: capture made the others", n)
	}
	k.Proven(ctx, 3000)
}

// What does not fit into the target is refused by it, and named by its class.
func TestExpressionThatDoesNotFitIsQuarantined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (id bigint PRIMARY KEY, mail text, norm varchar(5));
INSERT INTO public.items VALUES (1, 'short'), (2, 'too long'), (3, NULL)`, "mail", "norm", ddl.Expression{SQL: "mail", Inputs: engine.Reads("mail"), Type: "character varying(5)"})
	k.Start(ctx, 1000)
	k.Finish(ctx)
	if got := testenv.One[string](t, k.DB, `SELECT concat(key[1], ' ', reason) FROM cipherfleet.quarantine WHERE resolved_at IS NULL`); got != "2 the database refuses the write: SQLSTATE 22001" {
		t.Errorf("quarantine holds %s", got)
	}
}

func TestExpressionInPlaceByVersion(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (tenant int, id uuid DEFAULT gen_random_uuid(), phone text, form smallint, PRIMARY KEY (tenant, id));
INSERT INTO public.items (tenant, phone) SELECT i % 3, '+41 ' || i FROM generate_series(1, 2000) i;`+rewritten,
		"phone", "phone", ddl.Expression{SQL: "(phone || 'x'::text)", Inputs: engine.Reads("phone"), Type: "text", Version: "form", Number: 2})
	for range 2 {
		k.Start(ctx, 300)
		if job := k.Finish(ctx); job.State != work.Done {
			t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
		}
		if n := k.writes(); n != 2000 {
			t.Fatalf("%d rows were written, want 2000", n)
		}
	}
	k.Proven(ctx, 2000)
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE phone ~ '^[+]41 [0-9]+x$' AND form = 2`); n != 2000 {
		t.Errorf("%d rows were made once, want 2000", n)
	}
	k.DB.Run(t, `UPDATE public.items SET phone = 'new' WHERE tenant = 1 AND phone LIKE '%1x'`)
	changed := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE form = 1 AND phone = 'new'`)
	if changed == 0 {
		t.Fatal("a write by an application did not take the version back")
	}
	k.Start(ctx, 300)
	k.Finish(ctx)
	if n := k.writes(); n != 2000+changed {
		t.Errorf("%d rows were written, want %d more than 2000", n, changed)
	}
	k.Proven(ctx, 2000)
}

func TestExpressionInPlaceByCondition(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, `CREATE TABLE public.items (id int PRIMARY KEY, phone text);
INSERT INTO public.items SELECT i, '+41 ' || i FROM generate_series(1, 500) i; INSERT INTO public.items VALUES (0, NULL);`+rewritten,
		"phone", "phone", ddl.Expression{SQL: "translate(phone, ' +'::text, ''::text)", Inputs: engine.Reads("phone"), Type: "text",
			When: "((phone IS NULL) OR (phone !~ '[^0-9]'::text))", Judges: engine.Reads("phone")})
	k.Start(ctx, 100)
	if job := k.Finish(ctx); job.State != work.Done || k.writes() != 500 {
		t.Fatalf("the job is %s: %s; %d rows were written", job.State, job.StoppedBy, k.writes())
	}
	k.Proven(ctx, 501)
}

// While the fleet works, an application writes what the expression reads: no value is older than its source.
func TestExpressionUnderWrites(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := making(t, ctx, mails, "mail", "norm", ddl.Expression{SQL: "lower(btrim(mail))", Inputs: engine.Reads("mail"), Type: "text"})
	k.Limits.Rows = 50
	k.Start(ctx, 300)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			_, err := k.DB.Exec(ctx, `UPDATE public.items SET mail = $1 WHERE id % 97 = $2::int % 97`, fmt.Sprintf(" NEW %d ", n), n)
			if err == nil {
				_, err = k.DB.Exec(ctx, `INSERT INTO public.items (id, mail, norm) VALUES ($1, 'MORE', 'wrong')`, 10_000+n)
			}
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	job := k.Finish(ctx)
	close(stop)
	check(t, <-stopped)
	if job.State != work.Done {
		t.Fatalf("the job is %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items`))
	if sum, n := testenv.One[int64](t, k.DB, `SELECT sum(rows_processed)::bigint FROM cipherfleet.events WHERE event = 'backfill_checkpoint'`), k.writes(); sum != n {
		t.Errorf("checkpoints count %d rows, the table %d", sum, n)
	}
}
