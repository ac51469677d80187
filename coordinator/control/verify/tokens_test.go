package verify_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/blind"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// index makes a blind index of the items, which is filling, and no row of which has its token.
func index(t *testing.T, s *testenv.Sealed) lifecycle.Index {
	t.Helper()
	r := blind.Registrar{Registrar: lifecycle.Registrar{DB: s.DB.DB, KEK: s.KEK}}
	x, err := r.Prepare(t.Context(), lifecycle.IndexDefinition{Column: s.ID, Name: "secret_bidx", Generation: 1, Token: "secret_bidx",
		Normaliser: cell.NormaliseLowerTrim, Bytes: cell.BlindSize})
	if err != nil {
		t.Fatal(err)
	}
	steps := ddl.Token{Index: x.ID, Table: s.Table, Cell: s.Target, Name: x.Token, Bytes: x.Bytes}
	for _, sql := range append(steps.Add().Do, steps.Capture().Do...) {
		s.Run(t, sql)
	}
	move(t, s, x, lifecycle.IndexFilling)
	return x
}

func move(t *testing.T, s *testenv.Sealed, x lifecycle.Index, to lifecycle.IndexState) {
	t.Helper()
	r := blind.Registrar{Registrar: lifecycle.Registrar{DB: s.DB.DB, KEK: s.KEK}}
	if err := s.InTx(t.Context(), func(tx pg.Tx) error { return r.Move(t.Context(), tx, x.ID, to) }); err != nil {
		t.Fatal(err)
	}
}

// token writes that of a value beside a row's cell, past the triggers.
func token(t *testing.T, s *testenv.Sealed, x lifecycle.Index, id int64, value string) {
	t.Helper()
	keys, err := lifecycle.LoadKeys(t.Context(), s, s.KEK)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.AddIndex(t.Context(), s.KEK, x); err != nil {
		t.Fatal(err)
	}
	b, err := keys.Keyring.Blinder(x.ID)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := s.Scheme.Codec.Encode(nil, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	made, err := b.Token(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	past(t, s, `UPDATE public.items SET secret_bidx = $2 WHERE id = $1`, id, made)
}

// past changes rows while the triggers that keep tokens right are off: they fire for replicas, too.
func past(t *testing.T, s *testenv.Sealed, sql string, args ...any) {
	t.Helper()
	all := func(does string) {
		for _, g := range ddl.TokenTriggers(1) {
			s.Run(t, "ALTER TABLE public.items "+does+" TRIGGER "+pg.Ident(g))
		}
	}
	all("DISABLE")
	s.Run(t, sql, args...)
	all("ENABLE ALWAYS")
}

// found is what a verification says of the only index; the column is always proven.
func found(t *testing.T, s *testenv.Sealed, what string, right, missing, wrong int64, proven bool) verify.IndexReport {
	t.Helper()
	r, _, err := ask(t, s, verify.Request{})
	if err != nil || len(r.Columns[0].Indexes) != 1 {
		t.Fatalf("%s: %+v, %v", what, r, err)
	}
	c, x := r.Columns[0], r.Columns[0].Indexes[0]
	if x.Right != right || x.Missing != missing || x.Wrong != wrong || x.Unopened != 0 || x.Proven != proven || r.TokensProven != proven {
		t.Errorf("%s: %+v, tokens proven: %v", what, x, r.TokensProven)
	}
	if !r.Proven || !c.Proven || c.Covered != 20 || c.Digest == "" || c.Nonces.Cells != 19 || len(c.Examples) != 0 {
		t.Errorf("%s: the column suffers: %+v", what, c)
	}
	if noted := testenv.One[bool](t, s.DB, `SELECT details->'unproven_indexes' IS NOT NULL FROM cipherfleet.events WHERE event = 'verified' ORDER BY id DESC LIMIT 1`); noted == proven {
		t.Errorf("%s: the log says that tokens were not proven: %t", what, noted)
	}
	state, err := lifecycle.Latest(t.Context(), s, "public.items", "secret")
	if err != nil || !state.Proven || state.Suspect() {
		t.Errorf("%s: the log says %+v, %v", what, state, err)
	}
	return x
}

// TestEachTokenIsOfItsCell, or it is missing, or wrong; and the column is proven all the same.
func TestEachTokenIsOfItsCell(t *testing.T) {
	t.Parallel()
	s := items(t)
	x := index(t, s)
	if r := found(t, s, "nothing is filled", 1, 19, 0, true); r.State != lifecycle.IndexFilling || r.Tokens != "secret_bidx" {
		t.Errorf("%+v", r)
	}
	for id, value := range testenv.Column[string](t, s, `SELECT upper(secret) FROM public.items WHERE id < 20 ORDER BY id`) {
		token(t, s, x, int64(id)+1, value) // equal in the index's normal form
	}
	found(t, s, "filled", 20, 0, 0, true)
	move(t, s, x, lifecycle.IndexReady)
	found(t, s, "ready", 20, 0, 0, true)

	token(t, s, x, 1, "secret 2") // that of another row
	past(t, s, `UPDATE public.items SET secret_bidx = pg_catalog.set_byte(secret_bidx, 15, 255 - pg_catalog.get_byte(secret_bidx, 15)) WHERE id = 3`)
	if r := found(t, s, "two are wrong", 18, 0, 2, false); len(r.Examples) != 2 {
		t.Errorf("%+v", r)
	}
	if r, _, err := ask(t, s, verify.Request{Sample: 99}); err != nil || !r.Proven {
		t.Errorf("a sample: %+v, %v", r, err)
	}
	token(t, s, x, 1, "secret 1")
	token(t, s, x, 3, "secret 3")
	found(t, s, "mended", 20, 0, 0, true)

	past(t, s, `UPDATE public.items SET secret_bidx = NULL WHERE id = 4`)
	past(t, s, `UPDATE public.items SET secret_bidx = o.secret_bidx FROM public.items o WHERE items.id = 20 AND o.id = 5`) // left over
	found(t, s, "two are not covered", 18, 2, 0, false)
}

// TestAReplicaDoesNotGetPastTheTriggers: what it writes is cleared, and so missing instead of wrong.
func TestAReplicaDoesNotGetPastTheTriggers(t *testing.T) {
	t.Parallel()
	s := items(t)
	x := index(t, s)
	for id, value := range testenv.Column[string](t, s, `SELECT secret FROM public.items WHERE id < 20 ORDER BY id`) {
		token(t, s, x, int64(id)+1, value)
	}
	move(t, s, x, lifecycle.IndexReady)
	s.Run(t, `SET session_replication_role = replica; UPDATE public.items SET secret_bidx = (SELECT secret_bidx FROM public.items WHERE id = 2) WHERE id = 1; RESET session_replication_role`)
	found(t, s, "a replica", 19, 1, 0, false)
}

// TestAnIndexThatCannotBeJudgedSaysSo: without its key, or without its column, it is not proven; and the column is.
func TestAnIndexThatCannotBeJudgedSaysSo(t *testing.T) {
	t.Parallel()
	s := items(t)
	index(t, s)
	s.Run(t, `UPDATE cipherfleet.deks SET canary = pg_catalog.sha256('x') WHERE blind_index IS NOT NULL`)
	if r := found(t, s, "another key", 0, 0, 0, false); !strings.Contains(r.Unread, `blind index "secret_bidx" of public.items.secret: `) {
		t.Errorf("%+v", r)
	}
	s.Run(t, `ALTER TABLE public.items DROP secret_bidx CASCADE`)
	if r := found(t, s, "no column", 0, 0, 0, false); r.Unread == "" || r.Tokens != "" {
		t.Errorf("%+v", r)
	}
}
