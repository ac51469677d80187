package client

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/place"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Key is the value of a row's key, one element per column of it, in the key's order.
type Key []any

// boundPlaces are the places that schemes which can be read are bound to beside the row's key, by their labels.
func boundPlaces(relation pg.Relation, schemes []lifecycle.SchemeRow) map[string]*place.Columns {
	places := map[string]*place.Columns{}
	for _, s := range schemes {
		if s.Columns != "" && (s.State == lifecycle.SchemeReadable || s.State == lifecycle.SchemeActive) {
			places[s.Columns] = place.OfBound(relation, s.Columns)
		}
	}
	return places
}

// sealingAt is the address of a cell that is sealed for a row.
func (s *standing) sealingAt(m *pgtype.Map, scheme cell.Scheme, r row) (cell.Address, error) {
	a := cell.Address{Column: s.id}
	if !scheme.RowBound {
		return a, nil
	}
	var err error
	if scheme.Columns == "" {
		if len(r.key) == 0 {
			return a, fmt.Errorf("name the row's key, as in {column = $1 key $2}: %w", ErrNoKey)
		}
		a.Key, err = s.key.Encode(m, r.key)
		return a, err
	}
	at, known := s.bound[scheme.Columns]
	if !known { // the keys are known, and the column has not been looked at since
		return a, fmt.Errorf("scheme %d: %w", scheme.Number, ErrNoColumns)
	}
	values, err := s.boundValues(at, r)
	if err != nil {
		return a, fmt.Errorf("scheme %d is bound to (%s): %w", scheme.Number, strings.Join(at.Names(), ", "), err)
	}
	part, err := at.Encode(m, values)
	a.Bound = []cell.Bound{{Columns: scheme.Columns, Key: part}}
	return a, err
}

// boundValues are those of a place's columns in a row, as far as the application has named them: by their names, or as
// part of the row's key.
func (s *standing) boundValues(at *place.Columns, r row) ([]any, error) {
	if err := at.Usable(); err != nil {
		return nil, err
	}
	values := make([]any, len(at.Parts))
	for i, part := range at.Parts {
		value, named := r.with[part.Name]
		if k := s.inKey(part); !named && k >= 0 && k < len(r.key) {
			value, named = r.key[k], true
		}
		if !named {
			return nil, fmt.Errorf("name %s, as in {column = $1 with %[1]s $2}: %w", part.Name, ErrNoColumns)
		}
		values[i] = value
	}
	return values, nil
}

// inKey is which part of the row's key a column is; -1: none.
func (s *standing) inKey(part place.Part) int {
	if s.key == nil {
		return -1
	}
	return slices.IndexFunc(s.key.Parts, func(k place.Part) bool { return k.Num == part.Num })
}

// openingAt is the address of a cell that an application has read in a row.
func (c *Client) openingAt(m *pgtype.Map, s *standing, r row, header cell.Header) (cell.Address, error) {
	if at := s.of(header); !header.RowBound || header.Column != at { // of a stranger nobody asks what it is bound to
		return cell.Address{Column: at}, nil
	}
	scheme, err := c.schemeOf(header)
	if err != nil {
		return cell.Address{}, err
	}
	a, err := s.sealingAt(m, cell.Scheme{Number: header.Scheme, RowBound: true, Columns: scheme.Columns}, r)
	a.Column = s.of(header)
	return a, err
}

// schemeOf is the scheme of a row-bound cell, which says what that is bound to. One that nobody knows has the registry read
// once more.
func (c *Client) schemeOf(header cell.Header) (cell.Scheme, error) {
	scheme, known := c.chain.Keyring().Scheme(header.Column, header.Scheme)
	if known {
		return scheme, nil
	}
	ctx, cancel := context.WithTimeout(c.end, learnTimeout)
	defer cancel()
	err := fmt.Errorf("open: scheme %d of column %d: %w", header.Scheme, header.Column, ErrUnknownScheme)
	if c.chain.Learn(ctx, err) {
		if scheme, known = c.chain.Keyring().Scheme(header.Column, header.Scheme); known {
			return scheme, nil
		}
	}
	return cell.Scheme{}, err
}
