package cell

import "fmt"

// Suite numbers the algorithm that a key is for.
type Suite uint8

const (
	// SuiteXAES256GCM is XAES-256-GCM (c2sp.org/XAES-256-GCM) with a random 192-bit nonce per cell.
	SuiteXAES256GCM Suite = 1
	// SuiteAES256SIV is AES-SIV-CMAC (RFC 5297) with two keys of 256 bits and no nonce: equal values of a column
	// make equal cells. Whoever sees the cells sees which rows agree and how often each value occurs. It is none of the
	// approved modes: where only such may run, every use of it is an ErrUnapproved.
	SuiteAES256SIV Suite = 2
	// SuiteBlindIndex is HMAC-SHA-256 of a blind index. No cell and no scheme has it, only a wrapped key.
	SuiteBlindIndex Suite = 0x81
)

// SIVKeySize is the length in bytes of a DEK of SuiteAES256SIV: the key of the MAC, then the key of the cipher.
const SIVKeySize = 64

// String returns the name of the algorithm.
func (s Suite) String() string {
	switch s {
	case SuiteXAES256GCM:
		return "XAES-256-GCM"
	case SuiteAES256SIV:
		return "AES-256-SIV"
	case SuiteBlindIndex:
		return "HMAC-SHA-256"
	}
	return fmt.Sprintf("suite %d", uint8(s))
}

// Deterministic reports whether equal values of one column make equal cells.
func (s Suite) Deterministic() bool { return s == SuiteAES256SIV }

// Overhead returns how many bytes a cell of the suite adds to its padded plaintext, which is also the length of
// the shortest one. It is 0 for a suite that no cell has.
func (s Suite) Overhead() int {
	switch s {
	case SuiteXAES256GCM:
		return Overhead
	case SuiteAES256SIV:
		return HeaderSize + TagSize
	}
	return 0
}

// keySize returns the length of a DEK, or 0 for an unknown suite.
func (s Suite) keySize() int {
	switch s {
	case SuiteXAES256GCM, SuiteBlindIndex:
		return KeySize
	case SuiteAES256SIV:
		return SIVKeySize
	}
	return 0
}

// body seals and opens what stands behind the headers of cells, under one DEK. Safe for concurrent use.
type body interface {
	// seal appends the message that holds plaintext to dst; what it derives for it stays in k.
	seal(k *subkey, dst, plaintext, aad []byte) ([]byte, error)
	// opener returns what opens this message; k is its room.
	opener(k *subkey, message []byte) (opener, error)
	// equal reports whether both have the same key.
	equal(other body) bool
}

// opener opens a message whose key is ready.
type opener interface {
	// unlock appends the plaintext of message to dst, or fails with ErrAuth.
	unlock(dst, message, aad []byte) ([]byte, error)
}
