package cell_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

var sizes = []int{24, 1024}

// BenchmarkStandardGCM is the floor: AES-256-GCM of the standard library with one cached key.
func BenchmarkStandardGCM(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			block, err := aes.NewCipher(make([]byte, 32))
			if err != nil {
				b.Fatal(err)
			}
			gcm, err := cipher.NewGCM(block)
			if err != nil {
				b.Fatal(err)
			}
			plain, aad, dst := make([]byte, size), make([]byte, 55), make([]byte, 0, size+64)
			nonce := make([]byte, 12)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = rand.Read(nonce) // never fails
				dst = gcm.Seal(dst[:0], nonce, plain, aad)
			}
		})
	}
}

// bench runs f with a sealer, a buffer for the cell and a plaintext, for each size.
func bench(b *testing.B, f func(b *testing.B, k *cell.Keyring, w *cell.Sealer, dst, plain []byte)) {
	b.Helper()
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := scheme()
			k := ring(b, s)
			w, err := k.Sealer(s)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			f(b, k, w, make([]byte, 0, s.SealedLength(size)), bytes.Repeat([]byte{'x'}, size))
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	bench(b, func(b *testing.B, _ *cell.Keyring, w *cell.Sealer, dst, plain []byte) {
		a := row(99)
		for b.Loop() {
			if _, err := w.Seal(dst, a, plain); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkKeyringSeal(b *testing.B) {
	bench(b, func(b *testing.B, k *cell.Keyring, w *cell.Sealer, dst, plain []byte) {
		a := row(99)
		for b.Loop() {
			if _, err := k.Seal(dst, w.Scheme(), a, plain); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	bench(b, func(b *testing.B, k *cell.Keyring, w *cell.Sealer, dst, plain []byte) {
		a := row(99)
		c, err := w.Seal(dst, a, plain)
		if err != nil {
			b.Fatal(err)
		}
		out := make([]byte, 0, len(c))
		for b.Loop() {
			if _, _, err := k.Open(out, a, c); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSealAndCheck is what the fleet does for every value.
func BenchmarkSealAndCheck(b *testing.B) {
	bench(b, func(b *testing.B, _ *cell.Keyring, w *cell.Sealer, dst, plain []byte) {
		a := row(99)
		for b.Loop() {
			c, err := w.Seal(dst, a, plain)
			if err != nil {
				b.Fatal(err)
			}
			if err := w.OpenAndCompare(a, c, plain); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSealAndOpen is the same check with everything derived and expanded anew.
func BenchmarkSealAndOpen(b *testing.B) {
	bench(b, func(b *testing.B, k *cell.Keyring, w *cell.Sealer, dst, plain []byte) {
		a := row(99)
		out := make([]byte, 0, len(plain)+64)
		for b.Loop() {
			c, err := w.Seal(dst, a, plain)
			if err != nil {
				b.Fatal(err)
			}
			got, _, err := k.Open(out, a, c)
			if err != nil || !bytes.Equal(got, plain) {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkKeyEncoder(b *testing.B) {
	e := encoder(b, "int8")
	wire := [][]byte{int8wire(99)}
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Append(dst, wire); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	wire := []byte("alice.miller@example.com")
	dst := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cell.CodecText.Encode(dst, wire); err != nil {
			b.Fatal(err)
		}
	}
}
