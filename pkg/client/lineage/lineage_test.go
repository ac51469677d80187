package lineage_test

import (
	"slices"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/client/lineage"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// TestAColumnThatOnlyWritesToASourceIsNotOfItsLine: one that copies, or computes, values into a column whose values are
// sealed holds none of its cells.
func TestAColumnThatOnlyWritesToASourceIsNotOfItsLine(t *testing.T) {
	t.Parallel()
	sealed := lifecycle.Column{ID: 1, SourceNum: 2, TargetNum: 3, Source: "email", Target: "email_encrypted"}
	copied := lifecycle.Column{ID: 2, SourceNum: 4, TargetNum: 2, Source: "email_old", Target: "email"}
	relation := pg.Relation{Columns: []pg.Column{{Name: "email", Attnum: 2}, {Name: "email_encrypted", Attnum: 3}, {Name: "email_old", Attnum: 4}}}
	for _, phase := range []lifecycle.Phase{lifecycle.PhaseDualWriting, lifecycle.PhaseCutOver} {
		latest := map[uint32]lifecycle.Standing{1: {State: lifecycle.State{Phase: phase}}, 2: {State: lifecycle.State{Phase: lifecycle.PhaseBackfilled}}}
		for _, of := range []lifecycle.Column{sealed, copied} {
			if l := lineage.Of(relation, []lifecycle.Column{sealed, copied}, latest, of); l.Read.ID != of.ID || l.Twin != nil || len(l.Kin) > 0 {
				t.Errorf("%s, asked for column %d: %+v", phase, of.ID, l)
			}
		}
	}
}

// TestALineIsReadWhereItIsCutOver: until then the old cells are, and both are written all the time.
func TestALineIsReadWhereItIsCutOver(t *testing.T) {
	t.Parallel()
	first := lifecycle.Column{ID: 1, SourceNum: 2, TargetNum: 3, Source: "email", Target: "email_encrypted"}
	second := lifecycle.Column{ID: 2, SourceNum: 3, TargetNum: 4, Source: "email_text", Target: "email_text"}
	aside := lifecycle.Column{ID: 3, SourceNum: 5, TargetNum: 6, Source: "phone", Target: "phone_encrypted"}
	whole := pg.Relation{Columns: []pg.Column{{Name: "email", Attnum: 3}, {Name: "email_text", Attnum: 4}, {Name: "phone", Attnum: 5}, {Name: "phone_encrypted", Attnum: 6}}}
	without := pg.Relation{Columns: whole.Columns[:1]}
	for name, c := range map[string]struct {
		relation   pg.Relation
		phase      lifecycle.Phase // of the second
		read, twin uint32
	}{
		"not watched yet": {whole, lifecycle.PhaseSchemaAdded, 1, 0},
		"dual-writing":    {whole, lifecycle.PhaseDualWriting, 1, 2},
		"backfilling":     {whole, lifecycle.PhaseBackfilling, 1, 2},
		"backfilled":      {whole, lifecycle.PhaseBackfilled, 1, 2},
		"cut over":        {whole, lifecycle.PhaseCutOver, 2, 1},
		"taken away":      {without, lifecycle.PhaseSchemaAdded, 1, 0},
	} {
		latest := map[uint32]lifecycle.Standing{1: {State: lifecycle.State{Phase: lifecycle.PhaseDropped}}, 2: {State: lifecycle.State{Phase: c.phase}}}
		registered := []lifecycle.Column{first, second, aside}
		for _, of := range []lifecycle.Column{first, second} {
			if of.ID == 2 && name == "taken away" {
				continue
			}
			l := lineage.Of(c.relation, registered, latest, of)
			twin := uint32(0)
			if l.Twin != nil {
				twin = l.Twin.ID
			}
			if l.Read.ID != c.read || twin != c.twin {
				t.Errorf("%s, asked for column %d: %d is read and %d written beside it, want %d and %d", name, of.ID, l.Read.ID, twin, c.read, c.twin)
			}
			if name != "taken away" && !slices.Equal(l.Kin, []uint32{3 - c.read}) {
				t.Errorf("%s: kin %v", name, l.Kin)
			}
		}
		if l := lineage.Of(c.relation, registered, latest, aside); l.Read.ID != 3 || l.Twin != nil || len(l.Kin) > 0 {
			t.Errorf("%s: a column that moves nowhere has %+v", name, l)
		}
	}
}
