package backfill

import (
	"context"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	readers "github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Retryable says that the same range may succeed later without anybody's help.
func Retryable(err error) bool {
	switch pg.ClassOf(err) {
	case pg.ClassLock, pg.ClassConflict, pg.ClassUnavailable, pg.ClassReadOnly:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, transform.ErrEncrypter) || unread(err) || noKEK(err)
}

// unread says that this process has no key, or a wrong one, for what somebody else encrypted: another one may have it.
func unread(err error) bool {
	var missing *work.NoForeignKeyError
	return errors.Is(err, readers.ErrNoKey) || errors.As(err, &missing)
}

// noKEK says that the key-encryption key is out of reach, or has been for so long that keys may not be used any more.
func noKEK(err error) bool {
	return cell.KEKClassOf(err) == cell.KEKUnavailable || errors.Is(err, cell.ErrKeyExpired)
}

// ErrorClass names what kind of error stopped a range, for the work list, spans and dead letters: a word or an
// SQLSTATE, never a text that could quote a value.
func ErrorClass(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, work.ErrLost):
		return "lost"
	case errors.Is(err, keyspace.ErrChanged):
		return "shape"
	case errors.Is(err, ErrDrained), errors.Is(err, context.Canceled):
		return "drained"
	case errors.Is(err, ErrQuarantineFull):
		return "quarantine"
	case unread(err):
		return "foreign_key"
	case errors.Is(err, transform.ErrValue):
		return "value"
	case errors.Is(err, transform.ErrEncrypter):
		return "encrypter"
	case errors.Is(err, transform.ErrAnswer):
		return "answer"
	case errors.Is(err, transform.ErrLeak):
		return "leak"
	case noKEK(err), cell.KEKClassOf(err) != "", errors.Is(err, cell.ErrKeyRevoked), errors.Is(err, cell.ErrKeyDestroyed), errors.Is(err, cell.ErrKeyRetired):
		return "key"
	case pg.Code(err) != "":
		return pg.Code(err)
	case pg.ClassOf(err) == pg.ClassUnavailable:
		return "unavailable"
	}
	return "other"
}

// Reason says for people why a range failed for good: its class, or in words what somebody else has to mend.
func Reason(err error) string {
	for _, foreign := range []error{transform.ErrAnswer, transform.ErrLeak} {
		if errors.Is(err, foreign) {
			return foreign.Error()
		}
	}
	return ErrorClass(err)
}
