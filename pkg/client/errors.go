package client

import (
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/spell"
	"github.com/cipherfleet/cipherfleet/pkg/client/template"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// What a read or a write may fail with. They are wrapped, never returned bare: compare with [errors.Is]. None is ever
// answered by reading or writing plaintext instead.
var (
	// ErrLeaseExpired: the client could not renew its lease, so nobody waits for it any more when a scheme becomes
	// active or is retired. It writes no cell until it has renewed it; reading goes on.
	ErrLeaseExpired = errors.New("lease has run out")
	// ErrAlreadySealed: the value to be written is a cell of this very place already.
	ErrAlreadySealed = errors.New("value is a cell already")
	// ErrNoScheme: the column's cells are the truth, but no scheme is active to write one.
	ErrNoScheme = errors.New("column has no active scheme")
	// ErrTenant: the newest scheme has a key for each tenant, and the statement does not say which.
	ErrTenant = errors.New("tenant is not named")
	// ErrValue: the value does not fit the column's type.
	ErrValue = spell.ErrValue
	// ErrStatement: a placeholder of a statement is not of the grammar.
	ErrStatement = template.ErrStatement

	ErrNoKey         = cell.ErrNoKey         // the scheme is row-bound: name the row's key, or select its columns too
	ErrNoColumns     = cell.ErrNoColumns     // the scheme is bound to columns of the row: name them with their values, or select them too
	ErrAuth          = cell.ErrAuth          // a cell that was altered, or moved from another row
	ErrForeignColumn = cell.ErrForeignColumn // a cell of another column
	ErrUnknownScheme = cell.ErrUnknownScheme // not in the registry either
	ErrUnknownKey    = cell.ErrUnknownKey    // not in the registry either
	ErrKeyRevoked    = cell.ErrKeyRevoked    // its key service refuses this client, or has switched the key off
	ErrKeyDestroyed  = cell.ErrKeyDestroyed  // gone for good; the row's other columns are still readable
	ErrKeyExpired    = cell.ErrKeyExpired    // the key service was out of reach for longer than the hard lifetime
	ErrKeyRetired    = cell.ErrKeyRetired    // the scheme was retired, so no such cell should be left
)

// CellError says which column of a row could not be opened. The destinations of all others are filled.
type CellError struct {
	Table  pg.Table
	Column string // as it was asked for
	Err    error
}

// Error names the column, never a value.
func (e *CellError) Error() string { return fmt.Sprintf("open %s.%s: %v", e.Table, e.Column, e.Err) }

// Unwrap returns the cause.
func (e *CellError) Unwrap() error { return e.Err }
