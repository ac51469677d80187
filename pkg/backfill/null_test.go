package backfill_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// tenNulls are fifty items: each tenth is NULL, and that after it an empty text.
const tenNulls = `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text);
INSERT INTO public.items SELECT i, CASE i % 10 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'secret ' || i END FROM generate_series(1, 50) i; ANALYZE public.items`

func sealsNulls(k *engine.Kit) { k.Nulls = cell.SealNulls }

// nullAt is the cell of a NULL in the row with that id, under the scheme that the first column is sealed with.
func (k *kit) nullAt(id int64) []byte {
	k.T.Helper()
	keys := must(cell.NewKeyEncoder([]cell.TypeInfo{{OID: 20, Name: "int8", Kind: 'b', Category: 'N'}}))(k.T)
	address := must(keys.Append(nil, [][]byte{binary.BigEndian.AppendUint64(nil, uint64(id))}))(k.T)
	scheme, _ := k.Keyring.Scheme(k.Columns[0].ID, k.Columns[0].Scheme)
	return must(k.Keyring.SealNull(nil, scheme, cell.Address{Column: scheme.Column, Key: address}))(k.T)
}

// contents are what the cells of the first column hold, by row; nil is NULL, and a row without a cell is missing.
func (k *kit) contents() map[int64]*string {
	k.T.Helper()
	found := map[int64]*string{}
	keys := must(cell.NewKeyEncoder([]cell.TypeInfo{{OID: 20, Name: "int8", Kind: 'b', Category: 'N'}}))(k.T)
	rows := must(k.DB.Query(k.T.Context(), "SELECT id, "+pg.Ident(k.Columns[0].Target)+" FROM public.items"))(k.T)
	defer rows.Close()
	for rows.Next() {
		var id int64
		var sealed []byte
		check(k.T, rows.Scan(&id, &sealed))
		if sealed == nil {
			continue
		}
		address := must(keys.Append(nil, [][]byte{binary.BigEndian.AppendUint64(nil, uint64(id))}))(k.T)
		plain, _, err := k.Keyring.Open(nil, cell.Address{Column: k.Columns[0].ID, Key: address}, sealed)
		check(k.T, err)
		if found[id] = nil; plain != nil {
			text := string(plain)
			found[id] = &text
		}
	}
	check(k.T, rows.Err())
	return found
}

// holdsTenNulls demands that the cells hold what [tenNulls] says, but for the rows that were changed.
func (k *kit) holdsTenNulls(changed map[int64]*string) {
	k.T.Helper()
	found := k.contents()
	for id := int64(1); id <= 50; id++ {
		text := fmt.Sprintf("secret %d", id)
		want := &text
		if id%10 == 0 {
			want = nil
		} else if id%10 == 1 {
			*want = ""
		}
		if other, is := changed[id]; is {
			want = other
		}
		have, has := found[id]
		if !has || (have == nil) != (want == nil) || have != nil && *have != *want {
			k.T.Errorf("row %d: a cell %v, of NULL %v, want NULL %v", id, has, have == nil, want == nil)
		}
	}
}

func TestEveryRowHasACellWhereNullIsSealed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, tenNulls, sealsNulls)
	k.Start(ctx, 10)
	if r := k.Verify(ctx)[0]; r.Uncovered != 50 {
		t.Errorf("before the job verification found %+v", r)
	}
	k.Done(50)
	k.holdsTenNulls(nil)
	if told := testenv.One[int](t, k.DB, `SELECT count(DISTINCT (octet_length(sealed), substr(sealed, 1, 16))) FROM public.items`); told != 1 {
		t.Errorf("the cells look in %d ways", told)
	}
	c := k.Columns[0]
	k.DB.Run(t, `UPDATE public.items SET secret = NULL WHERE id = 2; UPDATE public.items SET secret = 'no more' WHERE id = 10;
INSERT INTO public.items (id) VALUES (51); UPDATE public.items SET secret = NULL, sealed = NULL WHERE id = 3; UPDATE public.items SET note = 'other' WHERE id = 20`)
	if n := testenv.One[int64](t, k.DB, ddl.Missed(c.ID)); n != 4 {
		t.Errorf("%d writes are counted as missed, want 4", n)
	}
	if n := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NULL`); n != 4 {
		t.Errorf("%d rows have lost their cell, want 4", n)
	}
	if r := k.Verify(ctx)[0]; r.Uncovered != 4 || r.Covered != 47 {
		t.Errorf("verification found %+v", r)
	}
	k.Start(ctx, 10)
	k.Done(51)
	text := "no more"
	k.holdsTenNulls(map[int64]*string{2: nil, 3: nil, 10: &text})
}

func TestACellOfNullProvesNullAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, tenNulls, sealsNulls)
	k.Start(ctx, 10)
	k.Done(50)
	put := func(id int64, sealed []byte) string {
		return fmt.Sprintf(`UPDATE public.items SET sealed = '\x%x' WHERE id = %d`, sealed, id)
	}
	k.BehindCapture(put(2, k.nullAt(2)) + ";" + put(11, k.nullAt(11)) + ";" + put(20, k.seal(ctx, 20, "a value")) + ";" + put(30, k.seal(ctx, 30, "")) + ";" +
		put(40, k.nullAt(50)) + `; UPDATE public.items SET sealed = NULL WHERE id IN (10, 12)`)
	if r := k.Verify(ctx)[0]; r.Stale != 4 || r.Broken != 1 || r.Uncovered != 2 || r.Covered != 43 {
		t.Errorf("verification found %+v", r)
	}
	k.Columns = slices.Clone(k.Columns)
	k.Columns[0].Compare = true
	before := k.versions()
	k.Start(ctx, 20)
	k.Done(50)
	k.holdsTenNulls(nil)
	var written []int
	for i, version := range k.versions() {
		if version != before[i] {
			written = append(written, i+1)
		}
	}
	if !slices.Equal(written, []int{2, 10, 11, 12, 20, 30, 40}) {
		t.Errorf("rows %v were written", written)
	}
}

// A rotation to a scheme that seals NULL gives a cell to every row of NULL, and to no row that only lacks its cell; one
// back takes them away.
func TestNullsAreSealedAndUnsealedInEveryPhase(t *testing.T) {
	t.Parallel()
	for phase, reach := range map[lifecycle.Phase]func(*kit){
		lifecycle.PhaseBackfilled: func(*kit) {},
		lifecycle.PhaseCutOver:    func(k *kit) { k.CutOver() },
		lifecycle.PhaseDropped:    func(k *kit) { k.CutOver(); k.dropPlaintext() },
	} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, tenNulls)
			k.Start(ctx, 10)
			k.Done(50)
			reach(k)
			missed := k.Columns[0].Source != ""
			if missed { // a plaintext without its cell is no NULL
				k.BehindCapture(fmt.Sprintf(`UPDATE public.items SET %s = 'missed', %s = NULL WHERE id = 40`, pg.Ident(k.Columns[0].Source), pg.Ident(k.Columns[0].Target)))
			}
			rotate := func(number uint16, nulls cell.Nulls) {
				k.Rotate(ctx, k.Scheme(ctx, number, func(s *cell.Scheme) { s.Nulls = nulls }))
				k.Start(ctx, 10)
				if job := k.Finish(ctx); job.State != work.Done {
					t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
				}
			}
			cells := func() map[int64]*string {
				found := k.contents()
				if _, has := found[40]; has == missed {
					t.Errorf("row 40 has a cell: %v", has)
				}
				return found
			}
			rotate(2, cell.SealNulls)
			want := 50
			if missed {
				want = 49
			}
			found := cells()
			if len(found) != want || found[10] != nil || found[11] == nil || *found[11] != "" {
				t.Errorf("%d rows have cells, want %d; row 10 %v, row 11 %v", len(found), want, found[10], found[11])
			}
			before := k.versions()
			rotate(2, cell.SealNulls)
			if !slices.Equal(before, k.versions()) {
				t.Error("a rotation that has nothing to do writes")
			}
			rotate(3, cell.SealNulls)
			if found = cells(); len(found) != want || found[10] != nil {
				t.Errorf("under another scheme that seals NULL %d rows have cells", len(found))
			}
			rotate(4, cell.KeepNulls)
			delete(found, 40)
			for id, value := range found {
				if value == nil {
					delete(found, id)
				}
			}
			after := k.contents()
			if _, has := after[10]; has || len(after) != len(found) || *after[11] != "" {
				t.Errorf("under a scheme that keeps NULL %d rows have cells, want %d", len(after), len(found))
			}
		})
	}
}

func TestASealedNullGoesBackToNull(t *testing.T) {
	t.Parallel()
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, tenNulls, sealsNulls, engine.In(form))
			k.Start(ctx, 10)
			k.Done(50)
			k.CutOver()
			k.Start(ctx, 10)
			if r := k.Verify(ctx)[0]; r.Covered != 50 || r.Ahead != 0 {
				t.Errorf("after the cutover verification found %+v", r)
			}
			if job := k.Finish(ctx); job.State != work.Done || k.Quarantined(t) != 0 {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE secret_plaintext IS NULL AND secret IS NULL AND id % 10 = 0`); n != 5 {
				t.Errorf("%d rows are NULL on both sides, want 5", n)
			}
			if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE secret IS NOT NULL AND secret_plaintext = CASE id % 10 WHEN 1 THEN '' ELSE 'secret ' || id END`); n != 45 {
				t.Errorf("%d rows have value and cell, want 45", n)
			}
			if r := k.Verify(ctx)[0]; r.Covered != 45 || r.Uncovered != 5 {
				t.Errorf("a row without a cell is uncovered again: %+v", r)
			}
		})
	}
}

func TestAFewNullsAreCarriedWithinATransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, tenNulls, sealsNulls)
	k.Start(ctx, 10)
	k.Done(50)
	k.CutOver()
	if rows, err := k.within(ctx, 10); rows != 5 || err != nil {
		t.Errorf("%d rows, %v", rows, err)
	}
	if rows, err := k.within(ctx, 10); rows != 0 || err != nil {
		t.Errorf("again: %d rows, %v", rows, err)
	}
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE secret_plaintext IS NULL AND secret IS NULL`); n != 5 {
		t.Errorf("%d rows are NULL on both sides, want 5", n)
	}
}

// Between the read and the write of a chunk the application gives a NULL a value, and a value a NULL.
func TestAnApplicationsValueWinsAgainstTheCellOfANull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	done := false
	k = prepare(t, ctx, tenNulls, sealsNulls, between(func() {
		if !done {
			done = true
			k.DB.Run(t, `UPDATE public.items SET secret = 'a value' WHERE id = 10; UPDATE public.items SET secret = NULL WHERE id = 12`)
		}
	}))
	k.Start(ctx, 1000)
	k.Done(50)
	text := "a value"
	k.holdsTenNulls(map[int64]*string{10: &text, 12: nil})
}

// inventing makes a cell of a NULL that nobody asked for, or loses one.
type inventing struct {
	transform.Transform
	of func(*transform.Value)
}

func (i inventing) Apply(ctx context.Context, values []transform.Value) error {
	err := i.Transform.Apply(ctx, values)
	for n := range values {
		i.of(&values[n])
	}
	return err
}

func TestACellOfANullIsMadeOnPurposeAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		nulls cell.Nulls
		of    func(*transform.Value)
	}{
		"a cell where NULL stays": {cell.KeepNulls, func(v *transform.Value) {
			if v.In == nil {
				v.Out = []byte("a cell")
			}
		}},
		"no cell where NULL is sealed": {cell.SealNulls, func(v *transform.Value) {
			if v.In == nil {
				v.Out = nil
			}
		}},
		"NULL is said of a value": {cell.SealNulls, func(v *transform.Value) { v.Null = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := prepare(t, t.Context(), `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, other text); INSERT INTO public.items VALUES (1, 'a', NULL), (2, NULL, 'b')`,
				engine.On(pg.Table{Schema: "public", Name: "items"}, "secret", "other"),
				func(k *engine.Kit) {
					k.Nulls = c.nulls
					k.Wrap = func(inner transform.Transform) transform.Transform { return inventing{inner, c.of} }
				})
			claim := k.Claimed(t)
			if err := k.Execute(t, claim); err == nil {
				t.Error("it was written")
			}
			if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL OR other_sealed IS NOT NULL`); n != 0 {
				t.Errorf("%d rows were written", n)
			}
		})
	}
}

// An encrypter of one's own makes cells of NULL, too, and is believed no more than with a value.
func TestAnotherTransformSealsNullsToo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var k *kit
	lies := false
	k = prepare(t, ctx, tenNulls, sealsNulls, func(kit *engine.Kit) {
		kit.Wrap = func(inner transform.Transform) transform.Transform {
			scheme, _ := k.Keyring.Scheme(k.Columns[0].ID, 1)
			own := inventing{inner, func(v *transform.Value) {
				if v.Null = false; v.In == nil && lies {
					v.Out = must(k.Keyring.Seal(nil, scheme, v.Address, nil))(t)
				}
			}}
			return must(transform.NewProof(own, k.Keyring, scheme))(t)
		}
	})
	lies = true
	claim := k.Claimed(t)
	if err := k.Execute(t, claim); err == nil {
		t.Error("the cell of an empty text passes for that of a NULL")
	}
	lies = false
	k.DB.Run(t, `UPDATE cipherfleet.ranges SET lease_until = NULL, owner = NULL`)
	k.Done(50)
	k.holdsTenNulls(nil)
}

// Somebody else's NULL is one, too: it has a cell like what his values are opened to.
func TestNullsAmongEncryptedValuesOfOthersAreSealed(t *testing.T) {
	t.Parallel()
	for name, f := range formats() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			k := prepare(t, ctx, "CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public; CREATE TABLE public.items (id bigint PRIMARY KEY, "+f.columns+
				"); INSERT INTO public.items VALUES "+f.rows+"; INSERT INTO public.items (id) VALUES (90), (91)", from(f.origin, f.keys), sealsNulls)
			k.Start(ctx, 10)
			rows := testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items`)
			k.Done(rows)
			none := testenv.Column[int64](t, k.DB, `SELECT id FROM public.items WHERE secret IS NULL`)
			found := k.contents()
			for id, value := range found {
				if (value == nil) != slices.Contains(none, id) {
					t.Errorf("row %d: a cell of NULL %v", id, value == nil)
				}
			}
			if r := k.Verify(ctx)[0]; int64(len(found)) != rows || r.Covered != rows {
				t.Errorf("%d of %d rows have cells; verification found %+v", len(found), rows, r)
			}
		})
	}
}
