package ddl_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestTheCheckRefusesWhatDoesNotBeginLikeACell tries every altered bit of a cell's prefix, every cut, and plaintext,
// for a cell of each suite. What stands behind the prefix is for whoever opens the cell: the check is no proof.
func TestTheCheckRefusesWhatDoesNotBeginLikeACell(t *testing.T) {
	t.Parallel()
	f := fixture{testenv.Database(t), usersColumn()}
	f.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text)`)
	f.do(t, f.AddTarget().Do)
	f.do(t, f.Check().Do)
	f.Run(t, `INSERT INTO users VALUES (1, 'ada@example.org, whose address is long enough for any check of length')`)
	takes := func(value []byte) bool {
		_, err := f.Exec(t.Context(), `UPDATE users SET cell = $1`, value)
		if err != nil && pg.Code(err) != "23514" {
			t.Fatal(err)
		}
		return err == nil
	}
	for suite, sealed := range map[cell.Suite][]byte{cell.SuiteXAES256GCM: suiteCell(t, cell.SuiteXAES256GCM), cell.SuiteAES256SIV: suiteCell(t, cell.SuiteAES256SIV)} {
		if !takes(sealed) {
			t.Fatalf("%v: the cell itself is refused", suite)
		}
		for i := range cell.PrefixSize * 8 {
			bad := bytes.Clone(sealed)
			bad[i/8] ^= 1 << (i % 8)
			if takes(bad) {
				t.Errorf("%v: bit %d of byte %d altered: it gets in", suite, i%8, i/8)
			}
		}
		for n := range len(sealed) {
			if takes(sealed[:n]) != (n >= cell.MinLength) {
				t.Errorf("%v: cut to %d bytes: in or out, but wrong", suite, n)
			}
			if takes(sealed[n+1:]) {
				t.Errorf("%v: without the first %d bytes: it gets in", suite, n+1)
			}
		}
		if takes(fmt.Appendf(nil, `\x%x`, sealed)) || takes(append([]byte{0}, sealed...)) {
			t.Errorf("%v: its digits, or a byte in front: it gets in", suite)
		}
	}
	for _, plain := range []string{`convert_to(email, 'UTF8')`, `''::bytea`, `convert_to(repeat(email, 20), 'LATIN1')`} {
		if _, err := f.Exec(t.Context(), `UPDATE users SET cell = `+plain); err == nil {
			t.Errorf("%s gets in", plain)
		}
	}
}

// suiteCell seals an empty value for the column of these tests.
func suiteCell(t *testing.T, suite cell.Suite) []byte {
	t.Helper()
	s := cell.Scheme{Column: usersColumn().ID, Number: 1, Suite: suite, Codec: cell.CodecText, KeyID: 1}
	d, err := suite.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	k := cell.NewKeyring([16]byte{1})
	if err := k.Add(s, d); err != nil {
		t.Fatal(err)
	}
	c, err := k.Seal(nil, s, cell.Address{Column: s.Column}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
