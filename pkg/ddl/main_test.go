package ddl_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// fixture is a table whose column is prepared: target, check and capture.
type fixture struct {
	*testenv.DB
	ddl.Column
}

// prepare makes a table by the given statements and prepares its column.
func prepare(t *testing.T, c ddl.Column, statements ...string) fixture {
	t.Helper()
	f := fixture{testenv.Database(t), c}
	for _, sql := range statements {
		f.Run(t, sql)
	}
	for _, step := range []ddl.Step{c.AddTarget(), c.Check(), c.Validate()} {
		f.do(t, step.Do)
	}
	f.Types = f.typesOf(t)
	f.do(t, f.Capture().Do)
	return f
}

// typesOf are the types of the table's columns, as they are known before a capture is made.
func (f fixture) typesOf(t *testing.T) map[string]uint32 {
	t.Helper()
	r, err := pg.Inspect(t.Context(), f, f.Table.Schema, f.Table.Name)
	if err != nil {
		t.Fatal(err)
	}
	return ddl.TypesOf(r.Columns...)
}

// users is the plain case: public.users(id, email) with target cell, column 7.
func users(t *testing.T, emailType string, more ...string) fixture {
	t.Helper()
	return prepare(t, usersColumn(), append([]string{"CREATE TABLE users (id bigint PRIMARY KEY, email " + emailType + ", note text)"}, more...)...)
}

func usersColumn() ddl.Column {
	return ddl.Column{ID: 7, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "cell", Key: []string{"id"}}
}

// do runs the statements of one side of a step in one transaction.
func (f fixture) do(t *testing.T, statements []string) {
	t.Helper()
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// write runs one statement as a writer: "", client or fleet.
func (f fixture) write(t *testing.T, writer, sql string, args ...any) {
	t.Helper()
	err := f.InTx(t.Context(), func(tx pg.Tx) error {
		if writer != "" {
			if _, err := tx.Exec(t.Context(), "SELECT set_config($1, $2, true)", ddl.WriterSetting, writer); err != nil {
				return err
			}
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// covered says whether the only row has a target.
func (f fixture) covered(t *testing.T) bool {
	t.Helper()
	return testenv.One[bool](t, f, fmt.Sprintf("SELECT %s IS NOT NULL FROM %s", pg.Ident(f.Target), f.Table.SQL()))
}

func (f fixture) wantCovered(t *testing.T, want bool, after string) {
	t.Helper()
	if f.covered(t) != want {
		t.Errorf("after %s: covered = %t, want %t", after, !want, want)
	}
}

func (f fixture) missed(t *testing.T) int64 {
	t.Helper()
	return testenv.One[int64](t, f, ddl.Missed(f.ID))
}

// cellOf looks like a cell of a column: enough for the check.
func cellOf(column uint32) []byte {
	prefix := cell.Prefix(column)
	return append(prefix[:], bytes.Repeat([]byte{1}, cell.MinLength-len(prefix))...)
}
