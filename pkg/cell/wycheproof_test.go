package cell

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"testing"

	"github.com/c2sp/wycheproof"
)

// vector is one test of any of the files that are read here.
type vector struct {
	TCID                               int
	Key, IV, AAD, Msg, CT, Tag, Result string
	ivBits, tagBits                    int
	key, iv, aad, msg, ct, tag         []byte
}

// vectors returns all tests of a file that have keys of so many bits, or of any length.
func vectors(t *testing.T, name string, keyBits int) []vector {
	t.Helper()
	f, err := wycheproof.TestVectors.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	var file struct {
		TestGroups []struct {
			KeySize, IVSize, TagSize int
			Tests                    []vector
		}
	}
	if err := json.NewDecoder(f).Decode(&file); err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, group := range file.TestGroups {
		if keyBits != 0 && group.KeySize != keyBits {
			continue
		}
		for _, v := range group.Tests {
			v.ivBits, v.tagBits = group.IVSize, group.TagSize
			v.key, v.iv, v.aad, v.msg, v.ct, v.tag = unhex(t, v.Key), unhex(t, v.IV), unhex(t, v.AAD), unhex(t, v.Msg), unhex(t, v.CT), unhex(t, v.Tag)
			all = append(all, v)
		}
	}
	return all
}

// agree runs check, which says whether the primitive accepts a vector, on all of them. The counts guard against a file
// that was not read.
func agree(t *testing.T, all []vector, leastValid, leastInvalid int, check func(v vector) bool) {
	t.Helper()
	valid, invalid := 0, 0
	for _, v := range all {
		accepted := check(v)
		if v.Result == "valid" {
			valid++
		} else {
			invalid++
		}
		if accepted != (v.Result == "valid") {
			t.Errorf("vector %d is %s, but accepted: %v", v.TCID, v.Result, accepted)
		}
	}
	if valid < leastValid || invalid < leastInvalid {
		t.Errorf("%d valid and %d invalid vectors, there were %d and %d", valid, invalid, leastValid, leastInvalid)
	}
}

// TestGCMAgreesWithWycheproof: the cipher under a subkey, made and opened as this package does, with 256-bit keys, nonces
// of 96 bits in front and whole tags.
func TestGCMAgreesWithWycheproof(t *testing.T) {
	t.Parallel()
	var all []vector
	for _, v := range vectors(t, "aes_gcm_test.json", 256) {
		if v.ivBits == 8*NonceSize && v.tagBits == 8*TagSize {
			all = append(all, v)
		}
	}
	agree(t, all, 35, 26, func(v vector) bool {
		var k subkey
		copy(k.key[:], v.key)
		if err := k.expand(); err != nil {
			t.Fatal(err)
		}
		message := append(make([]byte, SaltSize), v.iv...) // the salt has done its work
		message = append(append(message, v.ct...), v.tag...)
		opened, err := k.unlock(nil, message, v.aad)
		if err != nil && (opened != nil || !errors.Is(err, ErrAuth)) {
			t.Errorf("vector %d: %v", v.TCID, err)
		}
		return err == nil && bytes.Equal(opened, v.msg) && bytes.Equal(gcmSeal(t, v), append(v.ct, v.tag...))
	})
}

// gcmSeal seals with the vector's nonce, which the package never lets anybody choose.
func gcmSeal(t *testing.T, v vector) []byte {
	t.Helper()
	block, err := aes.NewCipher(v.key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm.Seal(nil, v.iv, v.msg, v.aad)
}

// TestSubkeysAgreeWithWycheproof: XAES derives a subkey from two CMACs of one whole block each, so every vector of that
// length under a 256-bit key has to come out.
func TestSubkeysAgreeWithWycheproof(t *testing.T) {
	t.Parallel()
	var all []vector
	for _, v := range vectors(t, "aes_cmac_test.json", 256) {
		if len(v.msg) == aes.BlockSize && v.tagBits == 8*aes.BlockSize {
			all = append(all, v)
		}
	}
	agree(t, all, 1, 27, func(v vector) bool {
		x, err := NewXAES(v.key)
		if err != nil {
			t.Fatal(err)
		}
		mac := make([]byte, aes.BlockSize)
		subtle.XORBytes(mac, v.msg, x.mask[:])
		x.block.Encrypt(mac, mac)
		return bytes.Equal(mac, v.tag)
	})
}

// TestSIVAgreesWithWycheproof opens and seals every vector of two 256-bit keys.
func TestSIVAgreesWithWycheproof(t *testing.T) {
	t.Parallel()
	agree(t, vectors(t, "aes_siv_cmac_test.json", 512), 39, 108, func(v vector) bool {
		s, err := newSIV(v.key)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := s.unlock(nil, v.ct, v.aad)
		if err != nil && (opened != nil || !errors.Is(err, ErrAuth)) {
			t.Errorf("vector %d: %v", v.TCID, err)
		}
		sealed, sealErr := s.seal(nil, nil, v.msg, v.aad)
		return err == nil && sealErr == nil && bytes.Equal(opened, v.msg) && bytes.Equal(sealed, v.ct)
	})
}

// TestHMACAgreesWithWycheproof: the function behind blind indexes and digests, cut as a token is.
func TestHMACAgreesWithWycheproof(t *testing.T) {
	t.Parallel()
	agree(t, vectors(t, "hmac_sha256_test.json", 0), 66, 108, func(v vector) bool {
		mac := hmac.New(sha256.New, v.key)
		_, _ = mac.Write(v.msg) // a hash never fails
		return hmac.Equal(mac.Sum(nil)[:v.tagBits/8], v.tag)
	})
}
