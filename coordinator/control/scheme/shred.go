package scheme

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/shred"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Shredding is what became of a tenant's keys, and of what was made with them.
type Shredding struct {
	V       int    `json:"v"`
	Table   string `json:"table"`
	Column  string `json:"column"`
	Keys    int    `json:"keys"`                // that were deleted; 0: there was nothing left to delete
	Plain   string `json:"plaintext,omitempty"` // the column in which values of the tenant may still stand as they are; empty: there is none
	Beside  string `json:"beside,omitempty"`    // the column into which, or out of which, cells move, where the tenant has keys that are not deleted; empty: none
	Cleared int64  `json:"cleared"`             // rows whose tokens, and cells if that was asked for, were made NULL
	Cells   bool   `json:"cells"`               // the cells were made NULL, too
}

// ShredPlan is a tenant whose keys are to be deleted, every precondition met when it was looked at.
type ShredPlan struct {
	Shredding
	Statements []Statement // that keep cells under the keys out from then on

	column column
	tenant string
	keys   []uint32 // of the tenant, deleted or not
	tokens []string // the columns of tokens, by today's names
}

// PlanShred looks a shredding over: of the tokens that go with the keys, and of the cells if they are to go, too.
func (r *Registry) PlanShred(ctx context.Context, n standing.Name, tenant string, cells bool) (p ShredPlan, err error) {
	if p.column, err = r.find(ctx, n); err != nil {
		return p, err
	}
	c := p.column
	p.tenant, p.Shredding = tenant, Shredding{V: messages.Version, Table: c.Relation.Table().String(), Column: c.Source, Cells: cells}
	if c.Plain.Attnum != 0 && c.Origin == nil {
		p.Plain = c.Plain.Name
	}
	rows, err := lifecycle.KeyRows(ctx, r.DB)
	if err != nil {
		return p, err
	}
	for _, k := range rows {
		if k.Column != c.ID || k.Tenant != tenant {
			continue
		}
		if p.keys = append(p.keys, k.ID); k.Destroyed.IsZero() {
			p.Keys++
		}
	}
	if len(p.keys) == 0 {
		return p, &shred.NoTenantError{Column: c.ID}
	}
	kin, err := c.Kin(ctx, r.DB)
	if err != nil {
		return p, err
	}
	for _, k := range rows {
		if at := slices.IndexFunc(kin, func(c lifecycle.Column) bool { return c.ID == k.Column }); at >= 0 && k.Tenant == tenant && k.Destroyed.IsZero() {
			p.Beside = kin[at].Source
		}
	}
	if c.Sealed.Attnum == 0 {
		return p, nil
	}
	if err := p.check(); err != nil {
		return p, err
	}
	if p.tokens, err = c.tokens(ctx, r.DB); err != nil {
		return p, err
	}
	gone, err := shred.Keys(ctx, r.DB, c.ID)
	for _, sql := range c.steps().Shredded(append(gone, p.keys...)).Do {
		p.Statements = append(p.Statements, Statement{sql, "SHARE ROW EXCLUSIVE, for a moment; no row is read"})
	}
	return p, err
}

// check refuses what this role may not do, and cells that cannot be NULL, or should not be.
func (p ShredPlan) check() error {
	c := p.column
	over := c.State.Phase == lifecycle.PhaseCutOver || c.State.Phase == lifecycle.PhaseDropped
	switch {
	case !c.Relation.Privileges.Owner:
		return standing.Deny("table", "run this as the owner of the table: cells under the keys are kept out of it by a trigger", "role %q may not alter %s", c.Relation.Server.User, p.Table)
	case !p.Cells:
		return nil
	case !over:
		return standing.Refuse("clear-cells", "leave it out, and set the plaintext to NULL yourself: its cell goes with it",
			"%s.%s is %s: its plaintext is what is read, and a job would miss its cells", p.Table, p.Column, standing.PhaseWord(c.State.Phase))
	case c.sealsNulls():
		return standing.Refuse("clear-cells", "leave it out, or delete the tenant's rows yourself",
			"NULL is sealed in %s.%s: cells that become NULL would be sealed as if NULL were their value", p.Table, p.Column)
	case c.Sealed.NotNull:
		return standing.Refuse("clear-cells", "leave it out, or delete the tenant's rows yourself", "column %s of %s is NOT NULL: its cells cannot become NULL", c.Sealed.Name, p.Table)
	}
	return nil
}

// tokens are the columns of tokens of the column's blind indexes, by today's names.
func (c column) tokens(ctx context.Context, q pg.Querier) (names []string, err error) {
	all, err := lifecycle.Indexes(ctx, q, c.ID)
	for _, x := range all {
		at := slices.IndexFunc(c.Relation.Checks, func(k pg.Check) bool { return k.Name == ddl.TokenCheckName(x.ID) && len(k.Columns) == 1 })
		if at >= 0 {
			names = append(names, c.Relation.Checks[at].Columns[0])
		}
	}
	return names, err
}

// Shred deletes every wrapped key of the tenant, for good, and in the same transaction has Postgres refuse cells under
// them, from whoever still holds one. Then it makes the tokens NULL that were made of the tenant's values, and the cells
// if the plan says so, and waits, for as long as patience, until every program with a live lease has dropped the keys: a
// [*lifecycle.NotReadyError] names those that have not. Killed in between, the same call goes on.
func (r *Registry) Shred(ctx context.Context, p ShredPlan, patience time.Duration) (Shredding, error) {
	c, done := p.column, p.Shredding
	var revision int64
	err := standing.Patiently(ctx, r.DB, func(tx pg.Tx) (err error) {
		done.Keys, revision, err = r.shred(ctx, tx, &p)
		return err
	})
	if err != nil {
		return done, standing.Settled(c.Standing, err)
	}
	if done.Cleared, err = r.clear(ctx, p); err != nil {
		return done, err
	}
	return done, Await(ctx, patience, func() error {
		return r.DB.InTx(ctx, func(tx pg.Tx) error {
			return lifecycle.Heard(ctx, tx, lifecycle.NotReadyError{Column: c.ID, What: "a shredded key", Act: "said to be gone everywhere", Revision: revision})
		})
	})
}

const tenantKeysSQL = `SELECT d.id FROM cipherfleet.deks d WHERE d.column_id = $1 AND d.tenant = $2 ORDER BY d.id`

// shred takes its locks in the order of a chunk: the table, then ranges. A key that the tenant was given since the plan goes
// with the others, and the plan then has it, too.
func (r *Registry) shred(ctx context.Context, tx pg.Tx, p *ShredPlan) (keys int, revision int64, err error) {
	c := p.column
	if c.Sealed.Attnum != 0 {
		if err := hold(ctx, tx, c); err != nil {
			return 0, 0, err
		}
	}
	if err := p.keepOut(ctx, tx); err != nil {
		return 0, 0, err
	}
	if err := work.Fence(ctx, tx, c.ID); err != nil {
		return 0, 0, err
	}
	if keys, err = shred.Tenant(ctx, tx, r.registrar(), c.ID, p.tenant); err != nil {
		return 0, 0, err
	}
	all, err := pg.Values[uint32](ctx, tx, tenantKeysSQL, c.ID, p.tenant)
	if err != nil {
		return 0, 0, fmt.Errorf("read the keys of a tenant: %w", err)
	}
	if len(all) > len(p.keys) {
		p.keys = all
		if err := p.keepOut(ctx, tx); err != nil {
			return 0, 0, err
		}
	}
	now, err := lifecycle.ReadInstallation(ctx, tx)
	return keys, now.Revision, err
}

// keepOut has Postgres refuse cells under the plan's keys, and under those that were shredded before.
func (p *ShredPlan) keepOut(ctx context.Context, tx pg.Tx) error {
	if p.column.Sealed.Attnum == 0 {
		return nil
	}
	gone, err := shred.Keys(ctx, tx, p.column.ID)
	if err == nil {
		err = standing.Unwritten(ctx, tx, p.column.Relation.Table(), p.column.steps().Shredded(append(gone, p.keys...)).Do...)
	}
	if err != nil {
		return fmt.Errorf("keep cells under the keys out: %w", err)
	}
	return nil
}
