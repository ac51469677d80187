package residue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// cleaned is the detail of a cleaned event.
type cleaned struct {
	Statements []string `json:"statements"`
	Rewritten  bool     `json:"rewritten"` // the table was written anew: no row version carries what was dropped before
	LSN        string   `json:"lsn"`       // how far the server's log had come afterwards
	Left       int      `json:"left"`      // findings
}

// lastRewriteSQL: what was rewritten before the drop says nothing.
const lastRewriteSQL = `SELECT e.details FROM cipherfleet.events e WHERE e.table_name = $1 AND e.column_name = $2 AND e.event = 'cleaned' AND e.details->>'rewritten' = 'true'
 AND e.id > (SELECT max(d.id) FROM cipherfleet.events d WHERE d.table_name = $1 AND d.column_name = $2 AND d.event = 'dropped') ORDER BY e.id DESC LIMIT 1`

// lastRewrite is the zero cleaned if the table was not rewritten by us since the drop.
func lastRewrite(ctx context.Context, q pg.Querier, c lifecycle.Column) (detail cleaned, err error) {
	var text []byte
	err = q.QueryRow(ctx, lastRewriteSQL, c.Table.String(), c.Source).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return cleaned{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &detail)
	}
	if err != nil {
		return cleaned{}, fmt.Errorf("read when the table was cleaned: %w", err)
	}
	return detail, nil
}

// mostPages is how many pages of a leaf are read: all of a small one, some all over a large one.
const mostPages = 2000

// inspectorSQL is the schema of pageinspect, and whether its functions may be used: they are for superusers alone.
const inspectorSQL = `SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pageinspect'), ''),
 pg_catalog.current_setting('is_superuser') = 'on'`

// droppedSQL is the dropped column in a leaf. Partitions may have it at another place: there it is known by its shape.
const droppedSQL = `SELECT a.attnum, a.attlen = -1 AND a.attstorage <> 'p' FROM pg_catalog.pg_attribute a
 JOIN pg_catalog.pg_attribute root ON root.attrelid = $2 AND root.attnum = $3
 WHERE a.attrelid = $1 AND a.attisdropped AND (a.attrelid = root.attrelid AND a.attnum = root.attnum
  OR a.attrelid <> root.attrelid AND a.attlen = root.attlen AND a.attalign = root.attalign) ORDER BY a.attnum`

// carriedSQL counts row versions that have a value where the column was: those of so many attributes, whose bit in the
// null bitmap is set, or that have no bitmap. Postgres leaves them as they are when it drops a column.
const carriedSQL = `SELECT count(*), count(*) FILTER (WHERE h.t_infomask2 & 2047 >= $2 AND (h.t_bits IS NULL OR pg_catalog.substr(h.t_bits, $2, 1) = '1'))
 FROM pg_catalog.generate_series(0, $3::bigint - 1, $4::bigint) block (n),
 LATERAL %[1]s.heap_page_items(%[1]s.get_raw_page($1::text, block.n)) h WHERE h.t_infomask2 IS NOT NULL`

// heap looks for the dropped column's values in the table's own pages.
func (x *search) heap(ctx context.Context) error {
	if x.s.Plain.Attnum != 0 || x.clean.Rewritten {
		return nil
	}
	schema, super := "", false
	if err := x.q.QueryRow(ctx, inspectorSQL).Scan(&schema, &super); err != nil {
		return fmt.Errorf("look for pageinspect: %w", err)
	}
	for _, leaf := range x.s.Relation.Leaves {
		if leaf.Pages == 0 {
			continue
		}
		if err := x.leaf(ctx, leaf, schema, super); err != nil {
			return err
		}
	}
	return nil
}

func (x *search) leaf(ctx context.Context, leaf pg.Leaf, schema string, super bool) error {
	attnum, long := int16(0), false
	err := x.q.QueryRow(ctx, droppedSQL, leaf.OID, x.s.Relid, x.s.SourceNum).Scan(&attnum, &long)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // a partition that was made after the drop
	}
	if err != nil {
		return fmt.Errorf("find the dropped column in %s: %w", leaf.Table(), err)
	}
	f := Finding{Kind: Heap, Where: leaf.Table().String(), Cleans: true, Rewrites: true,
		Then: "--clean --rewrite, or any other way to write the table anew (VACUUM FULL, pg_repack)"}
	switch {
	case schema == "":
		f.Says = "not measurable without extension pageinspect: dropping a column leaves its values in every row version that nobody has written since"
	case !super:
		f.Says = "not measurable by this role: pageinspect is for superusers; dropping a column leaves its values in every row version that nobody has written since"
	default:
		carried, err := x.measure(ctx, leaf, schema, attnum, &f)
		if err != nil || carried == 0 {
			return err
		}
	}
	x.add(f)
	if long {
		return x.toast(ctx, leaf)
	}
	return nil
}

func (x *search) measure(ctx context.Context, leaf pg.Leaf, schema string, attnum int16, f *Finding) (carried int64, err error) {
	step := (leaf.Pages + mostPages - 1) / mostPages
	var read int64
	err = x.q.QueryRow(ctx, fmt.Sprintf(carriedSQL, pg.Ident(schema)), leaf.Table().SQL(), int32(attnum), leaf.Pages, step).Scan(&read, &carried)
	if err != nil {
		return 0, fmt.Errorf("read pages of %s: %w", leaf.Table(), err)
	}
	f.Says = fmt.Sprintf("%d of %d row versions still carry the dropped column", carried, read)
	if step > 1 {
		f.Says += fmt.Sprintf(" (on %d of %d pages)", (leaf.Pages+step-1)/step, leaf.Pages)
	}
	return carried, nil
}

const toastSQL = `SELECT t.oid::pg_catalog.regclass::text, pg_catalog.pg_relation_size(t.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = $1`

// toast is where long values lie. A row version that carries the column may point there.
func (x *search) toast(ctx context.Context, leaf pg.Leaf) error {
	name, size := "", int64(0)
	err := x.q.QueryRow(ctx, toastSQL, leaf.OID).Scan(&name, &size)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && size == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the TOAST table of %s: %w", leaf.Table(), err)
	}
	x.add(Finding{Kind: Toast, Where: name, Cleans: true, Rewrites: true, Says: fmt.Sprintf("long values of %s, of whichever column: %s", leaf.Table(), bytesWords(size)),
		Then: "it is written anew with its table"})
	return nil
}

const deadSQL = `SELECT n.nspname || '.' || c.relname, pg_catalog.pg_stat_get_dead_tuples(c.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY ($1) AND c.relkind = 'r' AND pg_catalog.pg_stat_get_dead_tuples(c.oid) > 0 ORDER BY 1`

// dead counts row versions that nobody sees. Once the table was written anew they hold cells only.
func (x *search) dead(ctx context.Context) error {
	if x.clean.Rewritten {
		return nil
	}
	return x.gather(ctx, deadSQL, func(row pgx.CollectableRow) (Finding, error) {
		f, n := Finding{Kind: Dead, Cleans: true, Then: "VACUUM the table; transactions, prepared ones and slots that are older keep it from doing so"}, int64(0)
		err := row.Scan(&f.Where, &n)
		f.Says = fmt.Sprintf("about %d row versions that nobody sees any more, with whatever they held", n)
		return f, err
	}, x.tree)
}
