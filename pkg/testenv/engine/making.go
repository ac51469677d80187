package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Making prepares a table whose column an expression makes: public.items, of the SQL given. Inputs are filled in by the
// names that the expression has.
func Making(t testing.TB, ctx context.Context, sql, source, target string, e ddl.Expression) *Kit {
	t.Helper()
	k := &Kit{T: t, Table: pg.Table{Schema: "public", Name: "items"}, Sources: []string{source}, Budget: 100, Lease: time.Minute, DB: testenv.Database(t),
		Timeouts: backfill.Timeouts{Lock: 400 * time.Millisecond, Statement: 5 * time.Second}, Keyring: cell.NewKeyring([16]byte{}),
		Wrap: func(inner transform.Transform) transform.Transform { return inner }}
	k.DB.Run(t, sql)
	k.Relation = k.Inspect(ctx)
	for _, list := range [][]ddl.Input{e.Inputs, e.Judges} {
		for i := range list {
			column, _ := k.Relation.Column(list[i].Name)
			list[i].Attnum = column.Attnum
		}
	}
	from, _ := k.Relation.Column(source)
	to, _ := k.Relation.Column(target)
	var column lifecycle.Column
	check(t, k.DB.InTx(ctx, func(tx pg.Tx) (err error) {
		column, err = lifecycle.RegisterColumn(ctx, tx, lifecycle.Column{Relid: k.Relation.OID, SourceNum: from.Attnum, TargetNum: to.Attnum,
			Table: k.Table, Source: source, Target: target, Type: from.Type, Collation: from.Collation})
		return err
	}))
	c := ddl.Column{ID: column.ID, Table: k.Table, Source: source, Target: target, Key: k.Key().Names(), Expression: &e}
	spec := work.Column{ID: c.ID, Source: source, Target: target, SourceAttnum: from.Attnum, TargetAttnum: to.Attnum, Expression: &e,
		LogTable: k.Table.String(), LogColumn: source}
	check(t, k.DB.InTx(ctx, func(tx pg.Tx) error {
		for _, statement := range c.Capture().Do {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		for _, kind := range []lifecycle.Kind{lifecycle.KindSchemaAdded, lifecycle.KindDualWriting} {
			if _, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: kind}); err != nil {
				return err
			}
		}
		return nil
	}))
	k.Columns = []work.Column{spec}
	k.Jobs = &work.Jobs{DB: k.DB.DB, Log: &lifecycle.Log{}}
	k.Ranges = &work.Ranges{DB: k.DB.DB, Worker: "w1", Lease: k.Lease}
	k.Relation = k.Inspect(ctx)
	return k
}

// Reads are the inputs of these names.
func Reads(names ...string) (list []ddl.Input) {
	for _, name := range names {
		list = append(list, ddl.Input{Name: name})
	}
	return list
}
