package ddl_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// What an application that prepared its statements before a rollback sends: cells, as bytea.
func TestBareKeepsCellsOutOfThePlaintext(t *testing.T) {
	t.Parallel()
	for _, sourceType := range []string{"text", "varchar(500)", "char(500)", "bytea"} {
		t.Run(sourceType, func(t *testing.T) {
			t.Parallel()
			f := users(t, sourceType)
			const stale = "INSERT INTO users (id, email) VALUES ($1, $2::bytea)"
			if _, err := f.Exec(t.Context(), stale, 1, cellOf(7)); err != nil {
				t.Fatalf("Postgres refuses it without us: %v", err)
			}
			f.do(t, f.Bare(sourceType == "bytea").Do)
			if _, err := f.Exec(t.Context(), stale, 2, cellOf(7)); pg.Code(err) != "23514" {
				t.Errorf("a cell came in: %v", err)
			}
			if _, err := f.Exec(t.Context(), stale, 3, cellOf(8)); err != nil {
				t.Errorf("what is no cell of the column: %v", err)
			}
			f.Run(t, `INSERT INTO users (id, email) VALUES (4, 'alice@example.com'), (5, NULL), (6, '')`)
			f.do(t, f.Bare(sourceType == "bytea").Undo)
			if _, err := f.Exec(t.Context(), stale, 7, cellOf(7)); err != nil {
				t.Errorf("undone it stands: %v", err)
			}
		})
	}
}
