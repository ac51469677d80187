package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/lineage"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// joinTwin has writes of a column set the cells of its twin, too, if the role may.
func (c *Client) joinTwin(ctx context.Context, relation pg.Relation, s *standing, twin *lifecycle.Column) error {
	if twin == nil || !s.cells() {
		return nil
	}
	target, ok := relation.Column(relation.ColumnAt(twin.TargetNum).Name)
	if !ok {
		return nil
	}
	may, _, err := lineage.Rights(ctx, c.db, s.relid, s.sealedNum, target.Attnum)
	if err != nil || !may {
		return err
	}
	schemes, err := lifecycle.Schemes(ctx, c.db, twin.ID)
	if err != nil {
		return err
	}
	s.twin = &standing{id: twin.ID, relid: s.relid, table: s.table, phase: lifecycle.PhaseCutOver, sealed: target.Name, sealedNum: target.Attnum, form: ddl.FormOf(target), kind: s.kind,
		tenants: tenants(relation, schemes), bound: boundPlaces(relation, schemes)}
	s.twin.key, err = c.keyOf(ctx, relation, twin.ID)
	return err
}

// twinned is the twin's cell of a value. While no scheme is known to seal it there is none, and the row is left to the
// fleet.
func (c *Client) twinned(ctx context.Context, m *pgtype.Map, twin *standing, r row, v any) (any, error) {
	if _, active := c.chain.Active(twin.id); !active {
		return nil, nil
	}
	_, sealed, _, err := c.values(ctx, m, twin, r, v)
	if errors.Is(err, cell.ErrKeyRetired) { // its cells are gone, which Postgres is about to say
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("seal for the column that cells move into, or out of: %w", err)
	}
	return twin.stored(sealed), nil
}

// twins says that a name that a write sets is the twin's.
func (s *standing) twins(name string) bool { return s.twin != nil && name == s.twin.sealed }

// of is the column that a cell is of, where it may be one of several.
func (s *standing) of(h cell.Header) uint32 {
	if slices.Contains(s.kin, h.Column) {
		return h.Column
	}
	return s.id
}

// related says that a column's cells and these are of the same values.
func (s *standing) related(id uint32) bool {
	return slices.Contains(s.kin, id)
}
