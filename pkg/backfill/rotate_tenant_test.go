package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/shred"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// fewCustomers are fifty items of three customers; every tenth is of nobody, every seventh has no secret.
const fewCustomers = engine.FewItems + `;
ALTER TABLE public.items ADD customer int; UPDATE public.items SET customer = nullif(id % 10, 0) % 3, secret = CASE WHEN id % 7 > 0 THEN secret END`

// openChain has the kit work with the keys of tenants from now on.
func (k *kit) openChain(ctx context.Context) {
	k.T.Helper()
	k.Chain = must(lifecycle.OpenKeychain(ctx, k.DB, k.KEK, lifecycle.KeychainConfig{}))(k.T)
	k.Keyring = k.Chain.Keyring()
}

// shred deletes a customer's keys, and fences who may hold them.
func (k *kit) shred(ctx context.Context, customer string) {
	k.T.Helper()
	check(k.T, k.DB.InTx(ctx, func(tx pg.Tx) error {
		if n := must(shred.Tenant(ctx, tx, k.registrar(), k.Columns[0].ID, customer))(k.T); n == 0 {
			k.T.Error("there was nothing to shred")
		}
		return work.Fence(ctx, tx, k.Columns[0].ID)
	}))
}

func (k *kit) registrar() lifecycle.Registrar { return lifecycle.Registrar{DB: k.DB.DB, KEK: k.KEK} }

// successor makes the next scheme of the first column the active one, as alter says.
func (k *kit) successor(ctx context.Context, tenant string, alter func(*cell.Scheme)) uint16 {
	k.T.Helper()
	all := must(lifecycle.Schemes(ctx, k.DB, k.Columns[0].ID))(k.T)
	wanted := all[len(all)-1].Definition
	wanted.Number, wanted.KeyID, wanted.Tenant = 0, 0, tenant
	if alter != nil {
		alter(&wanted.Scheme)
	}
	scheme := must(k.registrar().NewScheme(ctx, wanted))(k.T)
	check(k.T, k.registrar().ActivateScheme(ctx, scheme.Column, scheme.Number))
	if k.Chain == nil {
		k.openChain(ctx)
	}
	check(k.T, k.Chain.Refresh(ctx))
	return scheme.Number
}

func deterministic(s *cell.Scheme) { s.Suite, s.RowBound = cell.SuiteAES256SIV, false }

func bound(s *cell.Scheme) { s.Suite, s.RowBound = cell.SuiteXAES256GCM, true }

// dropped prepares fewCustomers, encrypts them under one key for all, and takes the plaintext away.
func dropped(t *testing.T, options ...option) *kit {
	t.Helper()
	ctx := t.Context()
	k := prepare(t, ctx, fewCustomers, options...)
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("the first job ended %s", job.State)
	}
	k.CutOver()
	k.dropPlaintext()
	return k
}

// turn seals every cell anew under a scheme, and wants it done.
func (k *kit) turn(ctx context.Context, number uint16) {
	k.T.Helper()
	k.Rotate(ctx, number)
	k.Start(ctx, 10)
	if job := k.Finish(ctx); job.State != work.Done {
		k.T.Fatalf("the rotation to scheme %d ended %s: %s", number, job.State, job.StoppedBy)
	}
}

// holdsTheSame demands that every row holds what it held, and that NULL is NULL.
func (k *kit) holdsTheSame(ctx context.Context, number uint16) {
	k.T.Helper()
	values, schemes := k.holds(ctx)
	for id := int64(1); id <= 50; id++ {
		value, there := values[id]
		if there != (id%7 > 0) || there && value != fmt.Sprintf("secret %d", id) {
			k.T.Errorf("row %d holds %q, %t", id, value, there)
		}
	}
	if len(schemes) != 1 || schemes[number] != 43 {
		k.T.Errorf("the cells are of %v, want 43 of %d", schemes, number)
	}
}

const (
	keysPerCustomerSQL = `SELECT count(DISTINCT (coalesce(customer, -1), substr(secret, 13, 4))) || ' ' || count(DISTINCT substr(secret, 13, 4)) FROM public.items WHERE secret IS NOT NULL`
	suitesSQL          = `SELECT string_agg(DISTINCT get_byte(secret, 8)::text, ' ') FROM public.items`
)

// Keys for all rows and for each customer, random and deterministic cells, in any order and in any mix of them: what a
// row held it holds, and NULL stays NULL.
func TestTenantsAndDeterministicSuitesTakeTurns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := dropped(t)
	for _, step := range []struct {
		tenant string
		alter  func(*cell.Scheme)
		keys   string // pairs of customer and key, and keys
		suite  string
	}{
		{"", deterministic, "4 1", "2"},
		{"customer", bound, "4 4", "1"},
		{"customer", deterministic, "4 4", "2"},
		{"customer", deterministic, "4 4", "2"},
		{"", deterministic, "4 1", "2"},
		{"", bound, "4 1", "1"},
	} {
		number := k.successor(ctx, step.tenant, step.alter)
		k.turn(ctx, number)
		k.holdsTheSame(ctx, number)
		if keys, suite := testenv.One[string](t, k.DB, keysPerCustomerSQL), testenv.One[string](t, k.DB, suitesSQL); keys != step.keys || suite != step.suite {
			t.Errorf("scheme %d: customers and keys are %s, the suite %s", number, keys, suite)
		}
		k.Proven(ctx, 50)
	}
}

// Rows of every scheme there was, among them deterministic ones and those of tenants, become one in one pass; equal values
// of one tenant are equal cells then, and of two tenants are not.
func TestAMixOfTenantsAndSuitesBecomesOne(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := dropped(t)
	sql := `SELECT encode(secret, 'hex') FROM public.items WHERE id = $1`
	for i, make := range []func() uint16{
		func() uint16 { return k.successor(ctx, "", deterministic) },
		func() uint16 { return k.successor(ctx, "customer", bound) },
		func() uint16 { return k.successor(ctx, "customer", deterministic) },
	} {
		number := make()
		k.Rotate(ctx, number)
		k.Start(ctx, 10)
		// Some rows reach it, the others stay as they are.
		k.DB.Run(t, `UPDATE cipherfleet.ranges SET state = 'split' WHERE job_id = $1 AND id % 3 <> $2`, k.Job.ID, i)
		check(t, k.Work(ctx))
		must(k.Jobs.Cancel(ctx, k.Job.ID, ""))(t)
	}
	if _, schemes := k.holds(ctx); len(schemes) < 3 {
		t.Fatalf("the cells are of %v", schemes)
	}
	number := k.successor(ctx, "customer", deterministic)
	k.turn(ctx, number)
	k.holdsTheSame(ctx, number)
	for id, customer := range map[int64]string{1: "1", 2: "2", 4: "1"} {
		k.DB.Run(t, `UPDATE public.items SET customer = $2::text::int WHERE id = $1`, id, customer)
		scheme := must(k.Chain.TenantKey(ctx, k.DB.DB, cell.Scheme{Column: k.Columns[0].ID, Number: number, Suite: cell.SuiteAES256SIV, Codec: cell.CodecText, Padding: 16}, customer))(t)
		sealed := must(k.Keyring.Seal(nil, scheme, cell.Address{Column: scheme.Column}, []byte("the same")))(t)
		k.DB.Run(t, `UPDATE public.items SET secret = $2 WHERE id = $1`, id, sealed)
	}
	k.turn(ctx, k.successor(ctx, "customer", deterministic))
	one, two, four := testenv.One[string](t, k.DB, sql, 1), testenv.One[string](t, k.DB, sql, 2), testenv.One[string](t, k.DB, sql, 4)
	if one != four || one == two {
		t.Errorf("equal values of one tenant are equal cells: %t; of two tenants: %t", one == four, one == two)
	}
}

const ofCustomerSQL = `SELECT string_agg(encode(secret, 'hex'), ' ' ORDER BY id) FROM public.items WHERE customer = 2`

// A customer is shredded between a chunk's read and its write, by somebody who has never heard of this worker. No cell of
// his is brought under a key that lives on; his rows are set aside once, however many they are, and the others go on.
func TestATenantIsShreddedInTheMiddleOfARotation(t *testing.T) {
	t.Parallel()
	for name, to := range map[string]string{"to keys of tenants": "customer", "to one key for all": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			var k *kit
			before, shredded := "", false
			k = dropped(t, between(func() {
				if k == nil || shredded || !k.Columns[0].Rotate || k.Columns[0].Scheme != 3 {
					return
				}
				shredded = true
				before = testenv.One[string](t, k.DB, ofCustomerSQL)
				k.shred(ctx, "2")
			}))
			k.turn(ctx, k.successor(ctx, "customer", bound))
			k.Rotate(ctx, k.successor(ctx, to, bound))
			k.Start(ctx, 1000)
			k.Budget = 0
			if err := k.Work(ctx); !errors.Is(err, work.ErrLost) {
				t.Fatalf("the chunk in hand ended with %v", err)
			}
			if after := testenv.One[string](t, k.DB, ofCustomerSQL); after != before {
				t.Error("a cell of a tenant who was shredded was sealed anew")
			}
			check(t, k.Chain.Refresh(ctx)) // as whoever claims a range of such a job does
			job := k.Finish(ctx)
			if set := k.Quarantined(t); job.State != work.Failed || set != 12 {
				t.Errorf("the job ended %s, %s, with %d rows in quarantine", job.State, job.StoppedBy, set)
			}
			if reasons := testenv.Column[string](t, k.DB, `SELECT DISTINCT reason FROM cipherfleet.quarantine`); len(reasons) != 1 || reasons[0] != "the key of its cell was destroyed" {
				t.Errorf("the reasons are %v", reasons)
			}
			if testenv.One[string](t, k.DB, ofCustomerSQL) != before {
				t.Error("a cell of a tenant who was shredded was changed")
			}
			if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM public.items WHERE secret IS NOT NULL AND customer IS DISTINCT FROM 2 AND substr(secret, 7, 2) <> '\x0003'`); n != 0 {
				t.Errorf("%d rows of others were not sealed anew", n)
			}
			k.DB.Run(t, `UPDATE public.items SET secret = NULL WHERE customer = 2`) // what docs/keys.md says comes next
			k.turn(ctx, 3)
			k.Proven(ctx, 50)
		})
	}
}
