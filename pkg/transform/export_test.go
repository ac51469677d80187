package transform

// Interfere lets a test damage a cell between its sealing and its check, as bad memory would.
func Interfere(e *Encrypt, damage func(sealed []byte)) *Encrypt {
	e.testOnlySealed = damage
	return e
}

// InterfereAnew is [Interfere] for a Reencrypt.
func InterfereAnew(r *Reencrypt, damage func(sealed []byte)) *Reencrypt {
	r.testOnlySealed = damage
	return r
}
