package cell_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

const perRound = 100 // operations of each kind in one round

// BenchmarkBesideStandard measures in turns, round by round, so that whatever else the machine does meets all alike, and
// reports medians: what one operation takes, and how many seals of the standard library's AES-256-GCM with a cached
// cipher that is. A re-encryption is verified: open under the old scheme, seal under the new one, open again and compare.
func BenchmarkBesideStandard(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			kinds := kindsOf(b, size)
			took := map[string][]time.Duration{}
			for b.Loop() {
				for _, k := range kinds {
					began := time.Now()
					for range perRound {
						k.once()
					}
					took[k.name] = append(took[k.name], time.Since(began)/perRound)
				}
			}
			b.ReportMetric(0, "ns/op") // of all kinds together: it says nothing
			standard := median(took["standard"])
			b.ReportMetric(float64(standard), "standard-ns")
			for _, k := range kinds[1:] {
				b.ReportMetric(float64(median(took[k.name])), k.name+"-ns")
				b.ReportMetric(float64(median(took[k.name]))/float64(standard), k.name+"-ratio")
			}
		})
	}
}

func median(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}

type operation struct {
	name string
	once func()
}

func kindsOf(b *testing.B, size int) []operation {
	b.Helper()
	old := scheme()
	next := old
	next.Number++
	k := ring(b, old, next)
	sealers := map[cell.Scheme]*cell.Sealer{}
	for _, s := range []cell.Scheme{old, next} {
		w, err := k.Sealer(s)
		must(b, err)
		sealers[s] = w
	}
	at, plain := row(99), bytes.Repeat([]byte{'x'}, size)
	stored, err := sealers[old].Seal(nil, at, plain)
	must(b, err)
	dst, opened := make([]byte, 0, len(stored)), make([]byte, 0, len(stored))
	sealNext := func(plain []byte) {
		c, err := sealers[next].Seal(dst, at, plain)
		must(b, err)
		must(b, sealers[next].OpenAndCompare(at, c, plain))
	}
	return []operation{
		{"standard", standardSeal(b, plain)},
		{"seal", func() { _, err := sealers[next].Seal(dst, at, plain); must(b, err) }},
		{"open", func() { _, _, err := k.Open(opened, at, stored); must(b, err) }},
		{"seal-and-verify", func() { sealNext(plain) }},
		{"reencrypt", func() {
			plain, _, err := k.Open(opened, at, stored)
			must(b, err)
			sealNext(plain)
		}},
	}
}

func must(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

// standardSeal draws a nonce and seals, with associated data as long as a cell's.
func standardSeal(b *testing.B, plain []byte) func() {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	must(b, err)
	gcm, err := cipher.NewGCM(block)
	must(b, err)
	aad, nonce, dst := make([]byte, 55), make([]byte, 12), make([]byte, 0, len(plain)+64)
	return func() {
		_, _ = rand.Read(nonce) // never fails
		dst = gcm.Seal(dst[:0], nonce, plain, aad)
	}
}
