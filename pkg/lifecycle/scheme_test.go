package lifecycle_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// memoryKEK is a key-encryption key that lives as long as its test. It can be out of reach.
type memoryKEK struct {
	aead  cipher.AEAD
	down  atomic.Bool
	class atomic.Pointer[cell.KEKClass] // of what every call is refused with; nil: none is
	after atomic.Int64                  // of so many calls it goes down; 0: never
}

func newKEK(t *testing.T) *memoryKEK {
	t.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return &memoryKEK{aead: aead}
}

func (k *memoryKEK) URI() string { return "memory:test" }

func (k *memoryKEK) Wrap(_ context.Context, dek, aad []byte) ([]byte, error) {
	if err := k.reach(); err != nil {
		return nil, err
	}
	return k.aead.Seal(nil, nil, dek, aad), nil
}

func (k *memoryKEK) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	if err := k.reach(); err != nil {
		return nil, err
	}
	dek, err := k.aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, &cell.KEKError{Class: cell.KEKCorrupt, URI: k.URI(), Err: err}
	}
	return dek, nil
}

func (k *memoryKEK) reach() error {
	if k.after.Load() > 0 && k.after.Add(-1) == 0 {
		k.down.Store(true)
	}
	if class := k.class.Load(); class != nil {
		return &cell.KEKError{Class: *class, URI: k.URI(), Err: errors.New("refused")}
	}
	if k.down.Load() {
		return &cell.KEKError{Class: cell.KEKUnavailable, URI: k.URI(), Err: errors.New("out of reach")}
	}
	return nil
}

// firstScheme registers a column and describes its first scheme.
func firstScheme(t *testing.T, db *testenv.DB) cell.Scheme {
	t.Helper()
	c := register(t, db, usersTable(t, db))
	return cell.Scheme{Column: c.ID, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, RowBound: true, Padding: 16}
}

func TestASchemeIsProvenAndKept(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	before := revision(t, db)
	first, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want)
	if err != nil {
		t.Fatal(err)
	}
	if want.KeyID = first.KeyID; first != want || first.KeyID == 0 || revision(t, db) <= before {
		t.Errorf("got %+v, want %+v; revision %d after %d", first, want, revision(t, db), before)
	}
	before = revision(t, db)
	want.KeyID = 0
	again, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want)
	if err != nil || again != first || revision(t, db) != before {
		t.Errorf("activated again as %+v, revision %d, %v", again, revision(t, db), err)
	}
	sealAndOpen(t, db, kek, first)
}

// sealAndOpen seals with one loading of the keys and opens with another.
func sealAndOpen(t *testing.T, db *testenv.DB, kek cell.KEK, s cell.Scheme) {
	t.Helper()
	writer, err := lifecycle.LoadKeys(t.Context(), db, kek, s.Column)
	if err != nil || writer.Active[s.Column] != s || writer.Revision != revision(t, db) {
		t.Fatalf("loaded %+v at revision %d, %v", writer.Active, writer.Revision, err)
	}
	address := cell.Address{Column: s.Column, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), 1)}
	sealed, err := writer.Keyring.Seal(nil, s, address, []byte("alice@example.com"))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := testenv.LoadKeyring(t.Context(), db, kek)
	if err != nil {
		t.Fatal(err)
	}
	if plain, _, err := reader.Open(nil, address, sealed); err != nil || string(plain) != "alice@example.com" {
		t.Errorf("a cell did not open: %v", err)
	}
}

func TestASchemeIsImmutable(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want); err != nil {
		t.Fatal(err)
	}
	other := want
	other.Padding = 0
	var conflict *lifecycle.SchemeConflictError
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, other); !errors.As(err, &conflict) || conflict.Have.Padding != 16 {
		t.Errorf("a scheme changed: %v", err)
	}
	if n := testenv.One[int](t, db, "SELECT count(*) FROM cipherfleet.deks"); n != 1 {
		t.Errorf("%d keys", n)
	}
}

func TestTheNextSchemeTakesOver(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	first, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want)
	if err != nil {
		t.Fatal(err)
	}
	want.Number, want.RowBound = 3, false
	second, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want)
	if err != nil || second.KeyID == first.KeyID {
		t.Fatal(second, err)
	}
	keys, err := lifecycle.LoadKeys(t.Context(), db, kek)
	if err != nil || keys.Active[want.Column] != second {
		t.Errorf("active %+v, %v", keys.Active, err)
	}
	if s, ok := keys.Keyring.Scheme(first.Column, first.Number); !ok || s != first {
		t.Errorf("the scheme before is %+v, no longer readable", s)
	}
	want.Number = 2
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want); err == nil {
		t.Error("schemes are numbered downwards")
	}
}

// Whatever call of the KEK fails, the next attempt goes on; no scheme is active before its key is proven.
func TestActivateGoesOnAfterAFailure(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	failures := 0
	for call := int64(1); ; call++ {
		kek.down.Store(false)
		kek.after.Store(call)
		s, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want)
		if err == nil {
			kek.after.Store(0)
			sealAndOpen(t, db, kek, s)
			break
		}
		failures++
		if cell.KEKClassOf(err) != cell.KEKUnavailable {
			t.Fatal(err)
		}
		if testenv.One[bool](t, db, "SELECT EXISTS (SELECT FROM cipherfleet.schemes WHERE state = 'active')") {
			t.Fatal("a scheme is active whose key was never proven")
		}
	}
	if n := testenv.One[int](t, db, "SELECT count(*) FROM cipherfleet.deks"); n != 1 || failures < 3 {
		t.Errorf("%d keys after %d failures", n, failures)
	}
}

func TestConcurrentActivationsAreOne(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	narrow, err := pg.Open(t.Context(), db.URL, pg.Options{MaxConns: 1}) // nobody may hold one connection and wait for another
	if err != nil {
		t.Fatal(err)
	}
	defer narrow.Close()
	ids := make([]uint32, 4)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			s, err := lifecycle.ActivateScheme(t.Context(), []*pg.DB{db.DB, narrow}[i%2], kek, want)
			if err != nil {
				t.Error(err)
			}
			ids[i] = s.KeyID
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] || id == 0 {
			t.Fatalf("key ids %v", ids)
		}
	}
}

func TestAKeyThatIsNotTheKeyIsRefused(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want); err != nil {
		t.Fatal(err)
	}
	if _, err := lifecycle.LoadKeys(t.Context(), db, newKEK(t)); cell.KEKClassOf(err) != cell.KEKCorrupt {
		t.Errorf("keys loaded under another KEK: %v", err)
	}
	canary := testenv.One[[]byte](t, db, "SELECT canary FROM cipherfleet.deks")
	wrong := bytes.Clone(canary)
	wrong[len(wrong)-1] ^= 1
	db.Run(t, "UPDATE cipherfleet.deks SET canary = $1", wrong)
	if _, err := lifecycle.LoadKeys(t.Context(), db, kek); !errors.Is(err, cell.ErrAuth) {
		t.Errorf("a key loaded whose canary does not open: %v", err)
	}
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want); !errors.Is(err, cell.ErrAuth) {
		t.Errorf("a key was proven whose canary does not open: %v", err)
	}
	db.Run(t, "UPDATE cipherfleet.deks SET canary = $1", canary)
	db.Run(t, "UPDATE cipherfleet.installation SET id = gen_random_uuid()")
	if _, err := lifecycle.LoadKeys(t.Context(), db, kek); err == nil {
		t.Error("keys of another installation loaded")
	}
}

func TestOnlyUsableKeysAreLoaded(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want); err != nil {
		t.Fatal(err)
	}
	if keys, err := lifecycle.LoadKeys(t.Context(), db, kek, want.Column+1); err != nil || len(keys.Active) != 0 {
		t.Errorf("keys of a column nobody asked for: %v, %v", keys, err)
	}
	db.Run(t, "UPDATE cipherfleet.schemes SET state = 'retired', retired_at = now()")
	keys, err := lifecycle.LoadKeys(t.Context(), db, kek)
	if err != nil || len(keys.Active) != 0 {
		t.Fatalf("keys of a retired scheme: %v, %v", keys, err)
	}
	if _, ok := keys.Keyring.Scheme(want.Column, want.Number); ok {
		t.Error("a retired scheme is in the keyring")
	}
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want); err == nil {
		t.Error("a retired scheme was activated")
	}
}

func TestASchemeOfNothing(t *testing.T) {
	t.Parallel()
	db, kek := testenv.Database(t), newKEK(t)
	want := firstScheme(t, db)
	unknown := want
	unknown.Column++
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, unknown); pg.Code(err) != "23503" {
		t.Errorf("a scheme of an unknown column: %v", err)
	}
	want.Padding = 7
	if _, err := lifecycle.ActivateScheme(t.Context(), db.DB, kek, want); err == nil {
		t.Error("a scheme outside the format was activated")
	}
}
