package cell

// SameKeyForTest reports whether two DEKs hold the same key.
func SameKeyForTest(a, b DEK) bool { return a.equal(b) }

// NormaliseForTest returns the normal form of a plaintext.
func NormaliseForTest(n Normaliser, plaintext []byte) ([]byte, error) {
	return n.append(nil, plaintext)
}

// SealBodyForTest seals what stands behind the kind of a scheme that has kinds, kind and all.
func SealBodyForTest(t interface{ Fatal(...any) }, k *Keyring, s Scheme, a Address, body []byte) []byte {
	key, err := k.sealing(s)
	if err != nil {
		t.Fatal(err)
	}
	x, err := key.use()
	if err != nil {
		t.Fatal(err)
	}
	head := s.Header().Append(nil)
	sealed, err := x.seal(&subkey{}, head, appendPadding(append([]byte{}, body...), 0, s.Padding), appendAAD(nil, k.registry, head, s.RowBound, a.Key))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// WidthForTest is the sealed length of a codec of fixed width, else 0.
func (c Codec) WidthForTest() int { return c.width() }
