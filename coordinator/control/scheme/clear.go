package scheme

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// blocks are how many of a table's blocks are looked at in one transaction.
const blocks = 128

// clearSQL makes what is left of shredded values NULL in some blocks of a leaf, from $1 up to $2, and says in how
// many rows it did. It waits for no row that somebody holds. The verbs are the leaf, the
// condition, and what is set.
const clearSQL = `WITH found AS MATERIALIZED (SELECT t.ctid FROM ONLY %[1]s t WHERE t.ctid OPERATOR(pg_catalog.>=) $1::pg_catalog.tid AND t.ctid OPERATOR(pg_catalog.<) $2::pg_catalog.tid AND %[2]s FOR NO KEY UPDATE SKIP LOCKED),
 gone AS (UPDATE ONLY %[1]s t SET %[3]s FROM found f WHERE t.ctid OPERATOR(pg_catalog.=) f.ctid AND %[2]s RETURNING 1)
SELECT pg_catalog.count(*) FROM gone`

const (
	leftSQL = `SELECT EXISTS (SELECT FROM ONLY %s t WHERE %s)`
	sizeSQL = `SELECT pg_catalog.pg_relation_size($1::pg_catalog.oid) OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::pg_catalog.int8`
)

// clear makes what is left of the tenant's values NULL, leaf by leaf, a few blocks at a time and no faster than half of
// the time. It returns how many rows it wrote. No key is needed, and none is drawn.
func (r *Registry) clear(ctx context.Context, p ShredPlan) (rows int64, err error) {
	c := p.column
	names := make([]string, 0, len(p.tokens)+1)
	for _, name := range p.tokens {
		names = append(names, pg.Ident(name))
	}
	if p.Cells {
		names = append(names, pg.Ident(c.Sealed.Name))
	}
	if len(names) == 0 || c.Sealed.Attnum == 0 {
		return 0, nil
	}
	condition := fmt.Sprintf("%s AND (t.%s IS NOT NULL)", ddl.Under("t."+pg.Ident(c.Sealed.Name), ddl.FormOf(c.Sealed), p.keys), strings.Join(names, " IS NOT NULL OR t."))
	for _, leaf := range c.Relation.Leaves {
		table := leaf.Table().SQL()
		w := walk{db: r.DB, leaf: leaf.OID, left: fmt.Sprintf(leftSQL, table, condition),
			clear: fmt.Sprintf(clearSQL, table, condition, strings.Join(names, " = NULL, ")+" = NULL")}
		n, err := w.run(ctx)
		if rows += n; err != nil {
			return rows, fmt.Errorf("clear what is left of shredded values in %s: %w", leaf.Table(), err)
		}
	}
	return rows, nil
}

// walk goes over one leaf.
type walk struct {
	db          *pg.DB
	leaf        uint32
	left, clear string
}

// run goes over the leaf until nothing is left: a row that somebody holds, or that was moved behind it, is found the next
// time.
func (w walk) run(ctx context.Context) (rows int64, err error) {
	for {
		var left bool
		if err := w.abroad(ctx, func(tx pg.Tx) error { return tx.QueryRow(ctx, w.left).Scan(&left) }); err != nil || !left {
			return rows, err
		}
		n, err := w.pass(ctx)
		if rows += n; err != nil {
			return rows, err
		}
		if n == 0 {
			if err := rest(ctx, readyPause); err != nil {
				return rows, err
			}
		}
	}
}

func (w walk) pass(ctx context.Context) (rows int64, err error) {
	var size int64
	if err := w.db.QueryRow(ctx, sizeSQL, w.leaf).Scan(&size); err != nil {
		return 0, err
	}
	for at := int64(0); at < size; at += blocks {
		var n int64
		began := time.Now()
		err := w.abroad(ctx, func(tx pg.Tx) error {
			return tx.QueryRow(ctx, w.clear, fmt.Sprintf("(%d,0)", at), fmt.Sprintf("(%d,0)", at+blocks)).Scan(&n)
		})
		if rows += n; err != nil {
			return rows, err
		}
		if n > 0 {
			if err := rest(ctx, time.Since(began)); err != nil {
				return rows, err
			}
		}
	}
	return rows, nil
}

// abroad is a transaction in which the table's own triggers fire as for an application.
func (w walk) abroad(ctx context.Context, f func(pg.Tx) error) error {
	return w.db.InTx(ctx, func(tx pg.Tx) error {
		if _, err := tx.Exec(ctx, pg.Abroad); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('statement_timeout', '0', true)`); err != nil {
			return err
		}
		return f(tx)
	})
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
