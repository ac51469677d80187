// Package token knows which blind indexes of a column a client writes and looks up in, and under which names their tokens
// stand.
//
// Words: a [Set] is the blind indexes of one column that are not on their way out, as the keychain has them at one moment;
// a [Place] is the column of an index's tokens under its present name, and whether the role may write it; a [Condition]
// is one column that a lookup compares, with the tokens to find. A token is sent with a mark beside the cell it is of,
// which the table's triggers take off: one without is taken away when its cell changes.
package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// ErrNoIndex says that a column has no blind index of a name that finds every row: none at all, or one that is not ready.
var ErrNoIndex = errors.New("there is no blind index that is ready")

// Place is where an index's tokens stand.
type Place struct {
	Name     string
	MayWrite bool // as far as the role may write the cells
}

// Set is the blind indexes of one column. The zero Set is empty.
type Set struct {
	chain  *lifecycle.Keychain
	column uint32
	places map[uint32]Place // by index id

	now []lifecycle.Index // of one moment; nil: as the keychain has them
}

// Columns of tokens are found by their checks: what the statement says of one holds whatever it is called.
const placesSQL = `SELECT pg_catalog.substr(k.conname, $3)::pg_catalog.int8, a.attname::pg_catalog.text, (
  SELECT coalesce(bool_and(r.token OR NOT r.cell), false) FROM (
   SELECT pg_catalog.has_column_privilege(k.conrelid, a.attnum, p.name) AS token, pg_catalog.has_column_privilege(k.conrelid, $2::pg_catalog.int2, p.name) AS cell
    FROM (VALUES ('INSERT'), ('UPDATE')) AS p (name)) AS r)
 FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] AND NOT a.attisdropped
 WHERE k.conrelid = $1 AND k.contype = 'c' AND k.conname ~ ('^' || $4 || '[0-9]+$')`

const checkPrefix = "cipherfleet_token_" // as package ddl names the checks

// Of is the set of a column, whose cells stand in the column of that number.
func Of(ctx context.Context, q pg.Querier, chain *lifecycle.Keychain, relid, column uint32, cells int16) (Set, error) {
	s := Set{chain: chain, column: column, places: map[uint32]Place{}}
	rows, err := q.Query(ctx, placesSQL, relid, cells, len(checkPrefix)+1, checkPrefix)
	if err != nil {
		return s, fmt.Errorf("look for columns of tokens: %w", pg.Safe(err))
	}
	var id uint32
	var p Place
	_, err = pgx.ForEachRow(rows, []any{&id, &p.Name, &p.MayWrite}, func() error {
		s.places[id] = p
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("look for columns of tokens: %w", pg.Safe(err))
	}
	return s, nil
}

// Now is the set at this moment: it stays as it is, so that all parts of a statement agree.
func (s Set) Now() Set {
	if s.chain != nil {
		s.now = append([]lifecycle.Index{}, s.chain.Indexes(s.column)...)
	}
	return s
}

func (s Set) indexes() []lifecycle.Index {
	if s.now != nil || s.chain == nil {
		return s.now
	}
	return s.chain.Indexes(s.column)
}

// written are the indexes whose tokens a write sets.
func (s Set) written() (list []lifecycle.Index) {
	for _, x := range s.indexes() {
		if s.places[x.ID].MayWrite {
			list = append(list, x)
		}
	}
	return list
}

// Names are the columns that a write sets, in the order of [Set.Make].
func (s Set) Names() (names []string) {
	for _, x := range s.written() {
		names = append(names, s.places[x.ID].Name)
	}
	return names
}

// Make makes the tokens of a plaintext, as its codec encodes it, one for each of the names, marked; nil is NULL.
func (s Set) Make(plaintext []byte) ([][]byte, error) {
	var made [][]byte
	for _, x := range s.written() {
		token, err := s.mark(x, plaintext)
		if err != nil {
			return nil, err
		}
		made = append(made, token)
	}
	return made, nil
}

// One makes the token of a plaintext for one of the names. It is [ErrNoIndex] where that is none of them.
func (s Set) One(name string, plaintext []byte) ([]byte, error) {
	for _, x := range s.written() {
		if s.places[x.ID].Name == name {
			return s.mark(x, plaintext)
		}
	}
	return nil, fmt.Errorf("tokens %q of column %d: %w", name, s.column, ErrNoIndex)
}

func (s Set) mark(x lifecycle.Index, plaintext []byte) ([]byte, error) {
	b, err := s.chain.Blinder(x.ID)
	if err != nil {
		return nil, err
	}
	token, err := b.Token(make([]byte, 0, x.Bytes), plaintext)
	if err != nil {
		return nil, err
	}
	return cell.MarkToken(token), nil
}

// Condition is one column of tokens that a lookup compares.
type Condition struct {
	Column string
	Tokens [][]byte // none: no row
}

// Lookup is what finds the rows of plaintexts by a blind index, in any of its generations that is ready: a row that
// meets one of the conditions. It is [ErrNoIndex] where none is.
func (s Set) Lookup(index string, plaintexts [][]byte) ([]Condition, error) {
	var all []Condition
	for _, x := range s.indexes() {
		if x.Name != index || x.State != lifecycle.IndexReady {
			continue
		}
		b, err := s.chain.Blinder(x.ID)
		if err != nil {
			return nil, err
		}
		c := Condition{Column: x.Token, Tokens: make([][]byte, len(plaintexts))}
		if p, known := s.places[x.ID]; known {
			c.Column = p.Name
		}
		for i, plaintext := range plaintexts {
			if c.Tokens[i], err = b.Token(nil, plaintext); err != nil {
				return nil, err
			}
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("blind index %q of column %d: %w", index, s.column, ErrNoIndex)
	}
	return all, nil
}
