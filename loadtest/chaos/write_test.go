package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// value is what a row holds in its encrypted columns; nil is NULL.
type value struct {
	secret *string
	born   *time.Time
}

// value makes a new one. A dirty one may end in tildes, which the meddling trigger takes off one by one.
func (p plan) value(r *rand.Rand, n int64, dirty bool) value {
	born := time.UnixMicro(r.Int64N(4e15) - 1e15).UTC()
	secret := fmt.Sprintf("%s %d ш%x", plainMark, n, r.Uint64())
	v := value{secret: &secret, born: &born}
	switch k := r.IntN(100); {
	case k < 6:
		v.secret = nil
	case k < 8:
		*v.secret = ""
	case k < 9:
		*v.secret += strings.Repeat("é€\\\"' ", 200+r.IntN(400))
	case k < 10 && dirty && p.meddling:
		*v.secret += "~~~"[r.IntN(3):]
	}
	if r.IntN(20) == 0 {
		v.born = nil
	}
	return v
}

// sources are the columns under encryption; each has its target beside it.
func (p plan) sources() []string {
	if p.dated {
		return []string{"secret", "born"}
	}
	return []string{"secret"}
}

func (p plan) targets() []string {
	names := slices.Clone(p.sources())
	for i := range names {
		names[i] += "_encrypted"
	}
	return names
}

// sealer is what an application that writes both columns has.
type sealer struct {
	keyring *cell.Keyring
	schemes []cell.Scheme
}

// cells seals a row's values for its key.
func (s *sealer) cells(key []any, v value) ([]any, error) {
	all := []any{[]byte(nil), []byte(nil)}[:len(s.schemes)]
	for i, plain := range [][]byte{v.text(), v.instant()}[:len(s.schemes)] {
		if plain == nil {
			continue
		}
		sealed, err := s.keyring.Seal(nil, s.schemes[i], cell.Address{Column: s.schemes[i].Column, Key: address(key)}, plain)
		if err != nil {
			return nil, err
		}
		all[i] = sealed
	}
	return all, nil
}

// text is the plaintext of a text, by docs/envelope.md: its bytes in UTF-8.
func (v value) text() []byte {
	if v.secret == nil {
		return nil
	}
	return []byte(*v.secret)
}

// instant is the plaintext of a timestamptz, by docs/envelope.md: microseconds since 2000, as eight bytes.
func (v value) instant() []byte {
	if v.born == nil {
		return nil
	}
	const since1970 = 946_684_800_000_000
	return binary.BigEndian.AppendUint64(nil, uint64(v.born.UnixMicro()-since1970))
}

// statements are the application's, each for the table and, under m, for its mirror.
type statements struct {
	update, mUpdate   string // values, key
	write             string // values, cells, key: both columns
	note, mNote       string // note, key
	insert, mInsert   string // key, values
	seal              string // key, values, cells
	clone, cloneCells string // new key, old key: the whole row; with its cells
	delete, mDelete   string // key
	move, mMove       string // new key, old key
	moveBoth          string // values, cells, new key, old key
	mMoveBoth         string // values, new key, old key
	hold              string // key
}

func newStatements(p plan) statements {
	l := p.layout
	table, mirror := l.table.SQL(), "chaos.mirror"
	targets := p.targets()
	cells := func(first int) (sets, params string) {
		for i, name := range targets {
			sets += fmt.Sprintf(", %s = $%d", pg.Ident(name), first+i)
			params += fmt.Sprintf(", $%d", first+i)
		}
		return sets, params
	}
	keySets, keyParams := l.sets(1), l.params(1)
	n, list, cellList := len(l.key), l.keyList(), strings.Join(targets, ", ")
	cells3, _ := cells(3)
	_, cellParams := cells(n + 3)
	moved := l.sets(len(targets) + 3)
	const values = "secret = $1, born = $2, version = version + 1"
	clone := fmt.Sprintf("INSERT INTO %s (%s, secret, born, note, version%%[1]s) SELECT %s, secret, born, note, version%%[1]s FROM %s WHERE %s RETURNING secret, born, note, version",
		table, list, l.casts(1), table, l.row(n+1))
	insert := "INSERT INTO %s (%s, secret, born, version%s) VALUES (%s, $%d, $%d, 1%s)"
	return statements{
		update: fmt.Sprintf("UPDATE %s SET %s WHERE %s", table, values, l.row(3)), mUpdate: fmt.Sprintf("UPDATE %s SET %s WHERE %s", mirror, values, l.row(3)),
		write: fmt.Sprintf("UPDATE %s SET %s%s WHERE %s", table, values, cells3, l.row(3+len(targets))),
		note:  fmt.Sprintf("UPDATE %s SET note = $1 WHERE %s", table, l.row(2)), mNote: fmt.Sprintf("UPDATE %s SET note = $1 WHERE %s", mirror, l.row(2)),
		insert:  fmt.Sprintf(insert, table, list, "", keyParams, n+1, n+2, ""),
		mInsert: fmt.Sprintf(insert, mirror, list, "", keyParams, n+1, n+2, ""),
		seal:    fmt.Sprintf(insert, table, list, ", "+cellList, keyParams, n+1, n+2, cellParams),
		clone:   fmt.Sprintf(clone, ""), cloneCells: fmt.Sprintf(clone, ", "+cellList),
		delete: fmt.Sprintf("DELETE FROM %s WHERE %s", table, l.row(1)), mDelete: fmt.Sprintf("DELETE FROM %s WHERE %s", mirror, l.row(1)),
		move: fmt.Sprintf("UPDATE %s SET %s WHERE %s", table, keySets, l.row(n+1)), mMove: fmt.Sprintf("UPDATE %s SET %s WHERE %s", mirror, keySets, l.row(n+1)),
		moveBoth:  fmt.Sprintf("UPDATE %s SET %s%s, %s WHERE %s", table, values, cells3, moved, l.row(len(targets)+3+n)),
		mMoveBoth: fmt.Sprintf("UPDATE %s SET %s, %s WHERE %s", mirror, values, l.sets(3), l.row(3+n)),
		hold:      fmt.Sprintf("SELECT FROM %s WHERE %s FOR UPDATE", table, l.row(1)),
	}
}

// sets assigns parameters $first… to the key.
func (l layout) sets(first int) string {
	terms := make([]string, len(l.key))
	for i, name := range l.key {
		terms[i] = fmt.Sprintf("%s = $%d", pg.Ident(name), first+i)
	}
	return strings.Join(terms, ", ")
}

func (l layout) params(first int) string {
	terms := make([]string, len(l.key))
	for i := range l.key {
		terms[i] = fmt.Sprintf("$%d", first+i)
	}
	return strings.Join(terms, ", ")
}

// casts are the same parameters where nothing else tells their types.
func (l layout) casts(first int) string {
	terms := make([]string, len(l.key))
	for i, t := range l.types {
		terms[i] = fmt.Sprintf("$%d::%s", first+i, strings.Fields(t)[0])
	}
	return strings.Join(terms, ", ")
}

// both runs a statement on the table and, if it met a row there, the other one on the mirror, which must meet it too.
func both(ctx context.Context, tx pgx.Tx, sql string, args []any, mirror string, mirrorArgs []any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	if tag, err = tx.Exec(ctx, mirror, mirrorArgs...); err == nil && tag.RowsAffected() != 1 {
		return fmt.Errorf("the mirror has %d rows where the table has one", tag.RowsAffected())
	}
	return err
}
