package cell_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// boundScheme is scheme 3 of column 7, bound to the columns 5 and 2 of its table: a tenant's number and a slug.
func boundScheme() cell.Scheme {
	return cell.Scheme{Column: 7, Number: 3, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText, RowBound: true, Columns: "5i,2s", KeyID: 43}
}

// northOf is the address of a row of that tenant, with that slug.
func northOf(tenant int64, slug string) cell.Address {
	part := cell.AppendKeyText(cell.AppendKeyInt(cell.AppendKeyCount(nil, 2), tenant), []byte(slug))
	return cell.Address{Column: 7, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), 99), Bound: []cell.Bound{
		{Columns: "5i", Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), tenant)}, {Columns: "5i,2s", Key: part}}}
}

// The example of docs/envelope.md, which was worked out by other code.
const boundCell = "f5c1000000070003010101000000002b" + "4142434445464748494a4b4c" + "4d4e4f505152535455565758" + "f77942c674ee964929b80528b9fdca95b5" + "a2ed54b12b57783c4b7cae008e958c07"

func boundRing(t *testing.T) *cell.Keyring {
	t.Helper()
	k := cell.NewKeyring([16]byte(unhex(t, "112233445566778899aabbccddeeff00")))
	dek, err := cell.DEKFromBytes(slices.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Add(boundScheme(), dek); err != nil {
		t.Fatal(err)
	}
	return k
}

// A cell that is bound to columns opens by their values, in their order, and by nothing else.
func TestACellBoundToColumnsOpensByTheirValues(t *testing.T) {
	t.Parallel()
	k := boundRing(t)
	if plain, h, err := k.Open(nil, northOf(7, "north"), unhex(t, boundCell)); err != nil || string(plain) != "alice@example.com" || !h.RowBound {
		t.Fatalf("the known cell: %v", err)
	}
	swapped := northOf(7, "north")
	swapped.Bound[1].Key = cell.AppendKeyInt(cell.AppendKeyText(cell.AppendKeyCount(nil, 2), []byte("north")), 7)
	keyed := northOf(7, "north")
	keyed.Bound[1].Key = keyed.Key
	for name, a := range map[string]cell.Address{"another tenant": northOf(8, "north"), "another slug": northOf(7, "North"), "another order": swapped, "the row's key": keyed} {
		if _, _, err := k.Open(nil, a, unhex(t, boundCell)); !errors.Is(err, cell.ErrAuth) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lacking := northOf(7, "north")
	lacking.Bound = lacking.Bound[:1]
	if _, _, err := k.Open(nil, lacking, unhex(t, boundCell)); !errors.Is(err, cell.ErrNoColumns) || errors.Is(err, cell.ErrNoKey) {
		t.Errorf("without the columns: %v", err)
	}
	if _, err := k.Seal(nil, boundScheme(), lacking, []byte("x")); !errors.Is(err, cell.ErrNoColumns) {
		t.Errorf("sealed without the columns: %v", err)
	}
	other := northOf(7, "north")
	other.Key = nil
	sealed, err := k.Seal(nil, boundScheme(), other, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, _, err := k.Open(nil, northOf(7, "north"), sealed); err != nil || string(plain) != "x" {
		t.Errorf("what was sealed in a row of another key: %v", err)
	}
}

// A scheme says in one way alone what it is bound to.
func TestBindingsAreCanonical(t *testing.T) {
	t.Parallel()
	for columns, valid := range map[string]bool{"5i,2s": true, "5i": true, "32767o": true, "1d,2t,3n,4b,5u": true,
		"5": false, "i": false, "5i,": false, ",5i": false, "05i": false, "+5i": false, "5i,5s": false, "0i": false, "-1i": false, "32768i": false, "5c": false, "5x": false, "5i 2s": false} {
		s := boundScheme()
		s.Columns = columns
		if err := s.Validate(); (err == nil) != valid {
			t.Errorf("%q: %v", columns, err)
		}
		if again, err := (cell.Scheme{}).Bind("columns", columns); (err == nil) != valid || valid && again.Columns != columns {
			t.Errorf("%q as a binding: %v", columns, err)
		}
	}
	s := boundScheme()
	if s.RowBound = false; s.Validate() == nil {
		t.Error("a scheme is bound to columns and to nothing")
	}
	s = boundScheme()
	if s.Suite = cell.SuiteAES256SIV; s.Validate() == nil {
		t.Error("a deterministic scheme is bound to columns")
	}
	for binding, columns := range map[string]string{"pk": "5i", "none": "5i", "columns": "", "row": "", "": ""} {
		if _, err := (cell.Scheme{}).Bind(binding, columns); err == nil {
			t.Errorf("binding %q with columns %q is taken", binding, columns)
		}
	}
	for _, binding := range []string{"pk", "none"} {
		if s, err := boundScheme().Bind(binding, ""); err != nil || s.Binding() != binding {
			t.Errorf("binding %q: %v", binding, err)
		}
	}
	if n := boundScheme().BoundNumbers(); !slices.Equal(n, []int16{5, 2}) {
		t.Errorf("the numbers are %v", n)
	}
	encoder, err := cell.NewKeyEncoder([]cell.TypeInfo{{OID: 23, Name: "int4", Kind: 'b', Category: 'N'}, {OID: 1043, Name: "varchar", Kind: 'b', Category: 'S'}})
	if err != nil || cell.BoundTo([]int16{5, 2}, encoder) != "5i,2s" {
		t.Errorf("columns 5 and 2: %v", err)
	}
}

// A canary proves what its scheme is bound to, too.
func TestACanaryKnowsItsBinding(t *testing.T) {
	t.Parallel()
	dek, err := cell.DEKFromBytes(slices.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	canary, err := cell.Canary([16]byte{1}, boundScheme(), dek)
	if err != nil {
		t.Fatal(err)
	}
	if err := cell.CheckCanary([16]byte{1}, boundScheme(), dek, canary); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*cell.Scheme){
		func(s *cell.Scheme) { s.Columns = "2s,5i" }, func(s *cell.Scheme) { s.Columns = "5i" }, func(s *cell.Scheme) { s.Columns = "" },
		func(s *cell.Scheme) { s.Columns, s.RowBound = "", false }} {
		s := boundScheme()
		if change(&s); cell.CheckCanary([16]byte{1}, s, dek, canary) == nil {
			t.Errorf("the canary is of binding %s (%s)", s.Binding(), s.Columns)
		}
	}
}

// The bindings of a keyring are those of schemes that can be used.
func TestBindingsOfAKeyring(t *testing.T) {
	t.Parallel()
	k := boundRing(t)
	if list := k.Bindings(7, 8); !slices.Equal(list, []string{"5i,2s"}) {
		t.Errorf("bindings %v", list)
	}
	if list := k.Bindings(8); len(list) > 0 {
		t.Errorf("bindings of another column: %v", list)
	}
	cache, err := cell.NewCache(k, nil, cell.Lifetimes{Soft: time.Hour, Hard: time.Hour}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cache.Withhold(boundScheme(), cell.ErrKeyDestroyed)
	if list := k.Bindings(7); len(list) > 0 {
		t.Errorf("bindings of a scheme whose key is gone: %v", list)
	}
}
