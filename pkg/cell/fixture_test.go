package cell_test

import (
	"encoding/binary"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// types names the types that tests and known answers speak of, as pg_type describes them.
var types = map[string]cell.TypeInfo{
	"bool":        {OID: 16, Name: "bool", Kind: 'b', Category: 'B'},
	"bytea":       {OID: 17, Name: "bytea", Kind: 'b', Category: 'U'},
	"name":        {OID: 19, Name: "name", Kind: 'b', Category: 'S'},
	"int8":        {OID: 20, Name: "int8", Kind: 'b', Category: 'N'},
	"int2":        {OID: 21, Name: "int2", Kind: 'b', Category: 'N'},
	"int4":        {OID: 23, Name: "int4", Kind: 'b', Category: 'N'},
	"text":        {OID: 25, Name: "text", Kind: 'b', Category: 'S'},
	"oid":         {OID: 26, Name: "oid", Kind: 'b', Category: 'N'},
	"json":        {OID: 114, Name: "json", Kind: 'b', Category: 'U'},
	"xml":         {OID: 142, Name: "xml", Kind: 'b', Category: 'U'},
	"float4":      {OID: 700, Name: "float4", Kind: 'b', Category: 'N'},
	"float8":      {OID: 701, Name: "float8", Kind: 'b', Category: 'N'},
	"inet":        {OID: 869, Name: "inet", Kind: 'b', Category: 'I'},
	"_int4":       {OID: 1007, Name: "_int4", Kind: 'b', Category: 'A'},
	"bpchar":      {OID: 1042, Name: "bpchar", Kind: 'b', Category: 'S'},
	"varchar":     {OID: 1043, Name: "varchar", Kind: 'b', Category: 'S'},
	"date":        {OID: 1082, Name: "date", Kind: 'b', Category: 'D'},
	"time":        {OID: 1083, Name: "time", Kind: 'b', Category: 'D'},
	"timestamp":   {OID: 1114, Name: "timestamp", Kind: 'b', Category: 'D'},
	"timestamptz": {OID: 1184, Name: "timestamptz", Kind: 'b', Category: 'D'},
	"interval":    {OID: 1186, Name: "interval", Kind: 'b', Category: 'T'},
	"timetz":      {OID: 1266, Name: "timetz", Kind: 'b', Category: 'D'},
	"numeric":     {OID: 1700, Name: "numeric", Kind: 'b', Category: 'N'},
	"uuid":        {OID: 2950, Name: "uuid", Kind: 'b', Category: 'U'},
	"jsonb":       {OID: 3802, Name: "jsonb", Kind: 'b', Category: 'U'},
	"int4range":   {OID: 3904, Name: "int4range", Kind: 'r', Category: 'R'},
	"mood":        {OID: 16400, Name: "mood", Kind: 'e', Category: 'E'},
	"citext":      {OID: 16401, Name: "citext", Kind: 'b', Category: 'S'},
	"hstore":      {OID: 16402, Name: "hstore", Kind: 'b', Category: 'U'},
	"pair":        {OID: 16403, Name: "pair", Kind: 'c', Category: 'C'},
}

var registry = [16]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00}

// scheme returns a row-bound text scheme; tests change single fields of it.
func scheme() cell.Scheme {
	return cell.Scheme{
		Column: 7, Number: 2, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText,
		RowBound: true, Padding: 16, KeyID: 42,
	}
}

// deterministic returns a text scheme of the same column whose equal values make equal cells.
func deterministic() cell.Scheme {
	return cell.Scheme{Column: 7, Number: 3, Suite: cell.SuiteAES256SIV, Codec: cell.CodecText, Padding: 16, KeyID: 43}
}

// dek returns a key of 32 equal bytes.
func dek(t testing.TB, b byte) cell.DEK {
	t.Helper()
	return dekOf(t, cell.SuiteXAES256GCM, b)
}

// dekOf returns a key of equal bytes that is as long as the suite wants.
func dekOf(t testing.TB, suite cell.Suite, b byte) cell.DEK {
	t.Helper()
	key := make([]byte, cell.KeySize)
	if suite == cell.SuiteAES256SIV {
		key = make([]byte, cell.SIVKeySize)
	}
	for i := range key {
		key[i] = b
	}
	d, err := cell.DEKFromBytes(key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ring returns a keyring that knows the schemes, each under the key of bytes 01.
func ring(t testing.TB, schemes ...cell.Scheme) *cell.Keyring {
	t.Helper()
	k := cell.NewKeyring(registry)
	for _, s := range schemes {
		if err := k.Add(s, dekOf(t, s.Suite, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// row returns the address of a row of column 7 with a bigint key.
func row(id int64) cell.Address {
	return cell.Address{Column: 7, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), id)}
}

func seal(t testing.TB, k *cell.Keyring, s cell.Scheme, a cell.Address, plaintext string) []byte {
	t.Helper()
	c, err := k.Seal(nil, s, a, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func int8wire(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
