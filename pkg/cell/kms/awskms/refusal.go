package awskms

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// code is what AWS calls an error; anything else is not quoted.
var code = regexp.MustCompile(`^[A-Za-z][A-Za-z.]{0,63}$`)

// refused classes a failed call. Of the answer it quotes no more than the error's code.
func refused(ctx context.Context, err error) *cell.KEKError {
	e := &cell.KEKError{Class: cell.KEKUnavailable, Hint: "is AWS KMS reachable in the key's region, and are there credentials for it?"}
	var api smithy.APIError
	var answer *smithyhttp.ResponseError
	switch {
	case ctx.Err() != nil:
		e.Err = fmt.Errorf("no answer in time: %w", ctx.Err())
	case errors.As(err, &api) && code.MatchString(api.ErrorCode()):
		e.Err = errors.New("the server answered " + api.ErrorCode())
		e.Class, e.Hint = judge(api.ErrorCode(), api.ErrorMessage())
		if errors.As(err, &answer) && answer.HTTPStatusCode() >= 500 {
			e.Class = cell.KEKUnavailable
		}
	default:
		e.Err = errors.New("no usable answer came") // without err, which may quote
	}
	return e
}

// judge knows the errors of Encrypt and Decrypt (docs.aws.amazon.com/kms/latest/APIReference) and those common to all
// services. One that it does not know leaves loaded keys alone.
func judge(code, message string) (cell.KEKClass, string) {
	switch code {
	case "AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "ExpiredToken", "InvalidSignatureException",
		"SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired", "InvalidGrantTokenException":
		return cell.KEKDenied, "do the credentials live, and do key policy and IAM allow kms:Decrypt (and kms:Encrypt to the coordinator) on this key?"
	case "DisabledException":
		return cell.KEKDisabled, "the key is switched off: `aws kms enable-key` switches it on"
	case "KMSInvalidStateException":
		return state(message)
	case "NotFoundException":
		return cell.KEKDestroyed, "there is no such key in this account and region: correct the URI; a deleted key does not come back"
	case "InvalidCiphertextException", "IncorrectKeyException":
		return cell.KEKCorrupt, "the wrapped key is damaged, belongs elsewhere or was wrapped by another key"
	case "InvalidKeyUsageException", "ValidationException", "InvalidArnException":
		return cell.KEKCorrupt, "is the key a symmetric one, for ENCRYPT_DECRYPT?"
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException", "KMSInternalException", "KeyUnavailableException",
		"DependencyTimeoutException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure", "RequestExpired":
		return cell.KEKUnavailable, "AWS KMS is busy or out of order for now: is the account below its request quota?"
	}
	return cell.KEKCorrupt, "is this AWS KMS that answers?"
}

// state tells a key that its owner has taken away from one that AWS cannot use for the moment.
func state(message string) (cell.KEKClass, string) {
	if said := strings.ToLower(message); strings.Contains(said, "unavailable") || strings.Contains(said, "creating") || strings.Contains(said, "updating") {
		return cell.KEKUnavailable, "is the custom key store connected?"
	}
	return cell.KEKDisabled, "the key is to be deleted or lacks its material: `aws kms cancel-key-deletion` and `aws kms enable-key` bring it back while its waiting period lasts"
}
