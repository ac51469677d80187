package cell

// SIVForTest seals msg and opens ct with the bare cipher of SuiteAES256SIV.
func SIVForTest(key, msg, aad, ct []byte) (sealed, opened []byte, err error) {
	s, err := newSIV(key)
	if err != nil {
		return nil, nil, err
	}
	if sealed, err = s.seal(nil, nil, msg, aad); err != nil {
		return nil, nil, err
	}
	opened, err = s.unlock(nil, ct, aad)
	return sealed, opened, err
}

// SameKeyForTest reports whether two DEKs hold the same key.
func SameKeyForTest(a, b DEK) bool { return a.equal(b) }

// NormaliseForTest returns the normal form of a plaintext.
func NormaliseForTest(n Normaliser, plaintext []byte) ([]byte, error) {
	return n.append(nil, plaintext)
}
