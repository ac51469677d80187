package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What can go wrong. Every error of this package is one of these, a *messages.Problem or the context's own.
// After ErrUnreachable, ErrNoQueue, ErrFull and ErrNoCoordinator it makes sense to try again after a while.
var (
	ErrSettings     = errors.New("bad NATS settings")
	ErrUnreachable  = errors.New("NATS cannot be reached")
	ErrDenied       = errors.New("NATS denies access")
	ErrNoJetStream  = errors.New("JetStream is not enabled")
	ErrNoQueue      = errors.New("the work queue does not exist")
	ErrForeignQueue = errors.New("the work queue belongs to something else")
	ErrFull         = errors.New("JetStream is full")
	// ErrNoCoordinator says that no coordinator answers: none runs, or none leads at this moment.
	ErrNoCoordinator = errors.New("no coordinator answers")
	// ErrClosed says that this connection was closed by Close or Drain.
	ErrClosed = errors.New("the connection to NATS is closed")
)

// JetStream's own numbers for "there is no room": account, memory, storage and stream.
const (
	codeAccountFull jetstream.ErrorCode = 10002
	codeServerFull  jetstream.ErrorCode = 10023
	codeMemoryFull  jetstream.ErrorCode = 10028
	codeStorageFull jetstream.ErrorCode = 10047
	codeStoreFailed jetstream.ErrorCode = 10077
)

// connectError classifies the error of a first connect.
func connectError(err error) error {
	switch {
	case err == nil:
		return nil
	case isDenied(err):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case errors.Is(err, nats.ErrTokenAlreadySet), errors.Is(err, nats.ErrUserInfoAlreadySet):
		return fmt.Errorf("%w: both the URL and a file hold credentials", ErrSettings)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// classify turns an error of an operation begun at start into one of this package's.
func (b *Bus) classify(start time.Time, operation string, err error) error {
	if err == nil {
		return nil
	}
	if kind := b.kind(start, err); kind != nil {
		return fmt.Errorf("%s: %w: %w", operation, kind, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}

// manage is classify for operations on streams and consumers, which JetStream itself answers if it is there at all.
func (b *Bus) manage(start time.Time, operation string, err error) error {
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("%s: %w: nobody answers for it", operation, ErrNoJetStream)
	}
	return b.classify(start, operation, err)
}

func (b *Bus) kind(start time.Time, err error) error {
	switch {
	case isDenied(err), b.denials.since(start):
		return ErrDenied
	case errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return ErrNoJetStream
	case isFull(err):
		return ErrFull
	case isMissing(err):
		return ErrNoQueue
	case b.nc.IsClosed(), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return ErrClosed
	}
	return ErrUnreachable
}

func isDenied(err error) bool {
	for _, denied := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired, nats.ErrPermissionViolation,
	} {
		if errors.Is(err, denied) {
			return true
		}
	}
	return false
}

func isFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case codeAccountFull, codeServerFull, codeMemoryFull, codeStorageFull, codeStoreFailed:
		return true
	}
	return false
}

func isMissing(err error) bool {
	for _, missing := range []error{
		jetstream.ErrStreamNotFound, jetstream.ErrConsumerNotFound, jetstream.ErrConsumerDoesNotExist,
		jetstream.ErrConsumerDeleted, jetstream.ErrNoStreamResponse, nats.ErrNoResponders,
	} {
		if errors.Is(err, missing) {
			return true
		}
	}
	return false
}
