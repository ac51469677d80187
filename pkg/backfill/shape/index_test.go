package shape_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// What makes a late sweep of a large table cheap: it reads the index of uncovered rows, and no row that is covered.
func TestALateSweepReadsTheIndexOfUncoveredRows(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, key := range map[string]string{"bigint": "id bigint PRIMARY KEY", "composite": "id bigint, part text DEFAULT 'p', PRIMARY KEY (part, id)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := engine.Prepare(t, ctx, `CREATE TABLE public.items (`+key+`, secret text); INSERT INTO public.items (id, secret) SELECT i, 'secret ' || i FROM generate_series(1, 5000) i`)
			k.Start(ctx, 1000)
			k.Finish(ctx)
			k.Index()
			k.DB.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id IN (7, 4711); ANALYZE public.items`)
			shape := k.Shape(ctx, k.Relation.Leaves[0].OID)
			for _, g := range generatedBy(shape) {
				if g.Name != "read, sparse true, lower bound false, upper bound false" {
					continue
				}
				plan := strings.Join(testenv.Column[string](t, k.DB, "EXPLAIN "+strings.ReplaceAll(g.SQL, "$1", "5000")), "\n")
				if !strings.Contains(plan, "_uncovered_") || strings.Contains(plan, "Seq Scan") {
					t.Errorf("the sweep reads the table:\n%s", plan)
				}
				return
			}
			t.Fatal("there is no such statement")
		})
	}
}
