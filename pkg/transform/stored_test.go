package transform_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// sealedIn is what a value becomes in one form.
func sealedIn(t *testing.T, ring *cell.Keyring, scheme cell.Scheme, form cell.Form, row int64, plain string) []byte {
	t.Helper()
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	values := []transform.Value{{Address: address(row), In: []byte(plain)}}
	if err := transform.Formed(e, cell.FormBytes, form).Apply(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	return values[0].Out
}

func TestWhatIsStoredStaysIfItIsACellOfTheValue(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	second := scheme
	second.Number, second.KeyID = 2, 4
	newer := another(t, ring, second)
	lost := cell.NewKeyring([16]byte{1})
	dek, _ := cell.NewDEK()
	if err := lost.Add(scheme, dek); err != nil {
		t.Fatal(err)
	}
	for _, form := range []cell.Form{cell.FormBytes, cell.FormText, cell.FormJSON} {
		e, err := transform.NewEncrypt(ring, newer)
		if err != nil {
			t.Fatal(err)
		}
		seal := transform.Formed(e, cell.FormBytes, form)
		for name, tc := range map[string]struct {
			stored []byte
			stays  bool
		}{
			"a cell of the value":      {sealedIn(t, ring, newer, form, 1, "one"), true},
			"of another scheme":        {sealedIn(t, ring, scheme, form, 1, "one"), true},
			"of another value":         {sealedIn(t, ring, newer, form, 1, "two"), false},
			"of another row":           {sealedIn(t, ring, newer, form, 2, "one"), false},
			"under a key that is lost": {sealedIn(t, lost, scheme, form, 1, "one"), false},
			"no cell":                  {[]byte(`"nothing"`), false},
			"nothing":                  {nil, false},
		} {
			values := []transform.Value{{Address: address(1), In: []byte("one"), Is: tc.stored, Kept: true}}
			if err := seal.Apply(t.Context(), values); err != nil {
				t.Fatalf("%s, %s: %v", form, name, err)
			}
			if v := values[0]; v.Kept != tc.stays || bytes.Equal(v.Out, tc.stored) != tc.stays {
				t.Errorf("%s, %s: kept %t, want %t", form, name, v.Kept, tc.stays)
			}
		}
	}
}

// A scheme that this process does not know yet is looked up before its cell counts as none.
func TestWhatIsStoredUnderASchemeThatIsLearntStays(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	there := cell.NewKeyring([16]byte{1})
	newer := scheme
	newer.Number, newer.KeyID = 2, 4
	dek, err := cell.NewDEK()
	if err == nil {
		err = there.Add(newer, dek)
	}
	if err != nil {
		t.Fatal(err)
	}
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	e.Learn = func(context.Context, error) bool { return ring.Add(newer, dek) == nil }
	values := []transform.Value{{Address: address(1), In: []byte("one"), Is: sealedIn(t, there, newer, cell.FormBytes, 1, "one")}}
	if err := e.Apply(t.Context(), values); err != nil || !values[0].Kept {
		t.Errorf("it did not stay: %v", err)
	}
}

// Of a tenant that was shredded nothing can be sealed, and what is stored cannot be told from what would be: unless it does
// not open for another reason than that its key is gone.
func TestWhatIsStoredOfATenantThatWasShreddedStays(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	tenants := scheme
	tenants.KeyID = 4
	gone := sealedIn(t, ring, another(t, ring, tenants), cell.FormBytes, 1, "one")
	cache, err := cell.NewCache(ring, nil, cell.Lifetimes{Soft: time.Hour, Hard: time.Hour}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cache.Withhold(tenants, cell.ErrKeyDestroyed)
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	e.Key = func(context.Context, string) (cell.Scheme, error) {
		return cell.Scheme{}, fmt.Errorf("the tenant was shredded: %w", cell.ErrKeyDestroyed)
	}
	values := []transform.Value{{Address: address(1), In: []byte("one"), Tenant: []byte("t"), Is: gone}}
	if err := e.Apply(t.Context(), values); err != nil || !values[0].Kept || !bytes.Equal(values[0].Out, gone) {
		t.Errorf("it did not stay: %v", err)
	}
	for name, is := range map[string][]byte{"without a cell": nil, "with a cell that opens to another value": sealedIn(t, ring, scheme, cell.FormBytes, 1, "another"),
		"with a cell of another row": sealedIn(t, ring, scheme, cell.FormBytes, 2, "one"), "with what is no cell": []byte("no cell")} {
		values[0].Is = is
		if err := e.Apply(t.Context(), values); !errors.Is(err, transform.ErrValue) {
			t.Errorf("%s it gave %v", name, err)
		}
	}
}

// A tenant of no name has no key, and never will: that is the row's fault, whoever tries, and keeps nobody else from his.
// What is stored in such a row is no better for it.
func TestATenantWithoutANameIsTheRowsFault(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	for name, make := range map[string]func() transform.Transform{
		"encrypt": func() transform.Transform {
			e, err := transform.NewEncrypt(ring, scheme)
			if err != nil {
				t.Fatal(err)
			}
			e.Key, e.Keys = nameless(t, scheme)
			return e
		},
		"reencrypt": func() transform.Transform {
			r := reencrypt(t, ring, scheme)
			r.Key, r.Keys = nameless(t, scheme)
			return r
		},
	} {
		value := func(row int64, tenant string) transform.Value {
			v := transform.Value{Address: address(row), In: []byte("one"), Tenant: []byte(tenant)}
			if name == "reencrypt" {
				v.In = sealedIn(t, ring, scheme, cell.FormBytes, row, "one")
			}
			return v
		}
		if err := make().Apply(t.Context(), []transform.Value{value(1, "a"), value(2, ""), value(3, "b")}); !errors.Is(err, transform.ErrValue) {
			t.Errorf("%s: %v", name, err)
		}
		if err := make().Apply(t.Context(), []transform.Value{value(1, "a"), value(3, "b")}); err != nil {
			t.Errorf("%s, without it: %v", name, err)
		}
		stale := value(2, "")
		stale.Is = sealedIn(t, ring, scheme, cell.FormBytes, 2, "another")
		if err := make().Apply(t.Context(), []transform.Value{stale}); !errors.Is(err, transform.ErrValue) {
			t.Errorf("%s, of a cell of another value: %v", name, err)
		}
	}
}

// nameless gives keys to tenants, as a keychain does: it refuses one without a name.
func nameless(t *testing.T, scheme cell.Scheme) (transform.KeyFor, transform.KeysFor) {
	t.Helper()
	refused := errors.New("it has none for this row")
	return func(_ context.Context, tenant string) (cell.Scheme, error) {
			if tenant == "" {
				return cell.Scheme{}, refused
			}
			return scheme, nil
		}, func(_ context.Context, tenants []string) error {
			if slices.Contains(tenants, "") {
				return refused
			}
			return nil
		}
}

// The keys of all tenants of a batch are asked for together, each once, and before any of them; those that are at hand
// are not asked for again.
func TestKeysOfABatchAreAskedForTogether(t *testing.T) {
	t.Parallel()
	ring, scheme := keyring(t)
	e, err := transform.NewEncrypt(ring, scheme)
	if err != nil {
		t.Fatal(err)
	}
	var asked [][]string
	e.Keys = func(_ context.Context, tenants []string) error {
		asked = append(asked, tenants)
		return nil
	}
	e.Key = func(context.Context, string) (cell.Scheme, error) {
		if len(asked) == 0 {
			t.Error("one was asked for before all were")
		}
		return scheme, nil
	}
	batch := func(tenants ...string) {
		t.Helper()
		values := []transform.Value{{Address: address(1), In: []byte("nobody's")}, {Address: address(2), Tenant: []byte("of no value")}}
		for i, tenant := range tenants {
			values = append(values, transform.Value{Address: address(int64(i + 3)), In: []byte("one"), Tenant: []byte(tenant)})
		}
		if err := e.Apply(t.Context(), values); err != nil {
			t.Fatal(err)
		}
	}
	batch("a", "b", "a", "c")
	batch("b", "c", "a")
	batch("a", "d", "e")
	if fmt.Sprint(asked) != "[[a b c] [d e]]" {
		t.Errorf("asked for %v", asked)
	}
	e.Keys = func(context.Context, []string) error { return transform.ErrEncrypter }
	if err := e.Apply(t.Context(), []transform.Value{{Address: address(1), In: []byte("x"), Tenant: []byte("f")}, {Address: address(2), In: []byte("x"), Tenant: []byte("g")}}); !errors.Is(err, transform.ErrEncrypter) {
		t.Errorf("keys that cannot be made: %v", err)
	}
}
