package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// Sealed counts the rows of public.items that have a cell.
func (k *Kit) Sealed(t *testing.T) int64 {
	t.Helper()
	return testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items WHERE sealed IS NOT NULL`)
}

// Quarantined counts the entries in quarantine.
func (k *Kit) Quarantined(t testing.TB) int64 {
	t.Helper()
	return testenv.One[int64](t, k.DB, `SELECT count(*) FROM cipherfleet.quarantine WHERE resolved_at IS NULL`)
}

// Covering demands that each of the table's rows lies in exactly one range of the first pass. Postgres compares, by
// plain row comparisons that owe nothing to the engine's own.
func (k *Kit) Covering(ctx context.Context, rows int64) {
	k.T.Helper()
	all := int64(0)
	for _, leaf := range k.Inspect(ctx).Leaves {
		contains, found := k.contains(), []int64{}
		check(k.T, k.DB.InTx(ctx, func(tx pg.Tx) error {
			plainly(k.T, ctx, tx)
			found = testenv.Column[int64](k.T, tx, fmt.Sprintf(`SELECT (SELECT count(*) FROM cipherfleet.ranges r WHERE r.job_id = $1::uuid AND r.relid = $2::oid AND r.pass = 0 AND r.state <> 'split' AND %s)
 FROM ONLY %s t`, contains, leaf.Table().SQL()), k.Job.ID, leaf.OID)
			return nil
		}))
		for _, n := range found {
			if n != 1 {
				k.T.Fatalf("a row of %s lies in %d ranges", leaf.Table(), n)
			}
		}
		all += int64(len(found))
	}
	if all != rows {
		k.T.Errorf("the table has %d rows, want %d", all, rows)
	}
}

// plainly lets a transaction read keys' texts, and find citext's operators by their plain names.
func plainly(t testing.TB, ctx context.Context, tx pg.Tx) {
	t.Helper()
	for _, setting := range []string{pg.Pinned, `SELECT set_config('search_path', 'public, "Ex t"', true)`} {
		_, err := tx.Exec(ctx, setting)
		check(t, err)
	}
}

// contains is "range r contains row t", in the plainest SQL there is.
func (k *Kit) contains() string {
	var names, after, through []string
	for i, c := range k.Key().Columns {
		column, _ := k.Relation.Column(c.Name)
		names = append(names, "t."+pg.Ident(c.Name))
		after = append(after, fmt.Sprintf("r.after_key[%d]::%s", i+1, column.Type))
		through = append(through, fmt.Sprintf("r.through_key[%d]::%s", i+1, column.Type))
	}
	row := "(" + strings.Join(names, ", ") + ")"
	return fmt.Sprintf("(r.after_key IS NULL OR %s > (%s)) AND (r.through_key IS NULL OR %s <= (%s))", row, strings.Join(after, ", "), row, strings.Join(through, ", "))
}

// Sizes are the rows of each range of the first pass, in the order of the ranges' ids.
func (k *Kit) Sizes(ctx context.Context, leaf pg.Leaf) (sizes []int64) {
	k.T.Helper()
	check(k.T, k.DB.InTx(ctx, func(tx pg.Tx) error {
		plainly(k.T, ctx, tx)
		sizes = testenv.Column[int64](k.T, tx, fmt.Sprintf(`SELECT (SELECT count(*) FROM ONLY %s t WHERE %s)
 FROM cipherfleet.ranges r WHERE r.job_id = $1::uuid AND r.relid = $2::oid AND r.pass = 0 ORDER BY r.id`, leaf.Table().SQL(), k.contains()), k.Job.ID, leaf.OID)
		return nil
	}))
	return sizes
}

// Rows counts a table's rows.
func (k *Kit) Rows(t testing.TB) int64 {
	t.Helper()
	return testenv.One[int64](t, k.DB, "SELECT count(*) FROM "+k.Table.SQL())
}

// Verify decrypts every row of every leaf and compares it with its source: one report per column.
func (k *Kit) Verify(ctx context.Context) []proof.Report {
	k.T.Helper()
	reports := make([]proof.Report, len(k.Columns))
	for _, leaf := range k.Inspect(ctx).Leaves {
		v := &proof.Verifier{DB: k.DB.DB, Shape: k.Shape(ctx, leaf.OID), Keyring: k.Keyring}
		check(k.T, v.Verify(ctx, reports, func(int) {}))
	}
	return reports
}

// Proven demands that every row is covered in every column, and that rows there are as many as wanted.
func (k *Kit) Proven(ctx context.Context, rows int64) {
	k.T.Helper()
	for i, r := range k.Verify(ctx) {
		if !r.Proven() || r.Rows != rows {
			k.T.Errorf("verification of %q in %d rows found %+v", k.Columns[i].Source, rows, r)
		}
	}
}
