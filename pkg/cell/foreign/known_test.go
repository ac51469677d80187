package foreign_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
)

// reader is what all of them are.
type reader interface {
	Open(ctx context.Context, v foreign.Value) ([]byte, error)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(text string) foreign.Key { return foreign.NewKey([]byte(text)) }

// must returns a reader that a constructor made.
func must[R reader](t testing.TB, r R, err error) R {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantText(t *testing.T, name string, r reader, v foreign.Value, want string) {
	t.Helper()
	got, err := r.Open(t.Context(), v)
	if err != nil || got == nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", name, got, err, want)
	}
}

func attr(t testing.TB, o foreign.AttrEncryptedOptions) *foreign.AttrEncrypted {
	t.Helper()
	r, err := foreign.NewAttrEncrypted(o)
	return must(t, r, err)
}

// The keys of the pets in attr_encrypted's compatibility test: what encryptor makes of a salt under a passphrase.
const (
	nicknameKey  = "be6b0ec7fc550d54e7dc2fbaed4bcdaa3424db01dbe36d1558e7af62338a7215c8b1f137aa60b271a8e01ba10d4a5bcfea71115cfd5f4bcaedc66e714bfe3021467d78e78e608c3b6845fe353327399b"
	birthdateKey = "d43b2d99e431deafe71c3ec32d65790991a22c4ee36f8a8dee7d363f68f212b1a2aba95fdcae62a40b6feceae7770581e855b76bac64609b5783979cb480f215b9d1524abe2d928e869d7f75a0fe5b65"
)

// TestAttrEncryptedKnownAnswers holds the values of attr_encrypted's test/compatibility_test.rb.
func TestAttrEncryptedKnownAnswers(t *testing.T) {
	t.Parallel()
	pet := func(k string) *foreign.AttrEncrypted {
		return attr(t, foreign.AttrEncryptedOptions{Mode: foreign.PerAttributeIVAndSalt, Algorithm: "aes-256-cbc", Key: foreign.NewKey(unhex(t, k))})
	}
	wantText(t, "nickname", pet(nicknameKey), foreign.Value{
		Cell: []byte("E4lJTxFG/EfkfPg5MpnriQ=="), IV: []byte("z4Q8deE4h7f6S8NNZcbPNg=="), Salt: []byte("adcd833001a873db"),
	}, "Fido the Dog")
	wantText(t, "birthdate", pet(birthdateKey), foreign.Value{
		Cell: []byte("6uKEAiFVdJw+N5El+U6Gow=="), IV: []byte("zxtc1XPssL4s2HwA69nORQ=="), Salt: []byte("4f879270045eaad7"),
	}, "2011-07-09")
	for name, c := range map[string]struct {
		key string
		v   foreign.Value
	}{
		"nickname": {nicknameKey, foreign.Value{
			Cell: []byte("EsQScJYkPw80vVGvKWkE37Px99HHpXPFjoEPTNa4rbs="), IV: []byte("fNq1OZcGvty4KfcvGTcFSw=="), Salt: []byte("733b459b7d34c217"),
		}},
		"birthdate": {birthdateKey, foreign.Value{
			Cell: []byte("+VUlKQGfNWkOgCwI4hv+3qlGIwh9h6cJ/ranJlaxvU+xxQdL3H3cOzTcI2rkYkdR"), IV: []byte("Ka+zF/SwEYZKwVa24lvFfA=="), Salt: []byte("d5e892d5bbd81566"),
		}},
	} {
		got, err := pet(c.key).Open(t.Context(), c.v)
		if !errors.Is(err, foreign.ErrUnsupported) || !strings.Contains(err.Error(), "Ruby Marshal") || got != nil {
			t.Errorf("marshalled %s: %q, %v", name, got, err)
		}
	}
}

// TestEncryptorKnownAnswers holds the values of encryptor's test/compatibility_test.rb.
func TestEncryptorKnownAnswers(t *testing.T) {
	t.Parallel()
	digest := func(s string) string { b := sha256.Sum256([]byte(s)); return hex.EncodeToString(b[:]) }
	o := foreign.AttrEncryptedOptions{Algorithm: "aes-256-cbc", Key: key(digest("my-fixed-key")), RawIV: true}
	for _, c := range []struct{ mode, cell string }{
		{foreign.PerAttributeIV, "nGuyGniksFXnMYj/eCxXKQ=="},
		{foreign.SingleIVAndSalt, "XbwHRMFWqR5M80kgwRcEEg=="},
		{foreign.PerAttributeIVAndSalt, "DENuQSh9b0eW8GN3YLzLGw=="},
	} {
		o.Mode = c.mode
		wantText(t, c.mode, attr(t, o), foreign.Value{Cell: []byte(c.cell), IV: []byte(digest("my-fixed-iv")), Salt: []byte("my-fixed-salt")}, "my-fixed-input")
	}
}

// TestAttrEncryptedGCM holds values that OpenSSL made by the same rules.
func TestAttrEncryptedGCM(t *testing.T) {
	t.Parallel()
	long := gcmValue(t)
	wantText(t, "per_attribute_iv", long.reader, long.value, "A longer value, so that Ruby breaks the line of base64 after sixty characters: grüße.")
	salted := foreign.AttrEncryptedOptions{Mode: foreign.PerAttributeIVAndSalt, Key: key("a passphrase of any length")}
	v := foreign.Value{Cell: []byte("OHMBywWa97d9w1zOdX6CxEHrEHz3jw=="), IV: []byte("ZGVmZ2hpamtsbW5v"), Salt: []byte("_MjM0NTY3ODk6Ozw9Pj9AQQ==\n")}
	wantText(t, "per_attribute_iv_and_salt", attr(t, salted), v, "salted")
	single := foreign.AttrEncryptedOptions{Mode: foreign.SingleIVAndSalt, Key: key("a passphrase of any length")}
	wantText(t, "single_iv_and_salt", attr(t, single), foreign.Value{Cell: []byte("9EH0mHjSsRxbBQLEEH8HjW3HHiLvNA==")}, "single")
	wantText(t, "an empty text", attr(t, single), foreign.Value{Cell: []byte{}}, "")
}

// sample is a value with its reader.
type sample struct {
	reader reader
	value  foreign.Value
}

func gcmValue(t testing.TB) sample {
	t.Helper()
	k := make([]byte, 32)
	for i := range k {
		k[i] = byte(i)
	}
	return sample{attr(t, foreign.AttrEncryptedOptions{Key: foreign.NewKey(k)}), foreign.Value{
		Cell: []byte("CTuyCReOM+weFD6ErwBG3TGtJn7jDYdS9aTOMdvB1y31gjPgOHr+JJGaFlrd\nLazveTrrghZ+YUmchcmkz/LM8nz1+22+Kklk6BuIMWKwEYEWu6P3OKCjdjUj\nXFX4gEnG5lacaOZKDQ==\n"),
		IV:   []byte("ZGVmZ2hpamtsbW5v\n"),
	}}
}

// lockboxKey is what HKDF, as another implementation has it, derives for accounts.iban under a master key of bytes 0f.
const lockboxKey = "b830b27101226b8eb44542f9c05615c91801e663609e82b8c41a63a7ed0eb819"

func lockboxMaster() foreign.Key { return key(strings.Repeat("0f", 32)) }

// TestLockbox holds a value and a derived key that another implementation made by lockbox's rules.
func TestLockbox(t *testing.T) {
	t.Parallel()
	s := lockboxValue(t)
	wantText(t, "a master key", s.reader, s.value, "it opens!")
	derived, err := foreign.FieldKeyForTest(bytes.Repeat([]byte{0x0f}, 32), "accounts", "iban")
	if err != nil || hex.EncodeToString(derived) != lockboxKey {
		t.Errorf("derived key %x, %v", derived, err)
	}
	previous, err := foreign.NewLockbox(foreign.LockboxOptions{Keys: []foreign.Key{foreign.NewKey(make([]byte, 32)), key(lockboxKey)}})
	wantText(t, "a previous version's key", must(t, previous, err), s.value, "it opens!")
	wantText(t, "an empty text", s.reader, foreign.Value{Cell: []byte{}}, "")
}

// TestLockboxKnownAnswers holds the derived key of lockbox's test/lockbox_test.rb and the value of its docs/Compatibility.md.
func TestLockboxKnownAnswers(t *testing.T) {
	t.Parallel()
	derived, err := foreign.FieldKeyForTest(make([]byte, 32), "users", "license")
	if err != nil || hex.EncodeToString(derived) != "d96ffa3fe916b3a9b57d084f5781e95748333b877e32e6399e387d3d75b238a1" {
		t.Errorf("derived key %x, %v", derived, err)
	}
	r, err := foreign.NewLockbox(foreign.LockboxOptions{Keys: []foreign.Key{key("61e6ba4a3a2498e3a8fdcd047eff0cd9864016f2c83c34599a3257a57ce6f7fb")}})
	wantText(t, "a value", must(t, r, err), foreign.Value{Cell: []byte("Uv/+Sgar0kM216AvVlBH5Gt8vIwtQGfPysl539WY2DER62AoJg==")}, "it works!")
}

func lockboxValue(t testing.TB) sample {
	t.Helper()
	r, err := foreign.NewLockbox(foreign.LockboxOptions{MasterKey: lockboxMaster(), Table: "accounts", Attribute: "iban"})
	return sample{must(t, r, err), foreign.Value{Cell: []byte("AAECAwQFBgcICQoL2R/k55S4wQD8+Deko1fctRgWmHyisFjMeA==")}}
}

const (
	railsSalt      = "xEY0dt6TZcAMg52K7O84wYzkjvbA62Hz"
	railsPrimary   = "EGY8WhulUOXixybod7ZWwMIL68R9o5kC"
	railsDetermine = "aPA5XyALhf75NNnMzaspW7akTfZp0lPY"
)

func rails(t testing.TB, digest string, keys ...string) *foreign.Rails {
	t.Helper()
	o := foreign.RailsOptions{Salt: key(railsSalt), Digest: digest}
	for _, k := range keys {
		o.Keys = append(o.Keys, key(k))
	}
	r, err := foreign.NewRails(o)
	return must(t, r, err)
}

// TestRails holds values that OpenSSL and zlib made by the rules of Active Record Encryption.
func TestRails(t *testing.T) {
	t.Parallel()
	r := rails(t, "", railsDetermine, railsPrimary) // the right one is the second, as after a rotation
	for _, c := range []struct{ name, want, cell string }{
		{"plain", "Encrypt it all!", railsCell},
		{"compressed", "The Starfleet is here " + strings.Repeat("OMG! ", 40), `{"p":"Q848/hAHR7DYVGgAyQXVmIALbV/h+vOXXI62bhKn0B45I4gx","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"qjC4cfl/vURpZCPI6j7lMA==","c":true}}`},
		{"deterministic", "deterministic", `{"p":"9riXNBby1/GOp/k1zw==","h":{"iv":"syjYWSf1n9VCyDDt","at":"MY11LjOgT79bwFr4kkM/gg=="}}`},
		{"envelope", "envelope", `{"p":"OzllmClkq4Y=","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"CWlaJI9kQsvi3k7+WxpN7Q==","k":{"p":"hwf63uTqP2MC8U31WWcLolj+CLL6kiNJ00W42eNHQs4=","h":{"iv":"AAECAwQFBgcICQoL","at":"w2XT3A7aRHDEukcLgaJlpw=="}},"i":"MDM5ZQ=="}}`},
		{"binary", "\x00\xff binary", `{"p":"O60XVTE8Luzo","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"xJK860NP5f2SXYQJgp0sOg==","e":"QVNDSUktOEJJVA=="}}`},
		{"empty", "", `{"p":"","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"BXsGkLi2LZ0QmiYUh2kEMQ=="}}`},
	} {
		wantText(t, c.name, r, foreign.Value{Cell: []byte(c.cell)}, c.want)
	}
	sha1 := `{"p":"ESJu4OCkBtr793EjnsrF","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"Pzu4Ie8S7o1PH2A0Tzn07Q=="}}`
	wantText(t, "SHA-1", rails(t, "sha1", railsPrimary), foreign.Value{Cell: []byte(sha1)}, "Encrypt it all!")
	if _, err := r.Open(t.Context(), foreign.Value{Cell: []byte(sha1)}); !errors.Is(err, foreign.ErrAuth) {
		t.Errorf("SHA-1 read as SHA-256: %v", err)
	}
	latin1 := `{"p":"XCDL6D0=","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"tCRHg/Or9HT+dSGeYEtScA==","e":"SVNPLTg4NTktMQ=="}}`
	if got, err := r.Open(t.Context(), foreign.Value{Cell: []byte(latin1)}); !errors.Is(err, foreign.ErrUnsupported) || got != nil {
		t.Errorf("Latin-1: %q, %v", got, err)
	}
}

const railsCell = `{"p":"fjxURSEiO774DAKq7CTZ","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"v6X3zff+x3xHAO8pa5GQjw=="}}`

// sweets are the two rows of tests/KnownAnswers of CipherSweet 4.10, for each of its backends.
func sweets() map[string][2][4]string {
	return map[string][2][4]string{
		"62f9d7e541f216b1de9fc46d2720dfdc3a821a536bc057ca226d8222f191cd90": {
			{
				"fips:ZfbphOZ-QWYbuqbxJa8uPRbo9TxwXG4LXuK83NiI4FLZnNIki0DvduVS7FW8spiDM2ABzU0BW37SP81zHpo4DhQGTZ-sa0xnCkWLEyCQjWcdQHE1z8q3gLaI4fpiaaO4AaD2Qr4=",
				"fips:DCbR3HLdduLO0VW6sW43JxxEv0PgXOn3ObDXpALoPUrDtKfAl8S8-DzCPLHPBTQdalOdGS3h3OBvgIG4dWydMhUHSJTH8XnfrOxF2WQI8G8LqcylIphzSFc210uC34c3YH96oZAC6Y8=",
				"fips:UwRT4U9-HNcHz0xs-h48umsifWf1Ta9uG7liRiMCId4HJirOL8BMTlqtceaPkiPUuw5cqWxOm3raDPkcgC3ilombk89-Lz36r_GdrpTO_oQnht14P4mu9olN5n3tXT7JIy3Kzh8O3bo=",
				"fips:AdNc1Y5E7FRZOjixpWcgroAZRd96vhUaH2sG3V6uLcO7Y2fJmQ_cKgyQ3fBt_45Z5KtkNUcREWOqqfP_prz8EtLZ4ZunyN1kauU2zuSYKPs0F5jO8__L31ndh-e2nddGaA==",
			},
			{
				"fips:4h6t1pqrYZvDiTWYL1rP--BTsx57CCIlxLJDCJs5jBI9wug9wudns63aVUAPOmm6J63T5ZXn-aQmK40QPz9L4-ENYLIVrXaJ0b6yd6q15qJ0rghraO55bxHVZGYgYebqfjQP",
				"fips:0dUtrGhtQOoDxrhHkAgIr7wbZMa4i-Aw08_TQprzzWlS-ZLEeNvy8MLFGEh96UBOBAp178KscM0XCCxE0v22oS4iPwl5Bx0sssGNEGOqUkVIrlnfuiS6G_rim5GasQYPUSk1Q-n7RpQ=",
				"fips:eGHINob_7Inb3Xz9sH5efWrx1vsQiSe6eamx1nyJ3F7nzMS-34jpO0HJbqNQTkG67ss85Ax_s5EgJcd_9yIUi3YIMLFnABF43UuSobUeYnXxcOkgAjYeFSuhxllr1Pd7uwmeD_pMN0A=",
				"fips:OoeJ-ORan84h2mNfNNK0YWlsBj9pfZtLw6jPSsz8LKiRXddqm2mZB8_kQJDFa98DIDjWE5qdx4nkjm_IRG_S60TJb-DxWRe8oYQh3Z3CPR20-teebxUmnCIUaC77pzbfyg==",
			},
		},
		"c6c8759cee5084c74f26ce6b634477d3d5514a651bdd041a1b391f23fd9241ec": {
			{
				"nacl:hI6QEAzTevbz9SWzqSZPTFNKWfE7qSswqgCKMt1DY23hr8L6kqf1zJ15SUyI",
				"nacl:HWgBJrpUdtXoouOKHCVzHsdB5qS5LX5ParUeSAORqifTTycGvPdNT3f0iKVFOFqA",
				"nacl:3nwLS7ThDwFcGscVjndruPh0NJTGiTAni1qjCk8jJrFagc64R2316o9O9xwCPsLN",
				"nacl:UwGZBGRaPItIy5Gzg5WOm_7mC2JM2SQo-DKuvAd_dvDEc6KKtJNc8k8=",
			},
			{
				"nacl:nsHsDWmyMb0j8aydN5yeezHOtNcMRepAGQRmN_WkT5L4YTvucdWpPxQ69w==",
				"nacl:lp2zMzTyBsLt2bpKYgJ0ZcF3j_c_P630mjOl91KEVzr5UaLYftzou8sE7rgBJAGB",
				"nacl:uSv4A-KB2OUdTpdLml4fZoMLWFZojoOMlo9Klf9_z80l7BFmHChqDZvTHU8q_BgU",
				"nacl:XCQJTdcJnJJjrGFpeeqkA310tH5fVwoN3jeVuU0CupPSxw3VDam5F9A=",
			},
		},
		"603c15697765d660cef8fb13cc1847882f77cdac13f702c3863d57410b2d1dfa": {
			{
				"brng:Cxj4xLq-zuLG9AxVmLoZ4ZXTp8PN8XTSrdmY-hHCBSRf76jJhOwutEFytnveEIQLVh7e7B3XBwTl9wuahQ==",
				"brng:mDMdMKpeTAdbjbw-ka9vicIPL6tP-RfP2O-tOoF3-KH_Bjvg5Pcd3wZwRKMKFloTC4H21yfs5oaPhqUfZAXr9Q==",
				"brng:hjWQ-BQKMSoMDPup1U4HLKAP6wHJKtMbYhXAPraCycOh_rJl46YGEwwgrejWqBlcsuZqUJeVgtlfg136au-msg==",
				"brng:dd-aUOdlMwI1jwm1q-L54ullcVBCJQm9uqt-RDcceegYyFV6P5D_G7NposhP2GmXYL48WFAKffYK",
			},
			{
				"brng:KSGX8kUjNdujmm_oo2DYEidUzsm2mPyn7qRszyD92noEQE3YuIupmMLRXEos4n4pgXDhlDOqoPRpzAc=",
				"brng:RIcODzElMJY3bd690ecYq_7-xC6CFyapcht8YemzKsOB8KUcb0L-10f-1SPNokfCq_iZLx7brxbnIfjeThhIiw==",
				"brng:MbdlBW-RS1H1di9ziDg9E-YFmzI5G9ONcCqi4rQFk6b5UsyG6pAuzqxAXMFZdJud8Bfz1DixuaKYbYZVws-7oA==",
				"brng:x4HaKgR7lrt4WsebvCWoayLMxRVfDQPCUI0q3eonL4dTyn3rKqtAw56BoOCly8IloxCpigE1SHkf",
			},
		},
	}
}

func sweet(t testing.TB, master, field, kind string) *foreign.CipherSweet {
	t.Helper()
	r, err := foreign.NewCipherSweet(foreign.CipherSweetOptions{Key: key(master), Table: "example", Field: field, Type: kind})
	return must(t, r, err)
}

func TestCipherSweetKnownAnswers(t *testing.T) {
	t.Parallel()
	fields, kinds := []string{"name", "age", "grade", "pass"}, []string{"string", "int", "?float", "bool"}
	want := [2][4]string{{"alice", "1337", "99.1", "true"}, {"Bob", "-1", "3.1415", "false"}}
	for master, rows := range sweets() {
		for i, row := range rows {
			for j, cell := range row {
				wantText(t, cell[:5]+fields[j], sweet(t, master, fields[j], kinds[j]), foreign.Value{Cell: []byte(cell)}, want[i][j])
				if got, err := sweet(t, master, "another", kinds[j]).Open(t.Context(), foreign.Value{Cell: []byte(cell)}); !errors.Is(err, foreign.ErrAuth) || got != nil {
					t.Errorf("another field: %q, %v", got, err)
				}
			}
		}
	}
}

// pgcrypto is testdata/pgcrypto.json.
type pgcrypto struct {
	About string
	PGP   []struct{ Options, Plaintext, Cell, Refused string }
	Raw   []struct{ Type, Key, IV, Plaintext, Cell string }
}

func readPGCrypto(t testing.TB) pgcrypto {
	t.Helper()
	b, err := os.ReadFile("testdata/pgcrypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var file pgcrypto
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.PGP) < 21 || len(file.Raw) < 9 {
		t.Fatalf("%d and %d values, there were 21 and 9", len(file.PGP), len(file.Raw))
	}
	return file
}

func pgp(t testing.TB, passphrase string) *foreign.PGPSym {
	t.Helper()
	r, err := foreign.NewPGPSym(key(passphrase))
	return must(t, r, err)
}

// TestPGPSym reads what a real pgcrypto made, with every option that it has.
func TestPGPSym(t *testing.T) {
	t.Parallel()
	for _, v := range readPGCrypto(t).PGP {
		value := foreign.Value{Cell: unhex(t, v.Cell)}
		if v.Refused != "" {
			if got, err := pgp(t, "a passphrase").Open(t.Context(), value); got != nil || !errors.Is(err, foreign.ErrUnsupported) && !errors.Is(err, foreign.ErrAuth) {
				t.Errorf("%s: %q, %v", v.Options, got, err)
			}
			continue
		}
		wantText(t, v.Options, pgp(t, "a passphrase"), value, string(unhex(t, v.Plaintext)))
		if got, err := pgp(t, "another").Open(t.Context(), value); !errors.Is(err, foreign.ErrAuth) || got != nil {
			t.Errorf("%s with another passphrase: %q, %v", v.Options, got, err)
		}
	}
}

func TestPGRaw(t *testing.T) {
	t.Parallel()
	for _, v := range readPGCrypto(t).Raw {
		o := foreign.PGRawOptions{Key: foreign.NewKey(unhex(t, v.Key)), Type: v.Type, IV: unhex(t, v.IV)}
		r, err := foreign.NewPGRaw(o)
		wantText(t, v.Type, must(t, r, err), foreign.Value{Cell: unhex(t, v.Cell)}, string(unhex(t, v.Plaintext)))
		o.IV = nil
		r, err = foreign.NewPGRaw(o)
		wantText(t, v.Type+" with the row's vector", must(t, r, err), foreign.Value{Cell: unhex(t, v.Cell), IV: unhex(t, v.IV)}, string(unhex(t, v.Plaintext)))
	}
}
