package backfill_test

import (
	"bytes"
	"context"
	"encoding/base64"
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
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// made lets a user's own encrypter make the columns of a kit: one that hides a value well enough for a test, and whose
// answers say where they belong.
func made(payload ddl.Payload, targetType string) option {
	return func(k *kit) {
		k.foreign = ddl.Column{Payload: payload, TargetType: targetType}
		k.ask = func(_ context.Context, r messages.ExternalRequest) (a messages.ExternalAnswer, err error) {
			for _, v := range r.Values {
				a.Results = append(a.Results, messages.ExternalResult{ID: v.ID, Value: disguised(payload, r, v.Value)})
			}
			return a, nil
		}
	}
}

func eql(k *kit) { made(ddl.PayloadEQL, "public.eql_v2_encrypted")(k) }

func jsonb(k *kit) { made(ddl.PayloadJSON, "jsonb")(k) }

func disguised(payload ddl.Payload, r messages.ExternalRequest, value string) json.RawMessage {
	hidden := []byte(value)
	for i := range hidden {
		hidden[i] ^= 0x5a
	}
	var result any = "sealed:" + base64.StdEncoding.EncodeToString(hidden)
	switch payload {
	case ddl.PayloadBytea:
		result = fmt.Sprintf(`\x%x`, append([]byte{7}, hidden...))
	case ddl.PayloadJSON, ddl.PayloadEQL:
		_, table, _ := strings.Cut(r.Table, ".")
		result = map[string]any{"v": 2, "i": map[string]string{"t": table, "c": r.Column}, "c": result}
	}
	body, _ := json.Marshal(result)
	return body
}

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
			k := prepare(t, ctx, pinned(eqlTypeSQL+undisguisedSQL+";\n"+f.sql()), on(pg.Table{Schema: "public", Name: "items"}, sources...), hostileDefaults, made(payload, targets()[payload]))
			k.start(ctx, 5)
			if job := k.finish(ctx); job.State != work.Done || quarantined(t, k) != 0 {
				t.Fatalf("the job ended %s with %d rows in quarantine: %s", job.State, quarantined(t, k), job.StoppedBy)
			}
			k.proven(ctx, int64(f.rows()))
			for i, kind := range f.kinds {
				opened := opened(payload, fmt.Sprintf("c%d_sealed", i))
				rows := 0
				err := k.db.InTx(ctx, func(tx pg.Tx) error {
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
			k := prepare(t, ctx, eqlTypeSQL+undisguisedSQL+";"+fewItems, made(payload, targetType))
			k.start(ctx, 10)
			once := false
			inner := k.ask
			k.ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
				if r.Table != "public.items" || r.Column != "secret" || r.Key != "items/secret" {
					t.Errorf("asked for %s.%s, key %s", r.Table, r.Column, r.Key)
				}
				if !once { // the application wins
					once = true
					k.db.Run(t, `UPDATE public.items SET secret = 'changed' WHERE id <= 5; UPDATE public.items SET secret = NULL WHERE id = 6; DELETE FROM public.items WHERE id = 7`)
				}
				return inner(ctx, r)
			}
			if job := k.finish(ctx); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.proven(ctx, 49)
			if wrong := testenv.One[int](t, k.db, "SELECT count(*) FROM public.items WHERE secret IS DISTINCT FROM "+opened(payload, "sealed")); wrong != 0 {
				t.Errorf("%d rows hold another value", wrong)
			}
			k.db.Run(t, "UPDATE public.items SET secret = 'missed' WHERE id = 9") // captured: uncovered, not stale
			if r := k.verify(ctx)[0]; r.Uncovered != 1 || r.Covered != 48 {
				t.Errorf("after a missed write verification found %+v", r)
			}
		})
	}
}

// TestAForeignRowThatLosesEveryRace is locked, read, handed over and written.
func TestAForeignRowThatLosesEveryRace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, eqlTypeSQL+undisguisedSQL+";"+fewItems, eql)
	k.start(ctx, 100)
	inner, races := k.ask, 0
	k.ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
		if races++; races <= 3 {
			k.db.Run(t, `UPDATE public.items SET secret = 'race ' || $1::int WHERE id = 3`, races)
		} else if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the row is locked for as long as the encrypter likes")
		}
		return inner(ctx, r)
	}
	if job := k.finish(ctx); job.State != work.Done {
		t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.proven(ctx, 50)
	if races != 4 {
		t.Errorf("the encrypter was asked %d times, want three times in a race and once under the lock", races)
	}
	if wrong := testenv.One[int](t, k.db, "SELECT count(*) FROM public.items WHERE secret IS DISTINCT FROM "+opened(ddl.PayloadEQL, "sealed")); wrong != 0 {
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
			k := prepare(t, ctx, fewItems, jsonb)
			k.start(ctx, 100)
			inner := k.ask
			k.ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
				a, _ := inner(ctx, r)
				return a, tc.spoil(&a)
			}
			err := k.work(ctx)
			switch {
			case !errors.Is(err, tc.want), backfill.ErrorClass(err) != tc.class, backfill.Retryable(err) != tc.retryable:
				t.Errorf("%v, class %s, retryable %v", err, backfill.ErrorClass(err), backfill.Retryable(err))
			case strings.Contains(err.Error(), "secret 1"), strings.Contains(backfill.Reason(err), "secret 1"):
				t.Error("the error shows a value")
			case testenv.One[int](t, k.db, "SELECT count(sealed) FROM public.items") != 0, quarantined(t, k) != 0:
				t.Error("something was written, or set aside")
			}
		})
	}
}

// TestAValueThatAnEncrypterRefuses is set aside alone.
func TestAValueThatAnEncrypterRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems, jsonb)
	k.start(ctx, 100)
	inner := k.ask
	k.ask = func(ctx context.Context, r messages.ExternalRequest) (messages.ExternalAnswer, error) {
		a, err := inner(ctx, r)
		for i, v := range r.Values {
			if v.Value == "secret 17" {
				a.Results[i] = messages.ExternalResult{ID: i, Refused: true}
			}
		}
		return a, err
	}
	if job := k.finish(ctx); job.State != work.Failed || quarantined(t, k) != 1 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, quarantined(t, k))
	}
	if r := k.verify(ctx)[0]; r.Covered != 49 || r.Uncovered != 1 {
		t.Errorf("verification found %+v", r)
	}
}

// TestVerificationOfForeignColumns finds what somebody put there past the CHECK, and shows none of it.
func TestVerificationOfForeignColumns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, fewItems, jsonb)
	k.start(ctx, 100)
	k.finish(ctx)
	for _, sql := range []string{ddl.CheckName(k.columns[0].ID)} {
		k.db.Run(t, "ALTER TABLE public.items DROP CONSTRAINT "+sql)
	}
	k.db.Run(t, `UPDATE public.items SET sealed = '{"a":1}' WHERE id = 1`)
	k.db.Run(t, `UPDATE public.items SET sealed = jsonb_set(sealed, '{c}', to_jsonb(secret)) WHERE id = 2`)
	k.db.Run(t, `UPDATE public.items SET sealed = NULL WHERE id = 3`)
	reports := make([]proof.Report, 1)
	shape := must(shape.OpenProof(ctx, k.db.DB, k.job, k.relation.OID, k.keyring))(t)
	check(t, (&proof.Verifier{DB: k.db.DB, Shape: shape, Keyring: k.keyring}).Verify(ctx, reports, func(int) {}))
	r := reports[0]
	if r.Rows != 50 || r.Covered != 47 || r.Broken != 2 || r.Uncovered != 1 || r.Proven() || len(r.Examples) != 2 {
		t.Errorf("verification found %+v", r)
	}
	if body := must(json.Marshal(r))(t); bytes.Contains(body, []byte("secret")) {
		t.Errorf("the report shows a value: %s", body)
	}
}
