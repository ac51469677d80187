package foreign

import (
	"bytes"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"hash"
	"testing"

	"github.com/c2sp/wycheproof"
	"golang.org/x/crypto/chacha20poly1305"
)

// vector is one test of any of the files that are read here.
type vector struct {
	TCID                               int
	Key, IV, AAD, Msg, CT, Tag, Result string
	IKM, Salt, Info, OKM               string
	Size                               int
	Password, DK                       string
	IterationCount, DKLen              int
}

// eachVector calls check with every test of a file whose keys and nonces have so many bits, or any number, and compares
// what it accepts with the test's result.
func eachVector(t *testing.T, name string, keyBits, ivBits int, check func(v vector) bool) {
	t.Helper()
	f, err := wycheproof.TestVectors.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	var file struct {
		TestGroups []struct {
			KeySize, IVSize int
			Tests           []vector
		}
	}
	if err := json.NewDecoder(f).Decode(&file); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, group := range file.TestGroups {
		if keyBits != 0 && group.KeySize != keyBits || ivBits != 0 && group.IVSize != ivBits {
			continue
		}
		for _, v := range group.Tests {
			seen++
			if accepted := check(v); accepted != (v.Result == "valid") {
				t.Errorf("vector %d is %s, but accepted: %v", v.TCID, v.Result, accepted)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d vectors of %s", seen, name)
	}
}

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCBCAgreesWithWycheproof: padding is removed only when it is whole.
func TestCBCAgreesWithWycheproof(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{128, 192, 256} {
		eachVector(t, "aes_cbc_pkcs5_test.json", bits, 128, func(v vector) bool {
			got, err := openCBC(bytesOf(t, v.Key), bytesOf(t, v.IV), bytesOf(t, v.CT))
			return err == nil && bytes.Equal(got, bytesOf(t, v.Msg))
		})
	}
}

func TestGCMAgreesWithWycheproof(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{128, 256} {
		eachVector(t, "aes_gcm_test.json", bits, 96, func(v vector) bool {
			got, err := openGCM(bytesOf(t, v.Key), bytesOf(t, v.IV), append(bytesOf(t, v.CT), bytesOf(t, v.Tag)...), bytesOf(t, v.AAD))
			return err == nil && bytes.Equal(got, bytesOf(t, v.Msg))
		})
	}
}

func TestXChaChaAgreesWithWycheproof(t *testing.T) {
	t.Parallel()
	eachVector(t, "xchacha20_poly1305_test.json", 256, 192, func(v vector) bool {
		aead, err := chacha20poly1305.NewX(bytesOf(t, v.Key))
		if err != nil {
			t.Fatal(err)
		}
		sealed := append(append(bytesOf(t, v.IV), bytesOf(t, v.CT)...), bytesOf(t, v.Tag)...)
		got, err := openBehindNonce(aead, sealed, bytesOf(t, v.AAD))
		return err == nil && bytes.Equal(got, bytesOf(t, v.Msg))
	})
}

func TestKeyDerivationAgreesWithWycheproof(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]func() hash.Hash{"hkdf_sha256_test.json": sha256.New, "hkdf_sha384_test.json": sha512.New384} {
		eachVector(t, name, 0, 0, func(v vector) bool {
			got, err := hkdf.Key(h, bytesOf(t, v.IKM), bytesOf(t, v.Salt), string(bytesOf(t, v.Info)), v.Size)
			return err == nil && bytes.Equal(got, bytesOf(t, v.OKM))
		})
	}
	for name, h := range map[string]func() hash.Hash{"pbkdf2_hmacsha1_test.json": sha1.New, "pbkdf2_hmacsha256_test.json": sha256.New} {
		eachVector(t, name, 0, 0, func(v vector) bool {
			if v.IterationCount > 10_000 {
				return v.Result == "valid" // the same, only longer
			}
			got, err := pbkdf2.Key(h, string(bytesOf(t, v.Password)), bytesOf(t, v.Salt), v.IterationCount, v.DKLen)
			return err == nil && bytes.Equal(got, bytesOf(t, v.DK))
		})
	}
}
