package lifecycle_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// registryState is all the registry says, but for leases.
const registryState = `SELECT md5(string_agg(x, E'\n' ORDER BY x)) FROM (SELECT concat('i ', i.*) x FROM cipherfleet.installation i
 UNION ALL SELECT concat('s ', s.*) FROM cipherfleet.schemes s UNION ALL SELECT concat('d ', d.*) FROM cipherfleet.deks d
 UNION ALL SELECT concat('e ', e.*) FROM cipherfleet.events e) x`

// refused fails the test unless err refuses with these words, and nothing was changed by do.
func (o *office) refused(what string, words string, do func() error) {
	o.t.Helper()
	before := testenv.One[string](o.t, o, registryState)
	err := do()
	var refusal lifecycle.Refusal
	if !errors.As(err, &refusal) || refusal.Hint() == "" || !strings.Contains(err.Error(), words) {
		o.t.Errorf("%s: %v, want a refusal with %q", what, err, words)
	}
	if testenv.One[string](o.t, o, registryState) != before {
		o.t.Errorf("%s: it was refused and changed something", what)
	}
}

func (o *office) lease(id string, revision int64, d time.Duration) {
	o.t.Helper()
	if err := lifecycle.Present(o.t.Context(), o, lifecycle.Lease{ID: id, Kind: lifecycle.LeaseClient, Revision: revision, For: d}); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) retire(number uint16) error {
	return o.InTx(o.t.Context(), func(tx pg.Tx) error {
		return o.registrar().RetireScheme(o.t.Context(), tx, o.first.Column, number)
	})
}

// shred deletes a tenant's key, as package shred does.
func (o *office) shred(column uint32, tenant string) {
	o.t.Helper()
	err := o.InTx(o.t.Context(), func(tx pg.Tx) error {
		if _, err := lifecycle.BeginChange(o.t.Context(), tx); err != nil {
			return err
		}
		_, err := tx.Exec(o.t.Context(), `UPDATE cipherfleet.deks SET wrapped = NULL, destroyed_at = now() WHERE column_id = $1 AND tenant = $2`, column, tenant)
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) destroy(number uint16) error {
	return o.InTx(o.t.Context(), func(tx pg.Tx) error {
		return o.registrar().DestroyScheme(o.t.Context(), tx, o.first.Column, number)
	})
}

func (o *office) states() string {
	o.t.Helper()
	all, err := lifecycle.Schemes(o.t.Context(), o, o.first.Column)
	if err != nil {
		o.t.Fatal(err)
	}
	var list []string
	for _, s := range all {
		list = append(list, fmt.Sprintf("%d %s %d", s.Number, s.State, s.Keys))
	}
	return strings.Join(list, ", ")
}

func TestASchemesWholeLife(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	second := o.next()
	if got := o.states(); second.Number != 2 || got != "1 active 1, 2 readable 1" {
		t.Fatalf("made %+v: %s", second, got)
	}
	o.activate(second)
	if got := o.states(); got != "1 readable 1, 2 active 1" {
		t.Errorf("activated: %s", got)
	}
	for range 2 { // the second time changes nothing
		if err := o.retire(1); err != nil {
			t.Fatal(err)
		}
	}
	o.Run(t, `ALTER TABLE cipherfleet.schemes DISABLE TRIGGER immutable; UPDATE cipherfleet.schemes SET retired_at = retired_at - retain WHERE number = 1; ALTER TABLE cipherfleet.schemes ENABLE ALWAYS TRIGGER immutable`)
	for range 2 {
		if err := o.destroy(1); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.states(); got != "1 destroyed 0, 2 active 1" {
		t.Errorf("in the end: %s", got)
	}
	events := testenv.Column[string](t, o, `SELECT concat_ws(' ', actor, details->>'reason', details->>'scheme', details->>'from', details->>'to') FROM cipherfleet.events WHERE event = 'scheme_changed' ORDER BY id`)
	want := []string{"ada a test 2 readable", "ada a test 2 readable active", "ada a test 1 readable retired", "ada a test 1 retired destroyed"}
	if !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
}

func TestWhatASchemesStateForbids(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	r := o.registrar()
	activate := func(number uint16) func() error {
		return func() error { return r.ActivateScheme(t.Context(), o.first.Column, number) }
	}
	o.refused("activate what is not there", "has no scheme 9", activate(9))
	o.refused("retire what is not there", "has no scheme 9", func() error { return o.retire(9) })
	o.refused("destroy what is not there", "has no scheme 9", func() error { return o.destroy(9) })
	o.refused("retire what is written with", "no other scheme", func() error { return o.retire(1) })
	o.refused("destroy what is written with", "not retired", func() error { return o.destroy(1) })
	second := o.next()
	o.refused("retire the only active one", "no other scheme", func() error { return o.retire(1) })
	o.activate(second)
	o.refused("destroy what can be read", "not retired", func() error { return o.destroy(1) })
	if err := o.retire(1); err != nil {
		t.Fatal(err)
	}
	o.refused("destroy what is retained", "retained until", func() error { return o.destroy(1) })
	o.refused("activate what is retired", "is retired", activate(1))
	o.refused("a number that was used", "another one already", func() error {
		_, err := r.NewScheme(t.Context(), lifecycle.Definition{Scheme: cell.Scheme{Column: o.first.Column, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecBytes}})
		return err
	})
	o.refused("a number below", "its number was used before", func() error {
		_, err := r.NewScheme(t.Context(), lifecycle.Definition{Scheme: cell.Scheme{Column: o.first.Column, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, RowBound: true, Padding: 16}})
		return err
	})
	o.refused("the same with another retention", "another one already", func() error {
		_, err := r.NewScheme(t.Context(), lifecycle.Definition{Scheme: cell.Scheme{Column: o.first.Column, Number: 2, Suite: second.Suite, Codec: second.Codec, Padding: second.Padding}, Retain: time.Hour})
		return err
	})
}

// A scheme is written with only when everybody who is there can read it.
func TestActivationWaitsForEveryLiveLease(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	before := revision(t, o.DB)
	o.lease("slow", before, time.Minute)
	o.lease("expired", before, -time.Second)
	second := o.next()
	o.lease("quick", revision(t, o.DB), time.Minute)
	activate := func() error { return o.registrar().ActivateScheme(t.Context(), second.Column, second.Number) }
	o.refused("a slow lease", "slow", activate)
	var ready *lifecycle.NotReadyError
	if err := activate(); !errors.As(err, &ready) || !slices.Equal(ready.Waiting, []string{"slow"}) || ready.Revision != revision(t, o.DB) {
		t.Errorf("waits for %+v", ready)
	}
	o.lease("slow", revision(t, o.DB), time.Minute)
	if err := activate(); err != nil {
		t.Fatal(err)
	}
	o.refused("a writer that has not heard of it", "slow", func() error { return o.retire(1) })
	for _, id := range []string{"slow", "quick"} {
		o.lease(id, revision(t, o.DB), time.Minute)
	}
	if err := o.retire(1); err != nil {
		t.Error(err)
	}
}

// The keychain of a program is what its lease is about.
func TestAKeychainThatRefreshedLetsTheSchemeIn(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	k := o.open(lifecycle.KeychainConfig{})
	second := o.next()
	o.lease("client", k.Revision(), time.Minute)
	o.refused("before its refresh", "client", func() error { return o.registrar().ActivateScheme(t.Context(), second.Column, second.Number) })
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.lease("client", k.Revision(), time.Minute)
	o.activate(second)
}

// Two operators at once make one scheme, or one of them is told that the number is taken.
func TestTwoOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	same := lifecycle.Definition{Scheme: cell.Scheme{Column: o.first.Column, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText}}
	other := same
	other.Number, other.Padding = 3, 32
	otherAgain := other
	otherAgain.Padding = 64
	made, errs := make([]cell.Scheme, 4), make([]error, 4)
	var all sync.WaitGroup
	for i, d := range []lifecycle.Definition{same, same, other, otherAgain} {
		all.Go(func() { made[i], errs[i] = o.registrar().NewScheme(t.Context(), d) })
	}
	all.Wait()
	if errs[0] == nil && made[0] != made[1] {
		t.Errorf("one scheme became two: %+v %+v", made[0], made[1])
	}
	if (errs[2] == nil) == (errs[3] == nil) {
		t.Errorf("two definitions of one number: %v, %v", errs[2], errs[3])
	}
	for _, err := range errs {
		var refusal lifecycle.Refusal
		if err != nil && !errors.As(err, &refusal) {
			t.Error(err)
		}
	}
	if n := testenv.One[int](t, o, "SELECT count(*) FROM (SELECT FROM cipherfleet.deks GROUP BY scheme HAVING count(*) <> 1) x"); n != 0 {
		t.Errorf("%d schemes without exactly one key", n)
	}
}

// Whatever call of the KEK fails, and also if the process dies between persisting a key and proving it, no key is
// written with that was never proven, and the next call goes on.
func TestNewSchemeGoesOnWhereItWasBrokenOff(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	want := lifecycle.Definition{Scheme: cell.Scheme{Column: o.first.Column, Number: 2, Suite: cell.SuiteAES256SIV, Codec: cell.CodecText}}
	persisted := false
	for call := int64(1); ; call++ {
		o.kek.down.Store(false)
		o.kek.after.Store(call)
		s, err := o.registrar().NewScheme(t.Context(), want)
		persisted = persisted || err != nil && strings.Contains(o.states(), "2 readable 1")
		if err == nil {
			o.kek.after.Store(0)
			o.activate(s)
			break
		}
		if strings.Contains(o.states(), "2 active") {
			t.Fatal("a scheme is written with whose key was never proven")
		}
	}
	if !persisted || o.states() != "1 readable 1, 2 active 1" {
		t.Errorf("broken off between persisting and proving: %t; in the end %s", persisted, o.states())
	}
	k := o.open(lifecycle.KeychainConfig{})
	s, _ := k.Active(o.first.Column)
	if err := o.read(k, o.mustSeal(k, s)); err != nil || s.Suite != cell.SuiteAES256SIV {
		t.Errorf("%+v: %v", s, err)
	}
}

func TestADamagedKeyIsNotActivated(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	second := o.next()
	o.Run(t, `UPDATE cipherfleet.deks SET wrapped = (SELECT wrapped FROM cipherfleet.deks WHERE scheme = 1) WHERE scheme = 2`)
	if err := o.registrar().ActivateScheme(t.Context(), second.Column, second.Number); err == nil || o.states() != "1 active 1, 2 readable 1" {
		t.Errorf("a damaged key was activated: %v, %s", err, o.states())
	}
}

// tenants is an office whose second scheme has a key per tenant.
func tenants(t *testing.T) (*office, cell.Scheme) {
	t.Helper()
	o := newOffice(t)
	want := o.first
	want.Number, want.KeyID = 2, 0
	s, err := o.registrar().NewScheme(t.Context(), lifecycle.Definition{Scheme: want, Tenant: "tenant_id"})
	if err != nil {
		t.Fatal(err)
	}
	o.activate(s)
	return o, s
}

func TestATenantHasOneKey(t *testing.T) {
	t.Parallel()
	o, s := tenants(t)
	made := make([]cell.Scheme, 6)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			tenant := []string{"a", "b"}[i%2]
			all, err := lifecycle.TenantKeys(t.Context(), o.DB.DB, o.kek, s, tenant)
			if made[i] = all[tenant]; err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made[0] != made[2] || made[2] != made[4] || made[1] != made[3] || made[0] == made[1] || made[0].KeyID == s.KeyID || made[0].Number != s.Number {
		t.Errorf("keys %v", made)
	}
	if _, err := lifecycle.TenantKeys(t.Context(), o.DB.DB, o.kek, o.first, "a"); err == nil {
		t.Error("a scheme of one key has a tenant's")
	}
	k := o.open(lifecycle.KeychainConfig{})
	if found, ok := k.Tenant(s, "a"); !ok || found != made[0] {
		t.Errorf("the keychain has %+v", found)
	}
	if active, _ := k.Active(s.Column); active != s {
		t.Errorf("active is %+v, want %+v", active, s)
	}
	if known, _ := k.Keyring().Scheme(s.Column, s.Number); known != s {
		t.Errorf("the scheme is known by a tenant's key: %+v", known)
	}
	third, err := k.TenantKey(t.Context(), o.DB.DB, s, "c")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.read(k, o.mustSeal(k, third)); err != nil {
		t.Error(err)
	}
}

// However many tenants there are, and whoever else makes keys of some of them at the same time, each has one, made in one
// transaction with others, proven and loaded; who was shredded gets none, and keeps nobody from his.
func TestKeysOfManyTenantsAreMadeTogether(t *testing.T) {
	t.Parallel()
	o, s := tenants(t)
	k, other := o.open(lifecycle.KeychainConfig{}), o.open(lifecycle.KeychainConfig{})
	if _, err := k.TenantKey(t.Context(), o.DB.DB, s, "gone"); err != nil {
		t.Fatal(err)
	}
	o.shred(s.Column, "gone")
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := []string{"gone"}
	for i := range 120 {
		names = append(names, fmt.Sprint("firm ", i))
	}
	before := revision(t, o.DB)
	var all sync.WaitGroup
	for some, k := range map[int]*lifecycle.Keychain{80: k, 121: other} {
		all.Go(func() {
			if err := k.TenantKeys(t.Context(), o.DB.DB, s, names[:some]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if moved := revision(t, o.DB) - before; moved > 2 {
		t.Errorf("it took %d transactions", moved)
	}
	if n := testenv.One[string](t, o, `SELECT count(*) || ' ' || count(DISTINCT id) FROM cipherfleet.deks WHERE tenant LIKE 'firm %' AND wrapped IS NOT NULL`); n != "120 120" {
		t.Errorf("keys: %s", n)
	}
	if _, ok := other.Tenant(s, "gone"); ok {
		t.Error("a shredded tenant got a key")
	}
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names[1:] {
		found, ok := other.Tenant(s, name)
		if !ok {
			t.Fatalf("%s has no key", name)
		}
		if err := o.read(k, o.mustSeal(other, found)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	o.kek.down.Store(true)
	if err := other.TenantKeys(t.Context(), o.DB.DB, s, names[1:]); err != nil {
		t.Errorf("what is here was asked for again: %v", err)
	}
	if err := other.TenantKeys(t.Context(), o.DB.DB, s, []string{"later"}); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Errorf("without the KEK: %v", err)
	}
	o.kek.down.Store(false)
	o.Run(t, `UPDATE cipherfleet.deks SET wrapped = (SELECT wrapped FROM cipherfleet.deks WHERE tenant = 'firm 1') WHERE tenant = 'firm 2'`)
	if _, err := lifecycle.TenantKeys(t.Context(), o.DB.DB, o.kek, s, "firm 1", "firm 2", "firm 3"); err == nil {
		t.Error("a key that does not open its canary was given out")
	}
}

func TestAShreddedTenantIsGone(t *testing.T) {
	t.Parallel()
	o, s := tenants(t)
	k := o.open(lifecycle.KeychainConfig{})
	a, errA := k.TenantKey(t.Context(), o.DB.DB, s, "a")
	b, errB := k.TenantKey(t.Context(), o.DB.DB, s, "b")
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	ofA, ofB := o.mustSeal(k, a), o.mustSeal(k, b)
	o.shred(s.Column, "a")
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*lifecycle.Keychain{"running": k, "new": o.open(lifecycle.KeychainConfig{})} {
		if err := o.read(k, ofA); !errors.Is(err, cell.ErrKeyDestroyed) {
			t.Errorf("%s: a cell of a shredded tenant: %v", name, err)
		}
		if err := o.read(k, ofB); err != nil {
			t.Errorf("%s: another tenant's cell: %v", name, err)
		}
		if _, err := k.TenantKey(t.Context(), o.DB.DB, s, "a"); !errors.Is(err, cell.ErrKeyDestroyed) {
			t.Errorf("%s: a shredded tenant got a key: %v", name, err)
		}
		if k.Revision() != revision(t, o.DB) {
			t.Errorf("%s: a shredded tenant keeps it from the registry's revision", name)
		}
	}
	if n := testenv.One[int](t, o, "SELECT count(*) FROM cipherfleet.deks WHERE tenant = 'a' AND wrapped IS NULL AND destroyed_at IS NOT NULL"); n != 1 {
		t.Error("the row of its key is gone")
	}
}

func TestKeysAreWrappedAnew(t *testing.T) {
	t.Parallel()
	o, s := tenants(t)
	if _, err := lifecycle.TenantKeys(t.Context(), o.DB.DB, o.kek, s, "a"); err != nil {
		t.Fatal(err)
	}
	old := o.open(lifecycle.KeychainConfig{})
	sealed := o.mustSeal(old, o.first)
	to := &otherKEK{newKEK(t)}
	for call := int64(1); ; call++ { // whatever call fails, every key can be opened by one of the two
		to.down.Store(false)
		to.after.Store(call)
		err := o.registrar().WrapAnew(t.Context(), to, nil)
		to.down.Store(false)
		to.after.Store(0)
		for _, k := range keyRows(t, o) {
			if k.KEK != o.kek.URI() && k.KEK != to.URI() {
				t.Fatalf("key %d is under %s", k.ID, k.KEK)
			}
		}
		if err == nil {
			break
		}
		if cell.KEKClassOf(err) != cell.KEKUnavailable {
			t.Fatal(err)
		}
	}
	for _, k := range keyRows(t, o) {
		if k.KEK != to.URI() {
			t.Errorf("key %d is under %s", k.ID, k.KEK)
		}
	}
	k, err := lifecycle.OpenKeychain(t.Context(), o, to, lifecycle.KeychainConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.read(k, sealed); err != nil {
		t.Error(err)
	}
	if err := errors.Join(old.Refresh(t.Context()), o.read(old, sealed)); err != nil {
		t.Errorf("who holds the keys already, and has the old KEK: %v", err)
	}
	before := testenv.One[string](t, o, "SELECT string_agg(wrapped::text, ' ' ORDER BY id) FROM cipherfleet.deks")
	changed := 0
	err = lifecycle.Registrar{DB: o.DB.DB, KEK: to}.WrapAnew(t.Context(), to, func(w lifecycle.Wrapped) {
		if w.Changed {
			changed++
		}
	})
	if err != nil || changed != 3 || testenv.One[string](t, o, "SELECT string_agg(wrapped::text, ' ' ORDER BY id) FROM cipherfleet.deks") == before {
		t.Errorf("wrapped %d keys anew under the same KEK: %v", changed, err)
	}
}

// otherKEK is another key, at another place.
type otherKEK struct{ *memoryKEK }

func (*otherKEK) URI() string { return "memory:other" }

func keyRows(t *testing.T, o *office) []lifecycle.KeyRow {
	t.Helper()
	rows, err := lifecycle.KeyRows(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
