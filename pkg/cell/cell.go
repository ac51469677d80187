// Package cell seals one database value into one self-describing cell and opens it again.
//
// A cell is a 16-byte header (which column, scheme, suite, codec and key) followed by
// an encrypted message. An address says where a cell belongs: a column id and the
// encoded primary key of its row; a cell opens only there. A scheme is the immutable,
// numbered configuration of one column. A codec says how the bytes Postgres sends become
// the bytes that are sealed. A data-encryption key (DEK) seals cells; a key-encryption key
// (KEK) wraps DEKs. A keyring holds the schemes and DEKs of one installation, which the
// registry UUID names. A canary is a cell that proves that a DEK is the right one.
//
// The byte format is specified in docs/envelope.md. Nothing in this package reads the
// environment, the network or a file, and no error carries a value, a key or a cell.
package cell

import "errors"

// Sizes of the format, in bytes.
const (
	HeaderSize = 16                                          // header in front of every cell
	SaltSize   = 12                                          // picks the subkey of one cell
	NonceSize  = 12                                          // AES-GCM nonce under that subkey
	TagSize    = 16                                          // AES-GCM tag
	Overhead   = HeaderSize + SaltSize + NonceSize + TagSize // what a cell of SuiteXAES256GCM adds to its padded plaintext
	MinLength  = HeaderSize + TagSize                        // least length of a cell of any suite: what a CHECK constraint demands
	PrefixSize = 6                                           // magic and column id: what a CHECK constraint compares
	KeySize    = 32                                          // a DEK of SuiteXAES256GCM
)

// MaxPlaintext is the longest plaintext Seal takes: with overhead and the widest padding
// it still fits the largest value a Postgres column can hold (1 GiB less its length word).
const MaxPlaintext = 1<<30 - 1 - 4 - Overhead - 64

// What may be wrong with a cell, or with a request to make one. They are wrapped, never
// returned bare: compare with errors.Is.
var (
	// ErrNotACell: the bytes do not parse; they may be plaintext, damage or a future format.
	ErrNotACell = errors.New("not a cell")
	// ErrForeignColumn: a cell, but of another column than the address names.
	ErrForeignColumn = errors.New("cell of another column")
	// ErrUnknownScheme: the keyring holds no such scheme; refresh it from the registry and try again.
	ErrUnknownScheme = errors.New("unknown scheme")
	// ErrUnknownKey: the scheme is known, its key is not; refresh from the registry and try again.
	ErrUnknownKey = errors.New("unknown key")
	// ErrAuth: a cell of this column that does not open here: altered, moved from another row,
	// sealed by another installation or under another key. Never re-encrypt it, never skip it.
	ErrAuth = errors.New("cell does not authenticate")
	// ErrDiffers: the cell opens, but holds another value than the one it was compared with.
	ErrDiffers = errors.New("cell holds another value")
	// ErrNoKey: a row-bound scheme was used without a row's key.
	ErrNoKey = errors.New("row-bound scheme needs the row's key")
	// ErrNoColumns: a scheme that is bound to columns of its row was used without their values.
	ErrNoColumns = errors.New("scheme is bound to columns of the row: it needs their values")
	// ErrKeyRevoked: whoever owns the key-encryption key has taken it away from this program, or switched it off.
	ErrKeyRevoked = errors.New("key was revoked")
	// ErrKeyDestroyed: the key-encryption key is gone for good; the row's other columns are still readable.
	ErrKeyDestroyed = errors.New("key was destroyed")
	// ErrKeyExpired: nobody could confirm for too long that this program may still use the key.
	ErrKeyExpired = errors.New("key was not confirmed in time")
	// ErrKeyRetired: the scheme was retired, which Postgres had proved that no cell was left of; such a cell comes from
	// a backup, or from before. Nothing is sealed under it any more.
	ErrKeyRetired = errors.New("scheme was retired")
	// ErrUnapproved: only approved algorithms may run in this process (GODEBUG=fips140=only), and this is none of them.
	ErrUnapproved = errors.New("algorithm is not approved where only approved ones may run")
	// ErrTooLong: the plaintext is longer than MaxPlaintext.
	ErrTooLong = errors.New("value too long to seal")
)
