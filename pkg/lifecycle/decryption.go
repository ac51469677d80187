package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// UndecidedError refuses to open the cells of a column into plaintext: it was dropped, and nobody who may has had it
// brought back since.
type UndecidedError struct {
	Whose
	Column uint32
}

// Error says which column.
func (e *UndecidedError) Error() string {
	return fmt.Sprintf("the plaintext of %s was dropped, and nobody has recorded since that it is to be decrypted", e.Of(e.Column))
}

// Hint says who may.
func (e *UndecidedError) Hint() string {
	return "whoever may INSERT into cipherfleet.decryptions records it there, with a reason"
}

// The last time that a column lost its plaintext, unless it began anew since.
const lostSQL = `SELECT e.event = 'dropped' AND NOT EXISTS (SELECT FROM cipherfleet.decryptions d WHERE d.column_id = c.id AND d.at > e.created_at),
 pg_catalog.concat_ws('.', c.schema_name, c.table_name, c.source)
 FROM cipherfleet.columns c
 JOIN cipherfleet.events e ON e.table_name = pg_catalog.concat(c.schema_name, '.', c.table_name) AND e.column_name = c.source
 WHERE c.id = $1 AND e.event IN ('dropped','schema_added') ORDER BY e.id DESC LIMIT 1`

// MayDecrypt is nil if the cells of a column may be opened into plaintext: its plaintext was never dropped, which a
// rollback relies on, or table decryptions has a row since. Else it is an [*UndecidedError]. Whoever opens cells asks
// Postgres this, whatever a message or a job says.
func MayDecrypt(ctx context.Context, q pg.Querier, column uint32) error {
	undecided, name := false, ""
	err := q.QueryRow(ctx, lostSQL, column).Scan(&undecided, &name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look whether column %d may be decrypted: %w", column, err)
	case undecided:
		return &UndecidedError{Whose{name}, column}
	}
	return nil
}

// Decrypt records that a column is to be brought back to plaintext. It takes the right to INSERT into
// cipherfleet.decryptions, which nobody has who was not given it by name.
func Decrypt(ctx context.Context, q pg.Querier, column uint32, actor, reason string) error {
	_, err := q.Exec(ctx, `INSERT INTO cipherfleet.decryptions (column_id, actor, reason) VALUES ($1, coalesce(nullif($2, ''), session_user), $3)`, column, actor, reason)
	return wrap(fmt.Sprintf("record that column %d is to be decrypted", column), err)
}
