package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Refusal is an error of the registry's state: nothing was changed, and it says what to do.
type Refusal interface {
	error
	Hint() string
}

// Whose is the name of the column that an error is about. Empty, it is known by its number.
type Whose struct{ Name string }

// Call gives the column its name.
func (w *Whose) Call(c Column) { w.Name = c.Table.String() + "." + c.Source }

// Of is the name, or the number of a column that has none here.
func (w Whose) Of(column uint32) string {
	return cmp.Or(w.Name, fmt.Sprintf("column %d", column))
}

// NotReadyError says that a scheme has to wait, or a blind index, or what else it names: programs are there
// that look at the registry as it was before.
type NotReadyError struct {
	Whose
	Column   uint32
	Scheme   uint16
	Index    string   // name of a blind index, if it is about one and no scheme
	What     string   // what waits, if it is neither
	Act      string   // what it waits for: to be "written with", "retired", "swapped back"
	Revision int64    // of the registry, which they do not carry yet
	Waiting  []string // ids of their leases
}

// Error names whom to wait for.
func (e *NotReadyError) Error() string {
	if e.Index != "" {
		return fmt.Sprintf("blind index %q of %s cannot be %s yet: %s still work with keys of before revision %d of the registry",
			e.Index, e.Of(e.Column), e.Act, strings.Join(e.Waiting, ", "), e.Revision)
	}
	if e.Scheme == 0 {
		return fmt.Sprintf("%s of %s cannot be %s yet: %s have not looked since revision %d of the registry",
			e.What, e.Of(e.Column), e.Act, strings.Join(e.Waiting, ", "), e.Revision)
	}
	return fmt.Sprintf("scheme %d of %s cannot be %s yet: %s still work with keys of before revision %d of the registry",
		e.Scheme, e.Of(e.Column), e.Act, strings.Join(e.Waiting, ", "), e.Revision)
}

// Hint says what to do.
func (e *NotReadyError) Hint() string {
	return "they refresh their keys within seconds, so try again; of one that cannot, see its log, or end it: its lease runs out by itself"
}

const lateSQL = `SELECT w.id FROM cipherfleet.workers w WHERE w.expires_at > pg_catalog.clock_timestamp() AND w.revision < $1 ORDER BY w.id`

// Heard refuses with wait while a program with a live lease has not looked at the registry since its revision, and so may
// still write a column in the form that it had before, or hold keys that it had.
func Heard(ctx context.Context, tx pg.Tx, wait NotReadyError) error { return carried(ctx, tx, wait) }

// carried refuses with e while a live lease does not carry its revision.
func carried(ctx context.Context, tx pg.Tx, e NotReadyError) error {
	waiting, err := collect(ctx, tx, pgx.RowTo[string], lateSQL, e.Revision)
	if err != nil {
		return fmt.Errorf("read live leases: %w", err)
	}
	if e.Waiting = waiting; len(waiting) == 0 {
		return nil
	}
	if of, err := ColumnByID(ctx, tx, e.Column); err == nil {
		e.Call(of)
	}
	return &e
}
