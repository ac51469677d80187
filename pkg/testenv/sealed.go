package testenv

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Sealed is a column of text whose rungs stand up to dual-writing, made by hand: it is for tests of what looks at columns,
// and needs no control plane for that. Its target has the source's name with _encrypted behind it.
type Sealed struct {
	*DB
	ddl.Column
	KEK     cell.KEK
	Keyring *cell.Keyring
	Scheme  cell.Scheme
}

// Prepare takes a column there: target, id, key, check, capture, and the events of its phases. The table's key is one
// column of type bigint, called id.
func Prepare(t testing.TB, db *DB, table pg.Table, source string) *Sealed {
	t.Helper()
	ctx := t.Context()
	s := &Sealed{DB: db, Column: ddl.Column{Table: table, Source: source, Target: source + "_encrypted", Key: []string{"id"}}}
	s.do(t, s.AddTarget().Do)
	relation, err := pg.Inspect(ctx, db, table.Schema, table.Name)
	fatal(t, err)
	from, _ := relation.Column(s.Source)
	to, _ := relation.Column(s.Target)
	fatal(t, db.InTx(ctx, func(tx pg.Tx) error {
		registered, err := lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: relation.OID, SourceNum: from.Attnum, TargetNum: to.Attnum,
			Table: table, Source: s.Source, Target: s.Target, Type: from.Type, Collation: from.Collation})
		s.ID = registered.ID
		return err
	}))
	path := filepath.Join(t.TempDir(), "kek.json")
	fatal(t, kms.CreateFile(path))
	s.KEK, err = kms.Open(ctx, "file:"+path, "")
	fatal(t, err)
	s.Scheme, err = lifecycle.ActivateScheme(ctx, db.DB, s.KEK, cell.Scheme{Column: s.ID, Number: 1, Suite: cell.SuiteXAES256GCM, Codec: cell.CodecText,
		RowBound: true, Padding: cell.CodecText.DefaultPadding()})
	fatal(t, err)
	s.Keyring, err = LoadKeyring(ctx, db, s.KEK)
	fatal(t, err)
	for _, step := range []ddl.Step{s.Check(), s.Validate(), s.Capture()} {
		s.do(t, step.Do)
	}
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindSchemaAdded}, lifecycle.Event{Kind: lifecycle.KindDualWriting})
	return s
}

// Backfill is what a job would leave behind: every value has its cell, and the log says backfilled.
func (s *Sealed) Backfill(t testing.TB) {
	t.Helper()
	const job = "00000000-0000-0000-0000-000000000001"
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: job})
	for _, id := range Column[int64](t, s.DB, fmt.Sprintf("SELECT id FROM %s WHERE %s IS NOT NULL", s.Table.SQL(), pg.Ident(s.Source))) {
		s.Write(t, id, s.Cell(t, id, One[string](t, s.DB, fmt.Sprintf("SELECT %s FROM %s WHERE id = $1", pg.Ident(s.Source), s.Table.SQL()), id)))
	}
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: job})
}

// Cell is that of a value in one row.
func (s *Sealed) Cell(t testing.TB, id int64, value string) []byte {
	t.Helper()
	plain, err := s.Scheme.Codec.Encode(nil, []byte(value))
	fatal(t, err)
	sealed, err := s.Keyring.Seal(nil, s.Scheme, cell.Address{Column: s.ID, Key: cell.AppendKeyInt(cell.AppendKeyCount(nil, 1), id)}, plain)
	fatal(t, err)
	return sealed
}

// Write puts a cell into a row's target, whatever it is of, as somebody who seals himself.
func (s *Sealed) Write(t testing.TB, id int64, sealed []byte) {
	t.Helper()
	fatal(t, s.InTx(t.Context(), func(tx pg.Tx) error {
		if _, err := tx.Exec(t.Context(), "SELECT set_config('cipherfleet.writer', 'client', true)"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), fmt.Sprintf("UPDATE %s SET %s = $2 WHERE id = $1", s.Table.SQL(), pg.Ident(s.Target)), id, sealed)
		return err
	}))
}

// Record appends events of the column, each in its own transaction.
func (s *Sealed) Record(t testing.TB, events ...lifecycle.Event) {
	t.Helper()
	for _, e := range events {
		e.Table, e.Column = s.Table.String(), s.Source
		fatal(t, s.InTx(t.Context(), func(tx pg.Tx) error {
			_, err := (&lifecycle.Log{}).Append(t.Context(), tx, e)
			return err
		}))
	}
}

func (s *Sealed) do(t testing.TB, statements []string) {
	t.Helper()
	for _, sql := range statements {
		s.Run(t, sql)
	}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// LoadKeyring holds every key of an installation.
func LoadKeyring(ctx context.Context, q pg.Querier, kek cell.KEK) (*cell.Keyring, error) {
	keys, err := lifecycle.LoadKeys(ctx, q, kek)
	if err != nil {
		return nil, err
	}
	return keys.Keyring, nil
}
