package residue

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sethvargo/go-retry"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Cleaning is what is to be done about residue: statements, each for itself, in order.
type Cleaning struct {
	Report
	Statements []string
	Rewrites   bool // they lock the table against everybody while they write it anew
	MaxSeconds int64
}

// rewriteSpeed is how fast a table with its indexes is written anew on modest storage, in bytes a second.
const rewriteSpeed = 50 << 20

// Plan looks for residue and says what can be done about it without harm: VACUUM and ANALYZE always; indexes of
// a plaintext that was emptied are built anew; what an interrupted build left is dropped. With rewrite, which makes
// sense after the drop only, the table is written anew under an ACCESS EXCLUSIVE lock.
func (cl *Cleaner) Plan(ctx context.Context, n standing.Name, rewrite bool) (c Cleaning, err error) {
	if c.Report, err = cl.Look(ctx, n); err != nil {
		return c, err
	}
	s := c.standing
	switch {
	case !s.Relation.Privileges.Owner:
		return c, standing.Deny("table", "run this as the owner of the table", "role %q may not clean %s", s.Relation.Server.User, s.Relation.Table())
	case rewrite && s.Plain.Attnum != 0:
		return c, standing.Refuse("rewrite", "`"+n.Command("drop")+"` comes first", "%s still has its plaintext, column %s: written anew, it would have it again", s.Relation.Table(), s.Plain.Name)
	}
	verb := "VACUUM (ANALYZE) "
	if c.Rewrites = rewrite; rewrite {
		verb = "VACUUM (FULL, ANALYZE) "
		c.MaxSeconds = c.size/rewriteSpeed + 1
	}
	for _, leaf := range s.Relation.Leaves {
		if leaf.Kind == pg.KindTable {
			c.Statements = append(c.Statements, verb+leaf.Table().SQL())
		}
	}
	for _, i := range c.indexes {
		switch {
		case i.valid && c.emptied:
			c.Statements = append(c.Statements, "REINDEX INDEX CONCURRENTLY "+i.table.SQL())
		case !i.valid && i.transient:
			c.Statements = append(c.Statements, "DROP INDEX CONCURRENTLY "+i.table.SQL())
		}
	}
	if s.Relation.IsPartitioned {
		c.Statements = append(c.Statements, "ANALYZE "+s.Relation.Table().SQL())
	}
	return c, nil
}

// Clean runs the statements, looks again, and records what it did and how much is left. A statement that fails ends
// it; what was done before stays done.
func (cl *Cleaner) Clean(ctx context.Context, n standing.Name, c Cleaning) (Report, error) {
	for _, statement := range c.Statements {
		if err := cl.maintain(ctx, statement, c.Rewrites); err != nil {
			return Report{}, standing.Settled(c.standing, fmt.Errorf("clean %s: %w", c.Table, err))
		}
	}
	did := cleaned{Statements: c.Statements, Rewritten: c.Rewrites}
	if err := cl.DB.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_lsn()::text`).Scan(&did.LSN); err != nil {
		return Report{}, fmt.Errorf("clean %s: %w", c.Table, err)
	}
	after, err := cl.seek(ctx, n, did)
	if err != nil {
		return after, err
	}
	did.Left = len(after.Findings)
	if err := cl.recordCleaned(ctx, c.standing, did); err != nil {
		return after, fmt.Errorf("record that %s was cleaned: %w", c.Table, err)
	}
	return after, nil
}

func (cl *Cleaner) recordCleaned(ctx context.Context, s standing.Standing, did cleaned) error {
	detail, err := json.Marshal(did)
	if err != nil {
		return err
	}
	return cl.DB.InTx(ctx, func(tx pg.Tx) error {
		_, err := (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: s.Column.Table.String(), Column: s.Source, Kind: lifecycle.KindCleaned, Detail: detail, Actor: cl.Actor})
		return err
	})
}

// maintain runs one statement that cannot be part of a transaction, on a connection of its own. Only one that locks
// everybody out gives up its place in the queue now and then; the others must not be cut short, and hold up nobody.
func (cl *Cleaner) maintain(ctx context.Context, statement string, exclusive bool) error {
	limits := `SELECT pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('lock_timeout', '0', false)`
	if exclusive {
		limits = `SELECT pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('lock_timeout', '1s', false)`
	}
	return retry.Do(ctx, standing.Backoff(), func(ctx context.Context) error {
		conn, err := cl.DB.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Discard(context.WithoutCancel(ctx)) // its settings are no other's
		if _, err := conn.Exec(ctx, limits); err != nil {
			return err
		}
		if _, err = conn.Exec(ctx, statement); pg.Code(err) == "55P03" {
			return retry.RetryableError(err)
		}
		return err
	})
}

// Size is how much the table takes with everything that belongs to it, for a person.
func (r Report) Size() string { return bytesWords(r.size) }
