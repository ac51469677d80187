package preflight

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// writtenSQL is the null policy of the scheme that column $1 is sealed under, or is going to be: somebody may have made its
// first one before anything is sealed.
const writtenSQL = `SELECT s.nulls FROM cipherfleet.schemes s WHERE s.column_id = $1 AND s.state IN ('readable', 'active') ORDER BY s.state = 'active' DESC, s.number DESC LIMIT 1`

// sealsNulls says whether NULL is sealed in a column: as its scheme says, or, of one that has none, as it is asked for.
func (p *look) sealsNulls(ctx context.Context, c Column, asked *messages.Scheme) (bool, error) {
	if !c.Sealed() {
		return false, nil
	}
	switch {
	case !p.plan.Installed || c.Registered.ID == 0:
	case p.nulls != nil:
		if seals, written := p.nulls(c.Registered.ID); written {
			return seals, nil
		}
	default:
		var written cell.Nulls
		err := p.q.QueryRow(ctx, writtenSQL, c.Registered.ID).Scan(&written)
		if err == nil || !errors.Is(err, pgx.ErrNoRows) {
			return bool(written), wrapped(err)
		}
	}
	if c.Origin.Own() {
		return c.moved.scheme.SealsNulls(), nil
	}
	return asked != nil && asked.Nulls == cell.SealNulls.String(), nil
}

func wrapped(err error) error {
	if err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	return nil
}
