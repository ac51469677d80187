package scheme_test

import (
	"os"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
)

// TestASchemeThatCouldNotBeMadeKeepsNoColumn: what looks after the columns that its cells were to be bound to comes first,
// and goes again where the scheme does not come.
func TestASchemeThatCouldNotBeMadeKeepsNoColumn(t *testing.T) {
	t.Parallel()
	o := open(t)
	o.Run(t, `ALTER TABLE users ADD firm int NOT NULL DEFAULT 0`)
	p, err := o.r.PlanNew(t.Context(), o.name, scheme.Wanted{Binding: cell.BoundToColumns, Columns: []string{"firm"}})
	check(t, err)
	check(t, os.Remove(strings.TrimPrefix(o.r.KEK.URI(), "file:")))
	if _, err := o.r.New(t.Context(), p); cell.KEKClassOf(err) != cell.KEKUnavailable {
		t.Errorf("without its key: %v", err)
	}
	o.Run(t, `ALTER TABLE users DROP firm`)
}
