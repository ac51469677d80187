package backfill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

func jsonb(k *engine.Kit) { engine.Made(ddl.PayloadJSON, "jsonb")(k) }

// opened is SQL that brings a target back to its source's text.
func opened(payload ddl.Payload, target string) string {
	hidden := map[ddl.Payload]string{ddl.PayloadText: target, ddl.PayloadJSON: target + "->>'c'", ddl.PayloadEQL: "(" + target + ").data->>'c'"}[payload]
	hidden = "decode(substr(" + hidden + ", 8), 'base64')"
	if payload == ddl.PayloadBytea {
		hidden = "substr(" + target + ", 2)"
	}
	return "public.undisguised(" + hidden + ")"
}

const undisguisedSQL = `CREATE FUNCTION public.undisguised(hidden bytea) RETURNS text LANGUAGE plpgsql STRICT AS $$
BEGIN
  FOR i IN 0 .. octet_length(hidden) - 1 LOOP hidden := set_byte(hidden, i, get_byte(hidden, i) # 90); END LOOP;
  RETURN convert_from(hidden, 'UTF8');
END $$`

const eqlTypeSQL = `CREATE TYPE public.eql_v2_encrypted AS (data jsonb);
CREATE FUNCTION public.as_eql(text) RETURNS public.eql_v2_encrypted LANGUAGE sql AS 'SELECT NULL::public.eql_v2_encrypted';
CREATE CAST (text AS public.eql_v2_encrypted) WITH FUNCTION public.as_eql(text) AS ASSIGNMENT;
CREATE FUNCTION public.as_eql(jsonb) RETURNS public.eql_v2_encrypted LANGUAGE sql AS 'SELECT NULL::public.eql_v2_encrypted';
CREATE CAST (jsonb AS public.eql_v2_encrypted) WITH FUNCTION public.as_eql(jsonb) AS ASSIGNMENT;
`

// targets are the types that a foreign column may have; EQL's has casts that must not come between.
func targets() map[ddl.Payload]string {
	return map[ddl.Payload]string{ddl.PayloadBytea: "bytea", ddl.PayloadText: "text", ddl.PayloadJSON: "jsonb", ddl.PayloadEQL: "public.eql_v2_encrypted"}
}

// TestForeignValuesOfEveryTypeSurvive: whatever the type and however hostile the database, the encrypter sees the text
// of a value, and what it makes of it is in the value's row.
func TestForeignValuesOfEveryTypeSurvive(t *testing.T) {
	t.Parallel()
	payloads := slices.Sorted(func(yield func(ddl.Payload) bool) {
		for p := range targets() {
			_ = yield(p)
		}
	})
	next := 0
	for name, f := range families() {
		payload := payloads[next%len(payloads)]
		next++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			var sources []string
			for i := range f.kinds {
				sources = append(sources, fmt.Sprintf("c%d", i))
			}
			k := prepare(t, ctx, engine.Pinned(eqlTypeSQL+undisguisedSQL+";\n"+f.sql()), engine.On(pg.Table{Schema: "public", Name: "items"}, sources...), engine.HostileDefaults, engine.Made(payload, targets()[payload]))
			k.Start(ctx, 5)
			if job := k.Finish(ctx); job.State != work.Done || k.Quarantined(t) != 0 {
				t.Fatalf("the job ended %s with %d rows in quarantine: %s", job.State, k.Quarantined(t), job.StoppedBy)
			}
			k.Proven(ctx, int64(f.rows()))
			for i, kind := range f.kinds {
				opened := opened(payload, fmt.Sprintf("c%d_sealed", i))
				rows := 0
				err := k.DB.InTx(ctx, func(tx pg.Tx) error {
					if _, err := tx.Exec(ctx, pg.Pinned); err != nil {
						return err
					}
					return tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM public.items WHERE pg_catalog.format('%%s', c%d) IS NOT DISTINCT FROM coalesce(%s, '')", i, opened)).Scan(&rows)
				})
				if err != nil || rows != f.rows() {
					t.Errorf("%s in %s: %d of %d values came back: %v", kind.sql, payload, rows, f.rows(), err)
				}
			}
		})
	}
}

func TestForeignColumnsKeepEveryPromise(t *testing.T) {
	t.Parallel()
	for payload, targetType := range targets() {
		t.Run(string(payload), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, eqlTypeSQL+undisguisedSQL+";"+engine.FewItems, engine.Made(payload, targetType))
			k.Start(ctx, 10)
			once := false
			inner := k.Ask
			k.Ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
				if r.Table != "public.items" || r.Column != "secret" || r.Key != "items/secret" {
					t.Errorf("asked for %s.%s, key %s", r.Table, r.Column, r.Key)
				}
				if !once { // the application wins
					once = true
					k.DB.Run(t, `UPDATE public.items SET secret = 'changed' WHERE id <= 5; UPDATE public.items SET secret = NULL WHERE id = 6; DELETE FROM public.items WHERE id = 7`)
				}
				return inner(ctx, r)
			}
			if job := k.Finish(ctx); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.Proven(ctx, 49)
			if wrong := testenv.One[int](t, k.DB, "SELECT count(*) FROM public.items WHERE secret IS DISTINCT FROM "+opened(payload, "sealed")); wrong != 0 {
				t.Errorf("%d rows hold another value", wrong)
			}
			k.DB.Run(t, "UPDATE public.items SET secret = 'missed' WHERE id = 9") // captured: uncovered, not stale
			if r := k.Verify(ctx)[0]; r.Uncovered != 1 || r.Covered != 48 {
				t.Errorf("after a missed write verification found %+v", r)
			}
		})
	}
}

// TestAForeignRowThatLosesEveryRace is locked, read, handed over and written.
func TestAForeignRowThatLosesEveryRace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, eqlTypeSQL+undisguisedSQL+";"+engine.FewItems, engine.EQL)
	k.Start(ctx, 100)
	inner, races := k.Ask, 0
	k.Ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
		if races++; races <= 3 {
			k.DB.Run(t, `UPDATE public.items SET secret = 'race ' || $1::int WHERE id = 3`, races)
		} else if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the row is locked for as long as the encrypter likes")
		}
		return inner(ctx, r)
	}
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
	if races != 4 {
		t.Errorf("the encrypter was asked %d times, want three times in a race and once under the lock", races)
	}
	if wrong := testenv.One[int](t, k.DB, "SELECT count(*) FROM public.items WHERE secret IS DISTINCT FROM "+opened(ddl.PayloadEQL, "sealed")); wrong != 0 {
		t.Errorf("%d rows hold another value", wrong)
	}
}

func TestAnEncrypterThatIsDownOrWrongWritesNothing(t *testing.T) {
	t.Parallel()
	secret := func(a *messages.ExternalAnswer, i int, value string) { a.Results[i].Value = json.RawMessage(value) }
	for name, tc := range map[string]struct {
		spoil     func(*messages.ExternalAnswer) error
		want      error
		class     string
		retryable bool
	}{
		"down":      {func(*messages.ExternalAnswer) error { return fmt.Errorf("ask: %w", transform.ErrEncrypter) }, transform.ErrEncrypter, "encrypter", true},
		"short":     {func(a *messages.ExternalAnswer) error { a.Results = a.Results[1:]; return nil }, transform.ErrAnswer, "answer", false},
		"reordered": {func(a *messages.ExternalAnswer) error { slices.Reverse(a.Results); return nil }, transform.ErrAnswer, "answer", false},
		"leak": {func(a *messages.ExternalAnswer) error {
			secret(a, 0, `{"v":2,"i":{"t":"items","c":"secret"},"c":"secret 1"}`)
			return nil
		}, transform.ErrLeak, "leak", false},
		"no payload": {func(a *messages.ExternalAnswer) error { secret(a, 0, `{"a":1}`); return nil }, transform.ErrAnswer, "answer", false},
		"other table": {func(a *messages.ExternalAnswer) error {
			secret(a, 0, `{"v":2,"i":{"t":"users","c":"secret"},"c":"m"}`)
			return nil
		}, transform.ErrAnswer, "answer", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, engine.FewItems, jsonb)
			k.Start(ctx, 100)
			inner := k.Ask
			k.Ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
				a, _ := inner(ctx, r)
				return a, tc.spoil(&a)
			}
			err := k.Work(ctx)
			switch {
			case !errors.Is(err, tc.want), backfill.ErrorClass(err) != tc.class, backfill.Retryable(err) != tc.retryable:
				t.Errorf("%v, class %s, retryable %v", err, backfill.ErrorClass(err), backfill.Retryable(err))
			case strings.Contains(err.Error(), "secret 1"), strings.Contains(backfill.Reason(err), "secret 1"):
				t.Error("the error shows a value")
			case testenv.One[int](t, k.DB, "SELECT count(sealed) FROM public.items") != 0, k.Quarantined(t) != 0:
				t.Error("something was written, or set aside")
			}
		})
	}
}

// TestAValueThatAnEncrypterRefuses is set aside alone.
func TestAValueThatAnEncrypterRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems, jsonb)
	k.Start(ctx, 100)
	inner := k.Ask
	k.Ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
		a, err := inner(ctx, r)
		for i, v := range r.Values {
			if v.Value == "secret 17" {
				a.Results[i] = messages.ExternalResult{ID: i, Refused: true}
			}
		}
		return a, err
	}
	if job := k.Finish(ctx); job.State != work.Failed || k.Quarantined(t) != 1 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
	}
	if r := k.Verify(ctx)[0]; r.Covered != 49 || r.Uncovered != 1 {
		t.Errorf("verification found %+v", r)
	}
}

// TestVerificationOfForeignColumns finds what somebody put there past the CHECK, and shows none of it.
func TestVerificationOfForeignColumns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, engine.FewItems, jsonb)
	k.Start(ctx, 100)
	k.Finish(ctx)
	for _, sql := range []string{ddl.CheckName(k.Columns[0].ID)} {
		k.DB.Run(t, "ALTER TABLE public.items DROP CONSTRAINT "+sql)
	}
	k.DB.Run(t, `UPDATE public.items SET sealed = '{"a":1}' WHERE id = 1`)
	k.DB.Run(t, `UPDATE public.items SET sealed = jsonb_set(sealed, '{c}', to_jsonb(secret)) WHERE id = 2`)
	k.DB.Run(t, `UPDATE public.items SET sealed = NULL WHERE id = 3`)
	reports := make([]proof.Report, 1)
	shape := must(shape.OpenProof(ctx, k.DB.DB, k.Job, k.Relation.OID, k.Keyring))(t)
	check(t, (&proof.Verifier{DB: k.DB.DB, Shape: shape, Keyring: k.Keyring}).Verify(ctx, reports, func(int) {}))
	r := reports[0]
	if r.Rows != 50 || r.Covered != 47 || r.Broken != 2 || r.Uncovered != 1 || r.Proven() || len(r.Examples) != 2 {
		t.Errorf("verification found %+v", r)
	}
	if body := must(json.Marshal(r))(t); bytes.Contains(body, []byte("secret")) {
		t.Errorf("the report shows a value: %s", body)
	}
}
