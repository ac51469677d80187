package transform

import (
	"context"
	"crypto/fips140"
	"fmt"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
)

// Reader opens values that somebody else encrypted; NULL for NULL. It may serve several goroutines.
type Reader interface {
	Open(ctx context.Context, v foreign.Value) ([]byte, error)
}

// OpenReader makes the reader of an origin's values. It is a [foreign.ErrNoKey] if a key is missing here, and a
// [foreign.ErrUnsupported] if nobody here reads such values; no error shows a key. Where only approved modes may run, it
// is transit alone: the others derive keys, or open values, in ways that Go's module ends the process for.
func OpenReader(ctx context.Context, o messages.Origin, keys *foreign.Keys) (Reader, error) {
	if o.Format == messages.FormatTransit {
		key, err := keys.Remote(ctx, o.Key)
		if err != nil {
			return nil, err
		}
		return foreign.NewTransit(key), nil
	}
	if fips140.Enforced() {
		return nil, fmt.Errorf("format %s takes ciphers that are not approved, and GODEBUG=fips140=only: %w", o.Format, foreign.ErrUnsupported)
	}
	key, err := named(o, keys)
	if err != nil {
		return nil, err
	}
	switch o.Format {
	case messages.FormatAttrEncrypted:
		return made(foreign.NewAttrEncrypted(foreign.AttrEncryptedOptions{Mode: o.Mode, Algorithm: o.Algorithm, Key: key.own, Raw: o.Raw, RawIV: o.RawIV, Marshal: o.Marshal, ZeroIV: o.ZeroIV}))
	case messages.FormatLockbox:
		options := foreign.LockboxOptions{Keys: key.previous, MasterKey: key.master, Table: o.Table, Attribute: o.Field, Algorithm: o.Algorithm, Padding: o.Padding, Raw: o.Raw}
		if o.Key != "" {
			options.Keys = append([]foreign.Key{key.own}, key.previous...)
		}
		if o.Data != "" {
			options.AssociatedData = []byte(o.Data)
		}
		return made(foreign.NewLockbox(options))
	case messages.FormatRails:
		return made(foreign.NewRails(foreign.RailsOptions{Keys: append([]foreign.Key{key.own}, key.previous...), Salt: key.salt, Digest: o.Digest}))
	case messages.FormatPGP:
		return made(foreign.NewPGPSym(key.own))
	case messages.FormatPGCrypto:
		algorithm := o.Algorithm
		if algorithm == "" {
			algorithm = "aes"
		}
		return made(foreign.NewPGRaw(foreign.PGRawOptions{Key: key.own, Type: algorithm}))
	case messages.FormatCipherSweet:
		return made(foreign.NewCipherSweet(foreign.CipherSweetOptions{Key: key.own, Table: o.Table, Field: o.Field, Type: sweetType(o.PlaintextType())}))
	}
	return nil, fmt.Errorf("read format %q: %w", o.Format, foreign.ErrUnsupported)
}

// made keeps a nil pointer out of the interface.
func made[R Reader](r R, err error) (Reader, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// sweetType is what CipherSweet calls a field whose plaintext is of a type of Postgres's.
func sweetType(plaintext string) string {
	return map[string]string{"json": "json", "bigint": "int", "double precision": "float", "boolean": "bool"}[plaintext]
}

// keysOf are the keys of one origin.
type keysOf struct {
	own, master, salt foreign.Key
	previous          []foreign.Key
}

func named(o messages.Origin, keys *foreign.Keys) (all keysOf, err error) {
	for _, want := range []struct {
		name string
		into *foreign.Key
	}{{o.Key, &all.own}, {o.MasterKey, &all.master}, {o.Salting, &all.salt}} {
		if want.name == "" {
			continue
		}
		if *want.into, err = keys.Key(want.name); err != nil {
			return all, err
		}
	}
	for _, name := range o.Previous {
		key, err := keys.Key(name)
		if err != nil {
			return all, err
		}
		all.previous = append(all.previous, key)
	}
	return all, nil
}
