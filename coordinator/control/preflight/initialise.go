package preflight

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Intention is what a request wants, checked against the database and not yet begun.
type Intention struct {
	Plan
	Manifest manifest.Manifest
	Asks     bool     // triggers of the user's own will fire, and nobody has said yet what is to become of them
	Wrapped  []string // URIs of the keys under which this installation's data keys are wrapped already
}

// Intend checks a request as [Check.Check] does, with missing targets to be added, and writes it down as a manifest that
// names kek. A request that leaves the user's own triggers open is no refusal yet. It changes nothing.
func Intend(ctx context.Context, db *pg.DB, request messages.StartRequest, kek string) (Intention, error) {
	wanted := request
	request.Prepare = true
	if request.UserTriggers == "" {
		request.UserTriggers = messages.TriggersFire
	}
	plan, err := Check(ctx, db, request)
	if err != nil {
		return Intention{}, err
	}
	i := Intention{Plan: plan, Asks: wanted.UserTriggers == "" && len(plan.Triggers) > 0}
	i.Manifest = intent(plan, wanted, kek)
	i.Wrapped, err = WrappedUnder(ctx, db)
	return i, err
}

// WrappedUnder are the URIs of the keys under which data keys of this database are wrapped; none where nothing is installed.
func WrappedUnder(ctx context.Context, db *pg.DB) ([]string, error) {
	var installed bool
	err := db.QueryRow(ctx, `SELECT pg_catalog.to_regclass('cipherfleet.deks') IS NOT NULL`).Scan(&installed)
	if err != nil || !installed {
		return nil, err
	}
	uris, err := pg.Values[string](ctx, db, `SELECT DISTINCT kek FROM cipherfleet.deks WHERE wrapped IS NOT NULL ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("look for wrapped keys: %w", err)
	}
	return uris, nil
}

// intent is the plan as a manifest: what was found out stands in it, so that it can be reviewed.
func intent(plan Plan, r messages.StartRequest, kek string) manifest.Manifest {
	m := manifest.Default()
	m.KEK, m.Fleet.UserTriggers = kek, r.UserTriggers
	if r.ChunkRows > 0 {
		m.Fleet.Chunk.Rows = r.ChunkRows
	}
	table := manifest.DefaultTable()
	table.Schema, table.Name, table.Key = plan.Relation.Schema, plan.Relation.Name, plan.Key.Names()
	for _, c := range plan.Columns {
		column, scheme := manifest.DefaultColumn(c.Source.Name), manifest.DefaultScheme()
		scheme.Padding = c.Codec.DefaultPadding()
		column.Target, column.Scheme = c.Target.Name, firstScheme
		column.Schemes = map[int]manifest.Scheme{firstScheme: scheme}
		table.Columns = append(table.Columns, column)
	}
	m.Tables = []manifest.Table{table}
	return m
}

// firstScheme is the number that a column's first scheme gets.
const firstScheme = 1
