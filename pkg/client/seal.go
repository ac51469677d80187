package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/client/kind"
)

// row is what a cell is sealed for.
type row struct {
	key      Key
	with     map[string]any // values of other columns that the application has named
	tenant   any
	tenanted bool // the application has named a tenant, which may be NULL
	spelled  bool // tenant is a *string, as Postgres prints it; nil is NULL
}

// stored are the arguments of a write of v for each column that it sets.
func (c *Client) stored(ctx context.Context, m *pgtype.Map, s *standing, r row, v any) (all []any, err error) {
	plain, sealed, tokens, err := c.values(ctx, m, s, r, v)
	if err != nil {
		return nil, err
	}
	if s.setsPlain() {
		all = append(all, plain)
	}
	if s.setsCell() {
		all = append(all, s.stored(sealed))
		for _, t := range tokens {
			all = append(all, t)
		}
	}
	if s.twin == nil {
		return all, nil
	}
	moved, err := c.twinned(ctx, m, s.twin, r, v)
	return append(all, moved), err
}

// values are what a write of v stores in a row: the plaintext as an argument for pgx, the cell, and the tokens of it.
func (c *Client) values(ctx context.Context, m *pgtype.Map, s *standing, r row, v any) (plain any, sealed []byte, tokens [][]byte, err error) {
	if !s.setsCell() {
		return kind.Bare(v), nil, nil, nil
	}
	scheme, active := c.chain.Active(s.id)
	if !active && s.cells() {
		return nil, nil, nil, ErrNoScheme
	}
	wire, err := s.kind.Wire(m, kind.Rounded(kind.Bare(v)), s.kind.Codec.Wire())
	if err != nil {
		return nil, nil, nil, err
	}
	var plaintext []byte // none: the tokens are NULL as the cell is
	if active {
		if sealed, err = c.seal(ctx, m, s, scheme, r, wire); err == nil && wire != nil {
			plaintext, err = scheme.Codec.Encode([]byte{}, wire) // an empty text is a value
		}
	}
	if err == nil {
		tokens, err = s.tokens.Make(plaintext)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	plain, err = s.kind.Argument(m, wire)
	return plain, sealed, tokens, err
}

// seal makes the cell of one value, under the newest scheme; a nil wire is NULL, which has none where that keeps NULL.
func (c *Client) seal(ctx context.Context, m *pgtype.Map, s *standing, scheme cell.Scheme, r row, wire []byte) ([]byte, error) {
	if wire == nil && !scheme.SealsNulls() {
		return nil, nil
	}
	if err := c.mayWrite(); err != nil {
		return nil, err
	}
	scheme, err := c.keyFor(ctx, m, s, scheme, r)
	if err != nil {
		return nil, err
	}
	address, err := s.sealingAt(m, scheme, r)
	if err != nil {
		return nil, err
	}
	if scheme.Codec.Wire() != s.kind.Codec.Wire() {
		return nil, fmt.Errorf("scheme %d of codec %s does not fit type %s: %w", scheme.Number, scheme.Codec, s.kind.Name, ErrValue)
	}
	if wire == nil {
		return c.chain.Keyring().SealNull(nil, scheme, address)
	}
	plaintext, err := scheme.Codec.Encode(make([]byte, 0, max(len(wire), 8)), wire)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	if c.sealedAlready(address, wire) {
		return nil, ErrAlreadySealed
	}
	return c.chain.Keyring().Seal(make([]byte, 0, scheme.SealedLength(len(plaintext))), scheme, address, plaintext)
}

// keyFor is the scheme with the key that seals for the row: that of all rows, or its tenant's. A tenant's first key is
// made on the way, which the application's role may be forbidden.
func (c *Client) keyFor(ctx context.Context, m *pgtype.Map, s *standing, scheme cell.Scheme, r row) (cell.Scheme, error) {
	chooser := c.chain.TenantColumn(s.id, scheme.Number)
	if chooser == "" {
		return scheme, nil
	}
	if r.spelled {
		if name := r.tenant.(*string); name != nil {
			return c.chain.TenantKey(ctx, c.db, scheme, *name)
		}
		return scheme, nil
	}
	column, ok := s.tenants[scheme.Number]
	if !ok || !r.tenanted { // where the keys are known and the column has not been looked at yet, too
		return cell.Scheme{}, fmt.Errorf("scheme %d has a key for each %s: name it, as in {column = $1 key $2 tenant $3}: %w", scheme.Number, chooser, ErrTenant)
	}
	tenant, err := column.kind.Spell(m, r.tenant)
	if err != nil {
		return cell.Scheme{}, fmt.Errorf("tenant: %w", err)
	}
	if tenant == nil {
		return scheme, nil
	}
	return c.chain.TenantKey(ctx, c.db, scheme, string(tenant))
}

// sealedAlready says that the application took a cell of this very place for a value. What merely looks like a cell is
// a value like any other: anybody may type one.
func (c *Client) sealedAlready(a cell.Address, wire []byte) bool {
	candidate := wire
	if sealed, ok := asText(wire); ok {
		candidate = sealed
	}
	if text, ok := bytes.CutPrefix(wire, []byte(`\x`)); ok && len(text) >= 2*cell.MinLength {
		candidate = make([]byte, len(text)/2)
		if _, err := hex.Decode(candidate, text); err != nil {
			return false
		}
	}
	if !looksSealed(candidate) {
		return false
	}
	_, _, err := c.chain.Keyring().Open(nil, a, candidate)
	return err == nil
}

// looksSealed says that bytes begin as a cell does.
func looksSealed(b []byte) bool {
	prefix := cell.Prefix(0)
	return len(b) >= cell.MinLength && b[0] == prefix[0] && b[1] == prefix[1]
}

// asText is the cell that stands in bytes of text or jsonb.
func asText(b []byte) ([]byte, bool) {
	form := cell.FormText
	if bytes.HasPrefix(b, []byte(`"`+cell.TextPrefix)) {
		form = cell.FormJSON
	} else if !bytes.HasPrefix(b, []byte(cell.TextPrefix)) {
		return nil, false
	}
	sealed, err := form.Parse(nil, b)
	return sealed, err == nil
}

const learnTimeout = 5 * time.Second

// open is the plaintext of a cell, behind dst; nil is NULL. A scheme or key that nobody knows has the registry read once more.
func (c *Client) open(dst []byte, a cell.Address, sealed []byte) ([]byte, cell.Header, error) {
	out, header, err := c.chain.Keyring().Open(dst, a, sealed)
	if err == nil || !errors.Is(err, cell.ErrUnknownScheme) && !errors.Is(err, cell.ErrUnknownKey) {
		return out, header, err
	}
	ctx, cancel := context.WithTimeout(c.end, learnTimeout)
	defer cancel()
	if c.chain.Learn(ctx, err) {
		out, header, err = c.chain.Keyring().Open(dst, a, sealed)
	}
	return out, header, err
}

// openAt is the value of a cell in a row, and the format that it is in.
func (c *Client) openAt(m *pgtype.Map, s *standing, r row, sealed []byte) (wire []byte, format int16, err error) {
	header, err := cell.Parse(sealed)
	if err != nil {
		return nil, 0, err
	}
	address, err := c.openingAt(m, s, r, header)
	if err != nil {
		return nil, 0, err
	}
	plain, _, err := c.open(nil, address, sealed)
	if err != nil || plain == nil {
		return nil, int16(header.Codec.Wire()), err
	}
	wire, err = header.Codec.Decode(nil, plain, s.kind.Info)
	return wire, int16(header.Codec.Wire()), err
}
