package client

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// Tokens are what a blind index of the column holds for these values, for WHERE email_bidx = ANY($1); NULL has none, and
// is left out. Values become tokens as they become cells: by the column's type.
func (c *Column) Tokens(b *cell.Blinder, values ...any) ([][]byte, error) {
	s := c.at.Load()
	if index := b.Index(); s.id == 0 || index.Column != s.id {
		return nil, fmt.Errorf("blind index %d is of column %d, not of %s.%s: %w", index.Number, index.Column, c.table, c.name, ErrForeignColumn)
	}
	m := c.client.maps.Get().(*pgtype.Map)
	defer c.client.maps.Put(m)
	tokens := make([][]byte, 0, len(values))
	for _, v := range values {
		wire, err := s.kind.wire(m, rounded(bare(v)), s.kind.codec.Wire())
		if err != nil {
			return nil, err
		}
		if wire == nil {
			continue
		}
		plain, err := s.kind.codec.Encode(nil, wire)
		if err != nil {
			return nil, err
		}
		token, err := b.Token(nil, plain)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}
