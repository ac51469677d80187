package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// counted counts the statements that pass through it.
type counted struct {
	pg.Querier
	reads atomic.Int64
}

func (c *counted) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	c.reads.Add(1)
	return c.Querier.QueryRow(ctx, sql, args...)
}

// watch is a clock that a test moves.
type watch struct{ ahead atomic.Int64 }

func (w *watch) now() time.Time          { return time.Now().Add(time.Duration(w.ahead.Load())) }
func (w *watch) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// office is a column with its first scheme.
type office struct {
	*testenv.DB
	t     *testing.T
	kek   *memoryKEK
	first cell.Scheme
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{DB: testenv.Database(t), t: t, kek: newKEK(t)}
	first, err := lifecycle.ActivateScheme(t.Context(), o.DB.DB, o.kek, firstScheme(t, o.DB))
	if err != nil {
		t.Fatal(err)
	}
	o.first = first
	return o
}

func (o *office) registrar() lifecycle.Registrar {
	return lifecycle.Registrar{DB: o.DB.DB, KEK: o.kek, Actor: "ada", Reason: "a test"}
}

// next makes the next scheme, readable.
func (o *office) next() cell.Scheme {
	o.t.Helper()
	want := o.first
	want.Number, want.KeyID, want.RowBound = 0, 0, false
	s, err := o.registrar().NewScheme(o.t.Context(), lifecycle.Definition{Scheme: want})
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

func (o *office) activate(s cell.Scheme) {
	o.t.Helper()
	if err := o.registrar().ActivateScheme(o.t.Context(), s.Column, s.Number); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) open(c lifecycle.KeychainConfig) *lifecycle.Keychain {
	o.t.Helper()
	k, err := lifecycle.OpenKeychain(o.t.Context(), o.DB, o.kek, c)
	if err != nil {
		o.t.Fatal(err)
	}
	return k
}

func (o *office) address() cell.Address {
	return cell.Address{Column: o.first.Column, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), 1)}
}

func (o *office) seal(k *lifecycle.Keychain, s cell.Scheme) ([]byte, error) {
	return k.Keyring().Seal(nil, s, o.address(), []byte("alice@example.com"))
}

func (o *office) mustSeal(k *lifecycle.Keychain, s cell.Scheme) []byte {
	o.t.Helper()
	sealed, err := o.seal(k, s)
	if err != nil {
		o.t.Fatal(err)
	}
	return sealed
}

// read opens as an application does: once more if the keychain has learned something.
func (o *office) read(k *lifecycle.Keychain, sealed []byte) error {
	_, _, err := k.Keyring().Open(nil, o.address(), sealed)
	if k.Learn(o.t.Context(), err) {
		_, _, err = k.Keyring().Open(nil, o.address(), sealed)
	}
	return err
}

func TestAKeychainFollowsTheRegistry(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	k := o.open(lifecycle.KeychainConfig{})
	ring := k.Keyring()
	old := o.mustSeal(k, o.first)
	second := o.next()
	if k.Revision() >= revision(t, o.DB) {
		t.Error("it carries a revision that it never read")
	}
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, ok := k.Active(o.first.Column); !ok || s != o.first || k.Revision() != revision(t, o.DB) {
		t.Errorf("active %+v, revision %d of %d", s, k.Revision(), revision(t, o.DB))
	}
	if err := o.read(k, o.mustSeal(k, second)); err != nil {
		t.Errorf("a cell of the readable scheme: %v", err)
	}
	o.activate(second)
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, _ := k.Active(o.first.Column); s != second || k.Keyring() != ring {
		t.Errorf("active is %+v, want %+v", s, second)
	}
	o.Run(t, `UPDATE cipherfleet.schemes SET state = 'retired', retired_at = now() WHERE number = 1; UPDATE cipherfleet.installation SET revision = revision + 1`)
	if err := errors.Join(k.Refresh(t.Context()), o.read(k, o.mustSeal(k, second))); err != nil {
		t.Error(err)
	}
	for name, k := range map[string]*lifecycle.Keychain{"running": k, "new": o.open(lifecycle.KeychainConfig{})} {
		if err := o.read(k, old); !errors.Is(err, cell.ErrKeyRetired) {
			t.Errorf("%s: a cell of a retired scheme: %v", name, err)
		}
		if _, err := o.seal(k, o.first); !errors.Is(err, cell.ErrKeyRetired) {
			t.Errorf("%s: sealed under a retired scheme: %v", name, err)
		}
		if k.Revision() != revision(t, o.DB) {
			t.Errorf("%s: a retired scheme keeps it from the registry's revision", name)
		}
	}
}

// A reader that nobody told of a scheme reads the registry once, however many ask at once, and finds it.
func TestACellOfAnUnknownSchemeRefreshesOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	through := &counted{Querier: o.DB}
	k, err := lifecycle.OpenKeychain(t.Context(), through, o.kek, lifecycle.KeychainConfig{})
	if err != nil {
		t.Fatal(err)
	}
	second := o.next()
	sealed := o.mustSeal(o.open(lifecycle.KeychainConfig{}), second)
	before := through.reads.Load()
	unknown := fmt.Errorf("read: %w", cell.ErrUnknownScheme)
	start := make(chan struct{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			<-start
			if !k.Learn(t.Context(), unknown) {
				t.Error("nothing was learned")
			}
		})
	}
	close(start)
	all.Wait()
	if n := through.reads.Load() - before; n > 3 {
		t.Errorf("50 readers made %d readings of the registry", n)
	}
	if err := o.read(k, sealed); err != nil {
		t.Error(err)
	}
	for _, err := range []error{nil, cell.ErrAuth, cell.ErrNotACell, context.Canceled} {
		if k.Learn(t.Context(), err) {
			t.Errorf("learned from %v", err)
		}
	}
}

// Cells that nobody knows, in a loop, do not become a storm of statements.
func TestGarbageReadsTheRegistryRarely(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	through := &counted{Querier: o.DB}
	k, err := lifecycle.OpenKeychain(t.Context(), through, o.kek, lifecycle.KeychainConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 350*time.Millisecond)
	defer cancel()
	began := time.Now()
	for ctx.Err() == nil {
		k.Learn(ctx, cell.ErrUnknownKey)
	}
	took := time.Since(began)
	if n := through.reads.Load(); n > 5+int64(took/(100*time.Millisecond)) { // some of them before it began
		t.Errorf("%d readings in %v", n, took)
	}
}

func TestAKeyThatIsRevokedIsDroppedAndComesBack(t *testing.T) {
	t.Parallel()
	o, clock := newOffice(t), &watch{}
	k := o.open(lifecycle.KeychainConfig{Now: clock.now, Poll: 20 * time.Millisecond})
	sealed := o.mustSeal(k, o.first)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); k.Run(ctx) }()
	defer func() { stop(); <-ended }()
	denied := cell.KEKDenied
	o.kek.class.Store(&denied)
	clock.advance(6 * time.Minute)
	testenv.Eventually(t, time.Minute, func() error {
		if err := o.read(k, sealed); !errors.Is(err, cell.ErrKeyRevoked) {
			return fmt.Errorf("after the KEK said no: %v", err)
		}
		return nil
	})
	if _, err := o.seal(k, o.first); !errors.Is(err, cell.ErrKeyRevoked) {
		t.Errorf("sealed under a revoked key: %v", err)
	}
	if s, ok := k.Active(o.first.Column); !ok || s != o.first {
		t.Error("a revoked key made the column one without encryption")
	}
	o.kek.class.Store(nil)
	testenv.Eventually(t, time.Minute, func() error { return o.read(k, sealed) })
}

// Whoever cannot have a key does not say that he carries it: its scheme is not activated over his head.
func TestAKeychainWithoutAKeyDoesNotCarryItsRevision(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	k := o.open(lifecycle.KeychainConfig{})
	carried := k.Revision()
	second := o.next()
	denied := cell.KEKDisabled
	o.kek.class.Store(&denied)
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.Revision() != carried {
		t.Errorf("it carries revision %d without its key", k.Revision())
	}
	if _, err := o.seal(k, second); !errors.Is(err, cell.ErrKeyRevoked) {
		t.Errorf("sealed under a key nobody gave: %v", err)
	}
	o.mustSeal(k, o.first)
	o.kek.class.Store(nil)
	if err := k.Refresh(t.Context()); err != nil || k.Revision() != revision(t, o.DB) {
		t.Errorf("revision %d after the key was given: %v", k.Revision(), err)
	}
	o.mustSeal(k, second)
}

func TestAnOutageChangesNothingThatIsLoaded(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	k := o.open(lifecycle.KeychainConfig{})
	sealed := o.mustSeal(k, o.first)
	o.next()
	o.kek.down.Store(true)
	if err := k.Refresh(t.Context()); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Errorf("refreshed while the KEK is away: %v", err)
	}
	if s, ok := k.Active(o.first.Column); !ok || s != o.first || k.Revision() == revision(t, o.DB) {
		t.Errorf("active %v, revision %d", s, k.Revision())
	}
	if err := o.read(k, sealed); err != nil {
		t.Error(err)
	}
	if _, err := lifecycle.OpenKeychain(t.Context(), o.DB, o.kek, lifecycle.KeychainConfig{}); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Errorf("a fresh keychain without its KEK: %v", err)
	}
}

// One key that is damaged, or gone, harms those who need it and nobody else.
func TestADamagedKeyIsWithheld(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]string{
		"another canary":   `UPDATE cipherfleet.deks SET canary = set_byte(canary, length(canary) - 1, get_byte(canary, length(canary) - 1) # 1) WHERE scheme = 1`,
		"another wrapping": `UPDATE cipherfleet.deks SET wrapped = set_byte(wrapped, length(wrapped) - 1, get_byte(wrapped, length(wrapped) - 1) # 1) WHERE scheme = 1`,
		"no wrapping":      `UPDATE cipherfleet.deks SET wrapped = NULL, destroyed_at = now() WHERE scheme = 1`,
		"the other's":      `UPDATE cipherfleet.deks SET wrapped = (SELECT wrapped FROM cipherfleet.deks WHERE scheme = 2), canary = (SELECT canary FROM cipherfleet.deks WHERE scheme = 2) WHERE scheme = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			second := o.next()
			o.Run(t, damage)
			k := o.open(lifecycle.KeychainConfig{})
			var damaged *lifecycle.DamageError
			if _, err := o.seal(k, o.first); !errors.As(err, &damaged) || damaged.Scheme != 1 {
				t.Errorf("sealed under a damaged key: %v", err)
			}
			if k.Revision() == revision(t, o.DB) {
				t.Error("it says that it carries every key")
			}
			if err := o.read(k, o.mustSeal(k, second)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A row of the registry that is gone takes its key along: what would be sealed under it, nobody else could open.
func TestAKeyWhoseRowIsGoneIsTakenAway(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	second := o.next()
	k := o.open(lifecycle.KeychainConfig{})
	o.mustSeal(k, second)
	o.Run(t, `ALTER TABLE cipherfleet.deks DISABLE TRIGGER USER; DELETE FROM cipherfleet.deks WHERE scheme = 2; UPDATE cipherfleet.installation SET revision = revision + 1`)
	if err := k.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	var damaged *lifecycle.DamageError
	if _, err := o.seal(k, second); !errors.As(err, &damaged) {
		t.Errorf("sealed under a key that the registry lost: %v", err)
	}
	o.mustSeal(k, o.first)
}

func TestAKeychainOfSomeColumns(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	k := o.open(lifecycle.KeychainConfig{Columns: []uint32{o.first.Column + 1}})
	if _, ok := k.Keyring().Scheme(o.first.Column, 1); ok || k.Revision() != revision(t, o.DB) {
		t.Errorf("it has the key of a column nobody asked for: %t, revision %d", ok, k.Revision())
	}
}

func TestADigestKeyIsTheOldestKeys(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.next()
	k := o.open(lifecycle.KeychainConfig{})
	want, err := lifecycle.LoadKeys(t.Context(), o.DB, o.kek)
	if err != nil {
		t.Fatal(err)
	}
	key, ok, err := k.Digest(t.Context(), o.first.Column)
	if err != nil || !ok || key.New().Row(nil, []byte("x")) != want.Digests[o.first.Column].New().Row(nil, []byte("x")) {
		t.Errorf("another digest key: %t, %v", ok, err)
	}
}

func TestARevisionIsNotified(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	conn, err := pgx.Connect(t.Context(), o.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the test is over
	if _, err := conn.Exec(t.Context(), "LISTEN "+lifecycle.Channel); err != nil {
		t.Fatal(err)
	}
	o.next()
	heard, err := conn.WaitForNotification(t.Context())
	if err != nil || heard.Channel != lifecycle.Channel || heard.Payload != fmt.Sprint(revision(t, o.DB)) {
		t.Errorf("heard %+v, %v; the revision is %d", heard, err, revision(t, o.DB))
	}
}

func TestLeasesComeAndGo(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	present := func(id string, revision int64, d time.Duration) {
		t.Helper()
		if err := lifecycle.Present(t.Context(), db, lifecycle.Lease{ID: id, Kind: lifecycle.LeaseClient, Revision: revision, Slots: 2, Build: "1.2", For: d}); err != nil {
			t.Fatal(err)
		}
	}
	live := func() (ids []string) {
		t.Helper()
		leases, err := lifecycle.Live(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leases {
			ids = append(ids, fmt.Sprintf("%s@%d", l.ID, l.Revision))
		}
		return ids
	}
	present("b", 1, time.Minute)
	present("a", 1, time.Minute)
	present("gone", 1, -time.Second)
	present("b", 2, time.Minute)
	if got := live(); !slices.Equal(got, []string{"a@1", "b@2"}) {
		t.Errorf("live are %v", got)
	}
	if err := lifecycle.Absent(t.Context(), db, "a"); err != nil {
		t.Fatal(err)
	}
	if got := live(); !slices.Equal(got, []string{"b@2"}) {
		t.Errorf("live are %v", got)
	}
}
