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
	Job     string // what stands in the way, if the fleet began it by itself; see [Occupied]
}

// Problem is the refusal as it goes over the wire.
func (r *Refusal) Problem() *messages.Problem {
	return &messages.Problem{Code: r.Kind, Field: r.Field, Message: r.Message, Hint: r.Hint, Job: r.Job}
}

// Error is the message, with the field if there is one.
func (r *Refusal) Error() string { return r.Problem().Error() }

// Unwrap is the problem, for those who know nothing else.
func (r *Refusal) Unwrap() error { return r.Problem() }

// Refuse is a precondition that does not hold.
func Refuse(field, hint, format string, args ...any) error {
	return &Refusal{Code: app.CodeRefused, Kind: messages.CodeRefused, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Deny is a right that is missing.
func Deny(field, hint, format string, args ...any) error {
	return &Refusal{Code: app.CodeDenied, Kind: messages.CodeDenied, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Lack is a name that nothing has.
func Lack(field, hint, format string, args ...any) error {
	return &Refusal{Code: app.CodeRefused, Kind: messages.CodeNotFound, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Clash is something else that stands in the way.
func Clash(field, hint, format string, args ...any) error {
	return &Refusal{Code: app.CodeRefused, Kind: messages.CodeConflict, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Postpone is a gate that waits for a person or for time.
func Postpone(field, hint, format string, args ...any) error {
	return &Refusal{Code: app.CodeWaiting, Kind: messages.CodeWaiting, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Reject is a request that makes no sense on any server.
func Reject(field, hint, format string, args ...any) error {
	return &Refusal{Code: app.CodeUsage, Kind: messages.CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
}
