package lifecycle_test

import (
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

func TestADroppedColumnIsDecryptedByPermissionAlone(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	column := o.first.Column
	name := func() (table, source string) {
		if err := o.QueryRow(t.Context(), `SELECT concat(schema_name, '.', table_name), source FROM cipherfleet.columns WHERE id = $1`, column).Scan(&table, &source); err != nil {
			t.Fatal(err)
		}
		return table, source
	}
	happens := func(kind lifecycle.Kind, phase lifecycle.Phase) {
		t.Helper()
		table, source := name()
		err := o.InTx(t.Context(), func(tx pg.Tx) error {
			_, err := (&lifecycle.Log{}).Append(t.Context(), tx, lifecycle.Event{Table: table, Column: source, Kind: kind, Phase: phase})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	may := func(what string, want bool) {
		t.Helper()
		var undecided *lifecycle.UndecidedError
		if err := lifecycle.MayDecrypt(t.Context(), o, column); (err == nil) != want || err != nil && !errors.As(err, &undecided) {
			t.Errorf("%s: %v", what, err)
		}
	}
	may("nothing has happened", true)
	happens(lifecycle.KindSchemaAdded, lifecycle.PhaseSchemaAdded)
	happens(lifecycle.KindCutOver, lifecycle.PhaseCutOver)
	may("cut over", true)
	for range 2 {
		happens(lifecycle.KindDropped, lifecycle.PhaseDropped)
		may("dropped", false)
		happens(lifecycle.KindAdvanced, lifecycle.PhaseCutOver)
		may("dropped, and put back in the log alone", false)
		if err := lifecycle.Decrypt(t.Context(), o, column, "ada", "court order"); err != nil {
			t.Fatal(err)
		}
		may("with permission", true)
	}
	happens(lifecycle.KindDropped, lifecycle.PhaseDropped)
	happens(lifecycle.KindSchemaAdded, lifecycle.PhaseSchemaAdded)
	may("begun anew", true)
	if err := lifecycle.Decrypt(t.Context(), o, column, "ada", ""); pg.Code(err) != checkViolation {
		t.Errorf("decrypted without a reason: %v", err)
	}
}

const checkViolation = "23514"
