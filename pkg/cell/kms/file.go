package kms

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

const (
	maxFile    = 1 << 16 // bytes; a keyset of hundreds of keys
	prefixSize = 5       // Tink's output prefix: 01 and the key's id
	tinkStart  = 0x01
)

// file is a KEK in a local Tink keyset. It is read anew for each key that is wrapped or unwrapped, and nothing of it is kept:
// a file that was rotated, closed to this user or taken away is noticed by programs that run.
type file struct {
	uri  string
	path string
}

// keys are a Tink keyset of XAES-GCM keys with Tink's output prefix. What it wraps is a stock Tink
// ciphertext. The primary key wraps, any enabled key unwraps, so the keyset can be rotated. The
// cipher is cell's, which also runs where only approved modes may.
type keys struct {
	primary uint32
	all     map[uint32]*cell.XAES
	off     map[uint32]bool // those that are not enabled
}

// CreateFile writes a new keyset of one random key to path, with mode 0600. It never
// overwrites, and leaves nothing behind when it fails.
func CreateFile(path string) error {
	content, err := newKeyset()
	if err != nil {
		return fmt.Errorf("create key file %s: %w", path, err)
	}
	defer clear(content)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return &cell.KEKError{
			Class: cell.KEKUnavailable, URI: "file:" + path,
			Hint: "create the folder " + filepath.Dir(path) + " first", Err: err,
		}
	}
	if err != nil {
		return fileError("file:"+path, path, err)
	}
	if err := fill(f, content); err != nil {
		_ = os.Remove(path) // what is half written is no key
		return fileError("file:"+path, path, err)
	}
	return nil
}

// fill writes and closes f, and does not return before file and folder entry are on disk.
func fill(f *os.File, content []byte) error {
	_, err := f.Write(content)
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// newKeyset returns a JSON keyset with one key.
func newKeyset() ([]byte, error) {
	parameters, err := xaesgcm.NewParameters(xaesgcm.VariantTink, cell.SaltSize)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManager()
	id, err := m.AddNewKeyFromParameters(parameters)
	if err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	handle, err := m.Handle()
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&content)); err != nil {
		return nil, err
	}
	return append(content.Bytes(), '\n'), nil
}

// openFile checks the keyset.
func openFile(ctx context.Context, uri, path string) (*file, error) {
	k := &file{uri: uri, path: path}
	if _, err := k.read(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// read reads and checks the keyset; nothing of its content reaches an error.
func (k *file) read(ctx context.Context) (*keys, error) {
	if err := ctx.Err(); err != nil {
		return nil, &cell.KEKError{Class: cell.KEKUnavailable, URI: k.uri, Err: err}
	}
	content, err := readPrivate(k.path)
	if err != nil {
		return nil, fileError(k.uri, k.path, err)
	}
	defer clear(content)
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(content)))
	if err != nil {
		return nil, fileError(k.uri, k.path, errCorrupt)
	}
	set := &keys{all: map[uint32]*cell.XAES{}, off: map[uint32]bool{}}
	if err := set.load(handle); err != nil {
		return nil, fileError(k.uri, k.path, err)
	}
	return set, nil
}

var (
	errOpen    = errors.New("others than its owner may read or write it")
	errCorrupt = errors.New("it is not a Tink keyset in JSON")
	errKind    = errors.New("it holds a key that is not XAES-GCM with 12 bytes of salt and Tink's prefix")
)

// readPrivate reads a regular file that nobody but its owner may touch. It judges the file it
// has opened, not the name, which could change in between.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return nil, errCorrupt
	case info.Mode().Perm()&0o077 != 0:
		return nil, errOpen
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// load takes every enabled key of the keyset.
func (k *keys) load(handle *keyset.Handle) error {
	primary, err := handle.Primary()
	if err != nil {
		return errCorrupt
	}
	k.primary = primary.KeyID()
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return errCorrupt
		}
		if entry.KeyStatus() != keyset.Enabled {
			k.off[entry.KeyID()] = true
			continue
		}
		key, ok := entry.Key().(*xaesgcm.Key)
		if !ok {
			return errKind
		}
		p, ok := key.Parameters().(*xaesgcm.Parameters)
		if !ok || p.Variant() != xaesgcm.VariantTink || p.SaltSizeInBytes() != cell.SaltSize {
			return errKind
		}
		x, err := cell.NewXAES(key.KeyBytes().Data(insecuresecretdataaccess.Token{}))
		if err != nil {
			return errCorrupt
		}
		k.all[entry.KeyID()] = x
	}
	if k.all[k.primary] == nil {
		return errCorrupt
	}
	return nil
}

// fileError classes what is wrong with the file and says what to do.
func fileError(uri, path string, err error) error {
	e := &cell.KEKError{Class: cell.KEKUnavailable, URI: uri, Err: fmt.Errorf("file %s: %w", path, err)}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "`cipherfleet init` creates it; if it existed before, bring it back from its backup: without it no wrapped key can be read"
	case errors.Is(err, fs.ErrExist):
		e.Class = cell.KEKDenied
		e.Hint = "a key file is never overwritten: cells may depend on it; use it, or name another path"
	case errors.Is(err, fs.ErrPermission):
		e.Class = cell.KEKDenied
		e.Hint = "run as the file's owner, or give the file to this user"
	case errors.Is(err, errOpen):
		e.Class = cell.KEKExposed
		e.Hint = "chmod 600 " + path + "; whoever could read it may have copied the key"
	case errors.Is(err, errCorrupt), errors.Is(err, errKind):
		e.Class = cell.KEKCorrupt
		e.Hint = "bring the file back from its backup; a new key cannot read what this one wrapped"
	}
	return e
}

// URI returns the URI that the key was opened by.
func (k *file) URI() string { return k.uri }

// String returns the URI, never a key.
func (k *file) String() string { return k.uri }

// Format writes the URI whatever the verb.
func (k *file) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.uri) }

// Wrap encrypts under the primary key; the result begins with Tink's prefix.
func (k *file) Wrap(ctx context.Context, dek, aad []byte) ([]byte, error) {
	set, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint32([]byte{tinkStart}, set.primary)
	wrapped, err := set.all[set.primary].Seal(out, dek, aad)
	if err != nil {
		return nil, &cell.KEKError{Class: cell.KEKUnavailable, URI: k.uri, Err: err}
	}
	return wrapped, nil
}

// Unwrap decrypts with the key that the prefix names.
func (k *file) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	set, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < prefixSize || wrapped[0] != tinkStart {
		return nil, k.corrupt("the wrapped key is damaged")
	}
	id := binary.BigEndian.Uint32(wrapped[1:prefixSize])
	x, ok := set.all[id]
	switch {
	case set.off[id]:
		return nil, &cell.KEKError{
			Class: cell.KEKDisabled, URI: k.uri, Err: fmt.Errorf("the wrapped key was wrapped under a key of file %s that is not enabled", k.path),
			Hint: "enable that key again with Tink's tools",
		}
	case !ok:
		return nil, k.corrupt("the wrapped key was wrapped under a key that is not in this file")
	}
	dek, err := x.Open(nil, wrapped[prefixSize:], aad)
	if err != nil {
		return nil, k.corrupt("the wrapped key does not authenticate: it is damaged, or belongs to another column or installation")
	}
	return dek, nil
}

func (k *file) corrupt(what string) error {
	return &cell.KEKError{
		Class: cell.KEKCorrupt, URI: k.uri, Err: errors.New(what),
		Hint: "name the key file that the keys of this database were wrapped with (" + k.path + " was read)",
	}
}
