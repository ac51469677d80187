package cell_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// clock is a time that only the test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// service is a KEK that can be told to fail while others use it, and counts.
type service struct {
	*localKEK
	mu      sync.Mutex
	fail    error
	asked   int
	arrived func() // called for every unwrap
}

func (s *service) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.asked
	s.asked = 0
	return n
}

func (s *service) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	s.mu.Lock()
	s.asked++
	err, arrived := s.fail, s.arrived
	s.mu.Unlock()
	if arrived != nil {
		arrived()
	}
	if err != nil {
		return nil, err
	}
	return s.localKEK.Unwrap(ctx, wrapped, aad)
}

// fixture is a cache with two schemes of two columns loaded.
type fixture struct {
	clock   *clock
	service *service
	ring    *cell.Keyring
	cache   *cell.Cache
	schemes []cell.Scheme
	wrapped [][]byte
	canary  [][]byte
}

const soft, hard = 5 * time.Minute, 12 * time.Hour

func newCache(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{at: time.Unix(1_700_000_000, 0)}, service: &service{localKEK: newKEK(t)}, ring: cell.NewKeyring(registry)}
	var err error
	if f.cache, err = cell.NewCache(f.ring, f.service, cell.Lifetimes{Soft: soft, Hard: hard}, f.clock.now); err != nil {
		t.Fatal(err)
	}
	second := scheme()
	second.Column = 8
	f.schemes = []cell.Scheme{scheme(), second}
	for i, s := range f.schemes {
		d := dek(t, byte(i+1))
		id := cell.DEKID{Registry: registry, Column: s.Column, KeyID: s.KeyID, Suite: s.Suite}
		wrapped, err := cell.WrapDEK(t.Context(), f.service, id, d)
		if err != nil {
			t.Fatal(err)
		}
		canary, err := cell.Canary(registry, s, d)
		if err != nil {
			t.Fatal(err)
		}
		f.wrapped, f.canary = append(f.wrapped, wrapped), append(f.canary, canary)
		f.load(t, i)
	}
	f.service.count()
	return f
}

func (f *fixture) load(t *testing.T, i int) {
	t.Helper()
	if err := f.cache.Load(t.Context(), f.schemes[i], f.wrapped[i], f.canary[i]); err != nil {
		t.Fatal(err)
	}
}

func at(column uint32) cell.Address {
	a := row(1)
	a.Column = column
	return a
}

// uses tries every way to use the key of a scheme, through an old sealer too, and returns their one error.
func (f *fixture) uses(t *testing.T, i int, w *cell.Sealer, c []byte) error {
	t.Helper()
	s := f.schemes[i]
	sealed, err := f.ring.Seal(nil, s, at(s.Column), []byte("value"))
	opened, _, openErr := f.ring.Open(nil, at(s.Column), c)
	again, sealErr := w.Seal(nil, at(s.Column), []byte("value"))
	compareErr := w.OpenAndCompare(at(s.Column), c, []byte("value"))
	for name, other := range map[string]error{"open": openErr, "sealer": sealErr, "compare": compareErr} {
		if (err == nil) != (other == nil) {
			t.Errorf("seal: %v, but %s: %v", err, name, other)
		}
	}
	if err != nil && (sealed != nil || opened != nil || again != nil) {
		t.Error("something came out in spite of an error")
	}
	return err
}

func (f *fixture) sealer(t *testing.T, i int) (*cell.Sealer, []byte) {
	t.Helper()
	w, err := f.ring.Sealer(f.schemes[i])
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.Seal(nil, at(f.schemes[i].Column), []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}

func (f *fixture) refresh(t *testing.T) error {
	t.Helper()
	return f.cache.Refresh(t.Context())
}

func unavailable() error {
	return &cell.KEKError{Class: cell.KEKUnavailable, URI: "test:local", Err: errors.New("down")}
}

func TestTheKEKIsAskedAgainWhenTheSoftLifetimeIsOver(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	start := f.clock.now()
	next, ok := f.cache.Next()
	if early := start.Add(soft - soft/10); !ok || next.Before(early) || next.After(start.Add(soft)) {
		t.Errorf("next refresh after %v", next.Sub(start))
	}
	f.clock.pass(soft - soft/10 - 1)
	if err := f.refresh(t); err != nil || f.service.count() != 0 {
		t.Errorf("before its time: %v", err)
	}
	f.clock.pass(soft/10 + 1)
	if err := f.refresh(t); err != nil || f.service.count() != 2 {
		t.Errorf("in its time: %v", err)
	}
	if err := f.refresh(t); err != nil || f.service.count() != 0 {
		t.Errorf("right after: %v", err)
	}
	if next, ok := f.cache.Next(); !ok || !next.After(f.clock.now()) {
		t.Errorf("next refresh at %v", next)
	}
}

// TestAnOutageIsBorneUntilTheHardLifetimeIsOver, with and without attempts to refresh, and then everything is refused
// until the KEK is back.
func TestAnOutageIsBorneUntilTheHardLifetimeIsOver(t *testing.T) {
	t.Parallel()
	for _, refreshing := range []bool{true, false} {
		f := newCache(t)
		w, c := f.sealer(t, 0)
		f.service.set(unavailable())
		try := func() {
			if err := f.refresh(t); refreshing && cell.KEKClassOf(err) != cell.KEKUnavailable {
				t.Errorf("the outage is not reported: %v", err)
			}
		}
		f.clock.pass(soft)
		if refreshing {
			try()
		}
		f.clock.pass(hard - soft - 1)
		if refreshing {
			try()
		}
		if err := f.uses(t, 0, w, c); err != nil {
			t.Errorf("a moment before the end: %v", err)
		}
		f.clock.pass(1)
		if err := f.uses(t, 0, w, c); !errors.Is(err, cell.ErrKeyExpired) {
			t.Errorf("at the end: %v", err)
		}
		f.clock.pass(soft)
		try()
		if err := f.uses(t, 0, w, c); !errors.Is(err, cell.ErrKeyExpired) || refreshing && cell.KEKClassOf(err) != cell.KEKUnavailable {
			t.Errorf("after the end: %v", err)
		}
		f.service.set(nil)
		f.clock.pass(soft)
		if err := f.refresh(t); err != nil {
			t.Error(err)
		}
		if err := f.uses(t, 0, w, c); err != nil {
			t.Errorf("when the KEK is back: %v", err)
		}
	}
}

func TestDuringAnOutageTheKEKIsAskedRarely(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	f.service.set(unavailable())
	f.clock.pass(soft)
	if err := f.refresh(t); err == nil || f.service.count() != 1 {
		t.Errorf("two keys, one KEK: %v", err)
	}
	f.clock.pass(soft/10 - 1)
	if err := f.refresh(t); err != nil || f.service.count() != 0 {
		t.Errorf("too early: %v", err)
	}
	f.clock.pass(1)
	if err := f.refresh(t); err == nil || f.service.count() != 1 {
		t.Errorf("in time: %v", err)
	}
}

func TestARevocationDropsTheKeyAtOnce(t *testing.T) {
	t.Parallel()
	for class, want := range map[cell.KEKClass]error{
		cell.KEKDenied: cell.ErrKeyRevoked, cell.KEKDisabled: cell.ErrKeyRevoked, cell.KEKExposed: cell.ErrKeyRevoked, cell.KEKDestroyed: cell.ErrKeyDestroyed,
	} {
		f := newCache(t)
		w, c := f.sealer(t, 0)
		f.service.set(&cell.KEKError{Class: class, URI: "test:local", Err: errors.New("no")})
		f.clock.pass(soft)
		if err := f.refresh(t); cell.KEKClassOf(err) != class || f.service.count() != 2 {
			t.Errorf("%s is not reported: %v", class, err)
		}
		err := f.uses(t, 0, w, c)
		if !errors.Is(err, want) || cell.KEKClassOf(err) != class {
			t.Errorf("%s: %v", class, err)
		}
		f.clock.pass(soft)
		if err := f.refresh(t); err != nil || f.service.count() != 0 {
			t.Errorf("%s: what was dropped is asked for: %v", class, err)
		}
		if _, ok := f.cache.Next(); ok {
			t.Errorf("%s: there is something to refresh", class)
		}
		f.service.set(nil)
		f.load(t, 0)
		if err := f.uses(t, 0, w, c); err != nil {
			t.Errorf("%s, loaded again: %v", class, err)
		}
	}
}

// TestARevocationAnsweredToLoadCountsToo: a program that reloads its registry learns of it there.
func TestARevocationAnsweredToLoadCountsToo(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	w, c := f.sealer(t, 0)
	f.service.set(unavailable())
	if err := f.cache.Load(t.Context(), f.schemes[0], f.wrapped[0], f.canary[0]); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Error(err)
	}
	if err := f.uses(t, 0, w, c); err != nil {
		t.Errorf("unavailable: %v", err)
	}
	f.clock.pass(hard)
	if err := f.uses(t, 0, w, c); !errors.Is(err, cell.ErrKeyExpired) {
		t.Errorf("a failed load prolonged the key: %v", err)
	}
	f.service.set(nil)
	f.load(t, 0)
	f.service.set(&cell.KEKError{Class: cell.KEKDenied, URI: "test:local", Err: errors.New("no")})
	if err := f.cache.Load(t.Context(), f.schemes[0], f.wrapped[0], f.canary[0]); cell.KEKClassOf(err) != cell.KEKDenied {
		t.Error(err)
	}
	if err := f.uses(t, 0, w, c); !errors.Is(err, cell.ErrKeyRevoked) {
		t.Errorf("denied: %v", err)
	}
}

func TestOneKeyIsDroppedWithoutTheOthers(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	w, c := f.sealer(t, 1)
	f.clock.pass(1) // from here on the second key is younger
	f.load(t, 1)
	f.service.set(&cell.KEKError{Class: cell.KEKDenied, URI: "test:local", Err: errors.New("no")})
	if err := f.cache.Load(t.Context(), f.schemes[0], f.wrapped[0], f.canary[0]); err == nil {
		t.Fatal("no error")
	}
	if err := f.uses(t, 1, w, c); err != nil {
		t.Error(err)
	}
	if _, _, err := f.ring.Open(nil, at(7), c); !errors.Is(err, cell.ErrForeignColumn) {
		t.Error(err)
	}
}

func TestNonsenseIsNoRevocation(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	w, c := f.sealer(t, 0)
	f.service.empty = true
	f.clock.pass(soft)
	if err := f.refresh(t); cell.KEKClassOf(err) != cell.KEKCorrupt {
		t.Errorf("nonsense is not reported: %v", err)
	}
	if err := f.uses(t, 0, w, c); err != nil {
		t.Error(err)
	}
	f.clock.pass(hard - soft)
	if err := f.uses(t, 0, w, c); !errors.Is(err, cell.ErrKeyExpired) {
		t.Error(err)
	}
}

func TestWhatCannotBeProvenIsNotLoaded(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	newer := f.schemes[0]
	newer.Number++
	for name, load := range map[string]func() error{
		"a canary of another scheme": func() error { return f.cache.Load(t.Context(), newer, f.wrapped[0], f.canary[0]) },
		"a key of another column":    func() error { return f.cache.Load(t.Context(), newer, f.wrapped[1], f.canary[0]) },
	} {
		if err := load(); err == nil {
			t.Errorf("%s was loaded", name)
		}
		if _, err := f.ring.Seal(nil, newer, at(7), []byte("value")); !errors.Is(err, cell.ErrUnknownScheme) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.clock.pass(soft)
	if err := f.refresh(t); err != nil || f.service.count() != 2+2 { // two loads, two refreshes
		t.Errorf("what was not loaded is refreshed: %v", err)
	}
}

// TestASlowAnswerIsAsOldAsItsQuestion: the lifetimes count from the moment of asking.
func TestASlowAnswerIsAsOldAsItsQuestion(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	w, c := f.sealer(t, 0)
	f.service.arrived = func() { f.clock.pass(time.Hour) }
	f.load(t, 0)
	f.service.arrived = nil
	f.clock.pass(hard - time.Hour - 1)
	if err := f.uses(t, 0, w, c); err != nil {
		t.Errorf("a moment before the end: %v", err)
	}
	f.clock.pass(1)
	if err := f.uses(t, 0, w, c); !errors.Is(err, cell.ErrKeyExpired) {
		t.Errorf("at the end: %v", err)
	}
}

func TestOneRefreshAtATime(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	f.clock.pass(soft)
	inside, leave := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	f.service.arrived = func() {
		if once.CompareAndSwap(false, true) {
			close(inside)
			<-leave
		}
	}
	done := make(chan error)
	go func() { done <- f.cache.Refresh(t.Context()) }()
	<-inside
	if err := f.refresh(t); err != nil || f.service.count() != 1 {
		t.Errorf("the second refresh asked too: %v", err)
	}
	close(leave)
	if err := <-done; err != nil || f.service.count() != 1 {
		t.Errorf("the first refresh: %v", err)
	}
}

// TestAddDoesNotLiftTheTerms: what a cache has loaded stays under its lifetimes when it is added by hand again.
func TestAddDoesNotLiftTheTerms(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	w, c := f.sealer(t, 0)
	if err := f.ring.Add(f.schemes[0], dek(t, 1)); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(hard)
	if err := f.uses(t, 0, w, c); !errors.Is(err, cell.ErrKeyExpired) {
		t.Error(err)
	}
	if err := f.ring.Add(f.schemes[0], dek(t, 3)); err == nil {
		t.Error("another key under the same id was taken")
	}
}

func TestKeysAreUsedWhileTheyComeAndGo(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	w, c := f.sealer(t, 0)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, _, err := f.ring.Open(nil, at(7), c)
				if err != nil && !errors.Is(err, cell.ErrKeyRevoked) || err == nil && string(got) != "value" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	denied := &cell.KEKError{Class: cell.KEKDenied, URI: "test:local", Err: errors.New("no")}
	for range 50 {
		f.service.set(denied)
		f.clock.pass(soft)
		if err := f.refresh(t); err == nil {
			t.Error("no error")
		}
		f.service.set(nil)
		f.load(t, 0)
	}
	close(stop)
	all.Wait()
	if err := f.uses(t, 0, w, c); err != nil {
		t.Error(err)
	}
}

func TestLifetimesMustMakeSense(t *testing.T) {
	t.Parallel()
	for _, l := range []cell.Lifetimes{{}, {Soft: time.Minute}, {Hard: time.Hour}, {Soft: time.Hour, Hard: time.Minute}, {Soft: -1, Hard: time.Hour}} {
		if _, err := cell.NewCache(cell.NewKeyring(registry), newKEK(t), l, time.Now); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
	if _, err := cell.NewCache(cell.NewKeyring(registry), newKEK(t), cell.DefaultLifetimes(), time.Now); err != nil {
		t.Error(err)
	}
}

// What is withheld is gone from everybody's hands, is not asked for again, and comes back only when it is loaded.
func TestWhatIsWithheldIsGoneUntilItIsLoaded(t *testing.T) {
	t.Parallel()
	f := newCache(t)
	w, c := f.sealer(t, 0)
	why := errors.New("out of service")
	f.cache.Withhold(f.schemes[0], why)
	if err := f.uses(t, 0, w, c); !errors.Is(err, why) || f.cache.Holds(f.schemes[0]) || !f.cache.Holds(f.schemes[1]) {
		t.Errorf("withheld: %v", err)
	}
	f.clock.pass(soft)
	if err := f.refresh(t); err != nil || f.service.count() != 1 {
		t.Errorf("what is withheld is asked for: %v", err)
	}
	f.load(t, 0)
	if err := f.uses(t, 0, w, c); err != nil || !f.cache.Holds(f.schemes[0]) {
		t.Errorf("loaded again: %v", err)
	}
	never := f.schemes[0]
	never.Number, never.KeyID = 900, 900
	f.cache.Withhold(never, why)
	if _, err := f.ring.Seal(nil, never, at(1), []byte("x")); !errors.Is(err, why) {
		t.Errorf("a key that was never there: %v", err)
	}
	if s, ok := f.ring.Scheme(never.Column, never.Number); !ok || s != never {
		t.Error("its scheme is not known")
	}
}
