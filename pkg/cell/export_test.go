package cell

// SameKeyForTest reports whether two DEKs hold the same key.
func SameKeyForTest(a, b DEK) bool { return a.equal(b) }

// NormaliseForTest returns the normal form of a plaintext.
func NormaliseForTest(n Normaliser, plaintext []byte) ([]byte, error) {
	return n.append(nil, plaintext)
}
