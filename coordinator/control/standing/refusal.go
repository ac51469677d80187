package standing

import (
	"fmt"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

// Refusal is a precondition that does not hold. Nothing was changed. It holds names of tables, columns and roles,
// never a value.
type Refusal struct {
	Code    int    // exit code of the command that asked
	Kind    string // the same for a requester over the wire: one of the codes of package messages
	Field   string // of the request, as in "columns[0].source"; "" when it is about the server
	Message string
	Hint    string // what to do about it; never empty
}

// Problem is the refusal as it goes over the wire.
func (r *Refusal) Problem() *messages.Problem {
	return &messages.Problem{Code: r.Kind, Field: r.Field, Message: r.Message, Hint: r.Hint}
}

// Error is the message, with the field if there is one.
func (r *Refusal) Error() string { return r.Problem().Error() }

// Unwrap is the problem, for those who know nothing else.
func (r *Refusal) Unwrap() error { return r.Problem() }

// Refuse is a precondition that does not hold.
func Refuse(field, hint, format string, args ...any) error {
	return &Refusal{app.CodeRefused, messages.CodeRefused, field, fmt.Sprintf(format, args...), hint}
}

// Deny is a right that is missing.
func Deny(field, hint, format string, args ...any) error {
	return &Refusal{app.CodeDenied, messages.CodeDenied, field, fmt.Sprintf(format, args...), hint}
}

// Lack is a name that nothing has.
func Lack(field, hint, format string, args ...any) error {
	return &Refusal{app.CodeRefused, messages.CodeNotFound, field, fmt.Sprintf(format, args...), hint}
}

// Clash is something else that stands in the way.
func Clash(field, hint, format string, args ...any) error {
	return &Refusal{app.CodeRefused, messages.CodeConflict, field, fmt.Sprintf(format, args...), hint}
}

// Postpone is a gate that waits for a person or for time.
func Postpone(field, hint, format string, args ...any) error {
	return &Refusal{app.CodeWaiting, messages.CodeWaiting, field, fmt.Sprintf(format, args...), hint}
}

// Reject is a request that makes no sense on any server.
func Reject(field, hint, format string, args ...any) error {
	return &Refusal{app.CodeUsage, messages.CodeInvalid, field, fmt.Sprintf(format, args...), hint}
}
