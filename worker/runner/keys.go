package runner

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// keys are the worker's keychain and what of it is in use. It is opened for the first job that needs it, at the latest,
// so that a worker starts while its key-encryption key is out of reach.
type keys struct {
	*Runner

	mu    sync.Mutex
	chain *lifecycle.Keychain
	used  []int64 // the revisions that ranges in work began with
}

var errNoKEK = errors.New("this worker was given none")

// open returns the keychain. A worker without a key-encryption key has none, as one whose key is out of reach.
func (k *keys) open(ctx context.Context) (*lifecycle.Keychain, error) {
	if k.KEK == nil {
		return nil, &cell.KEKError{Class: cell.KEKUnavailable, URI: "none", Err: errNoKEK}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.chain != nil {
		return k.chain, nil
	}
	chain, err := lifecycle.OpenKeychain(ctx, k.DB, k.KEK, lifecycle.KeychainConfig{Log: k.Log})
	if err != nil {
		return nil, err
	}
	k.chain = chain
	return chain, nil
}

const openPause = 5 * time.Second // between two attempts to open the keychain

// keep keeps the keychain up to date until ctx ends.
func (k *keys) keep(ctx context.Context) {
	for ctx.Err() == nil && k.KEK != nil {
		chain, err := k.open(ctx)
		if err == nil {
			chain.Run(ctx)
			return
		}
		if ctx.Err() == nil {
			k.Log.WarnContext(ctx, "the keys could not be loaded", "error", err)
		}
		pause(ctx, openPause)
	}
}

// begin notes that a range begins with the keys as they are now, until done is called.
func (k *keys) begin(revision int64) (done func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used = append(k.used, revision)
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.used = slices.Delete(k.used, slices.Index(k.used, revision), slices.Index(k.used, revision)+1)
	}
}

// revision is what the worker's lease carries: that of its keys, which are refreshed for it, or of the oldest that a
// range in work began with. Who has no keys has none that are old.
func (k *keys) revision(ctx context.Context) (int64, error) {
	k.mu.Lock()
	chain := k.chain
	k.mu.Unlock()
	if chain == nil {
		installation, err := lifecycle.ReadInstallation(ctx, k.DB)
		return installation.Revision, err
	}
	if err := chain.Refresh(ctx); err != nil {
		k.Log.WarnContext(ctx, "the keys could not be refreshed", "error", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Min(append(slices.Clone(k.used), chain.Revision())), nil
}

// keyless says that no key will do what is asked, or none may, until somebody mends it.
func keyless(err error) bool {
	var damage *lifecycle.DamageError
	var undecided *lifecycle.UndecidedError
	switch cell.KEKClassOf(err) {
	case cell.KEKDenied, cell.KEKDisabled, cell.KEKExposed, cell.KEKDestroyed, cell.KEKUnknown, cell.KEKCorrupt:
		return true
	}
	return errors.Is(err, cell.ErrKeyRevoked) || errors.Is(err, cell.ErrKeyDestroyed) || errors.As(err, &damage) || errors.As(err, &undecided)
}
