package cell_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

func digestKey(t *testing.T, first byte, registry [16]byte, column uint32) cell.DigestKey {
	t.Helper()
	dek, err := cell.DEKFromBytes(append([]byte{first}, bytes.Repeat([]byte{2}, cell.KeySize-1)...))
	if err != nil {
		t.Fatal(err)
	}
	key, err := dek.DigestKey(registry, column)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rows are distinct as key and value, though not as the bytes of both.
func rows() [][2][]byte {
	return [][2][]byte{{[]byte("ab"), []byte("c")}, {[]byte("a"), []byte("bc")}, {[]byte("abc"), []byte{}}, {[]byte("abc"), nil}, {[]byte("c"), []byte("ab")}}
}

func TestADigestIsOfTheRowsAndNotOfTheirOrder(t *testing.T) {
	t.Parallel()
	key := digestKey(t, 1, [16]byte{3}, 4)
	var forth, back cell.RowSum
	seen := map[cell.RowSum]bool{}
	d := key.New()
	for i := range rows() {
		row, last := rows()[i], rows()[len(rows())-1-i]
		forth = forth.Add(d.Row(row[0], row[1]))
		back = back.Add(key.New().Row(last[0], last[1]))
		seen[d.Row(row[0], row[1])] = true
	}
	const known = "9a4ef71b84ac7749a285938203163a1faa7e582f92f1087d70043835411fc1d1" // worked out by other code
	if forth.String() != known {
		t.Errorf("the digest is %s", forth)
	}
	if forth != back || forth == (cell.RowSum{}) || len(seen) != len(rows()) {
		t.Errorf("forth %v, back %v, %d images", forth, back, len(seen))
	}
	for name, other := range map[string]cell.DigestKey{"key": digestKey(t, 9, [16]byte{3}, 4), "registry": digestKey(t, 1, [16]byte{9}, 4), "column": digestKey(t, 1, [16]byte{3}, 9)} {
		if other.New().Row([]byte("ab"), []byte("c")) == d.Row([]byte("ab"), []byte("c")) {
			t.Errorf("another %s makes the same digest", name)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %x", key, *d, key, d); bytes.Contains([]byte(text), []byte("ab")) || !bytes.Contains([]byte(text), []byte("redacted")) {
		t.Errorf("a key prints as %s", text)
	}
	if _, err := (cell.DEK{}).DigestKey([16]byte{}, 1); err == nil {
		t.Error("no key made a digest key")
	}
}

func TestSumsCarry(t *testing.T) {
	t.Parallel()
	full := cell.RowSum{1, ^uint64(0), ^uint64(0), ^uint64(0)}
	if got := full.Add(cell.RowSum{0, 0, 0, 1}); got != (cell.RowSum{2, 0, 0, 0}) {
		t.Errorf("the sum is %v", got)
	}
	if got := (cell.RowSum{1, 0, 0, 255}).String(); got != "0000000000000001"+"00000000000000000000000000000000"+"00000000000000ff" {
		t.Errorf("it is written %s", got)
	}
}

func TestNoncesAreOfCellsThatHaveOne(t *testing.T) {
	t.Parallel()
	k := ring(t, scheme())
	one, other := seal(t, k, scheme(), row(1), "x"), seal(t, k, scheme(), row(1), "x")
	n, ok := cell.NonceOf(one)
	m, too := cell.NonceOf(other)
	if !ok || !too || n == m || !bytes.Equal(n[4:], one[cell.HeaderSize:cell.HeaderSize+cell.SaltSize+cell.NonceSize]) || !bytes.Equal(n[:4], one[12:16]) {
		t.Errorf("nonces %x, %x", n, m)
	}
	if _, ok := cell.NonceOf([]byte("no cell")); ok {
		t.Error("what is no cell has a nonce")
	}
}
