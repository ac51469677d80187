// Package transform turns one value into the next. A [Transform] works on a chunk's values of one column; it sees
// bytes in the wire form its codec asked for and never a Go type, so that nothing is lost in between.
//
// Words: a [Value] is one column of one row: In is what the source holds, Out what the target shall hold, nil is SQL
// NULL. A value never shows its bytes: String, LogValue and Format all say "redacted".
package transform

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Transform fills Out of every value from its In. It keeps the order, leaves In alone, and on an error Out is void;
// an error names no value. A nil In gives a nil Out, unless it sets Null. One Transform serves one goroutine at a time.
type Transform interface {
	Apply(ctx context.Context, values []Value) error
}

// Value is one column of one row on its way through a transform.
type Value struct {
	Address cell.Address
	In, Out []byte
	Is      []byte // what is stored already, to stay if it is a cell of In; nil: nothing that is to be compared
	Kept    bool   // it is, and Out is the same
	Null    bool   // one of In and Out alone is nil, and that is meant: NULL was sealed, or a cell held it
	Tenant  []byte // chooses the key, as Postgres prints it; nil: the key of all rows, or of those of no tenant
}

const redacted = "redacted"

// String hides the value.
func (Value) String() string { return redacted }

// Format hides the value from every verb.
func (Value) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // nothing to do about it

// LogValue hides the value from logs.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }
