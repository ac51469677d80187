package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// refused classes a failed call. Of the answer it quotes no more than the status code.
func refused(ctx context.Context, err error) *cell.KEKError {
	e := &cell.KEKError{}
	said, isStatus := status.FromError(err)
	switch {
	case ctx.Err() != nil:
		e.Class, e.Hint = cell.KEKUnavailable, "is Cloud KMS reachable?"
		e.Err = fmt.Errorf("no answer in time: %w", ctx.Err())
	case isStatus:
		e.Class, e.Hint = judge(said.Code(), said.Message())
		e.Err = fmt.Errorf("the server answered %s", said.Code())
	default: // Tink compares checksums and the key's name
		e.Class, e.Err = cell.KEKCorrupt, errors.New("its answer does not agree with its checksums, or is another key's")
	}
	return e
}

// judge knows what the status codes mean (cloud.google.com/kms/docs/reference/rpc) for Encrypt and Decrypt.
func judge(code codes.Code, message string) (cell.KEKClass, string) {
	switch code {
	case codes.PermissionDenied, codes.Unauthenticated:
		return cell.KEKDenied, "do the credentials live, and have they cloudkms.cryptoKeyVersions.useToDecrypt (and useToEncrypt for the coordinator) on this key?"
	case codes.FailedPrecondition:
		return state(message)
	case codes.NotFound:
		return cell.KEKDestroyed, "there is no such key: correct the URI; a deleted key does not come back"
	case codes.InvalidArgument, codes.OutOfRange, codes.Unimplemented:
		return cell.KEKCorrupt, "the wrapped key is damaged, belongs elsewhere or was wrapped by another key; or the key is not one for symmetric encryption"
	}
	return cell.KEKUnavailable, "Cloud KMS is out of reach, busy or out of order for now: is the project below its quota?"
}

// state tells a version that is switched off from one that is gone for good.
func state(message string) (cell.KEKClass, string) {
	said := strings.ToUpper(message)
	if strings.Contains(said, "DESTROYED") && !strings.Contains(said, "DESTROY_SCHEDULED") {
		return cell.KEKDestroyed, "the key's version is destroyed: it does not come back"
	}
	return cell.KEKDisabled, "the key's version, its billing or the API is switched off, or it is to be destroyed: `gcloud kms keys versions enable` or `restore` brings a version back"
}
