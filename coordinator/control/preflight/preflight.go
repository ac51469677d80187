package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Plan is what a request means on this very server, every precondition met when it was looked at.
type Plan struct {
	Relation  pg.Relation // with the facts of the server
	Key       pg.Key      // to walk by; usable
	Columns   []Column
	Triggers  []pg.Trigger // the user's own that our UPDATE will fire; none when they are skipped
	Skip      bool         // keep the user's own triggers from firing
	Installed bool         // schema cipherfleet is there
}

// Column is one column of a plan.
type Column struct {
	Source     pg.Column
	Target     pg.Column        // its Name always; the rest only when it is there already
	Add        bool             // the target is missing and is to be added
	Codec      cell.Codec       // how values of the source become bytes; 0 of a foreign column
	Registered lifecycle.Column // ID 0: not yet
	Guarded    bool             // check and capture are in place: there is nothing to alter
	Fresh      bool             // it gets its first scheme
	External   work.External
	Origin     *work.Origin    // who encrypted the values of the source, if somebody else did
	Expression *ddl.Expression // what makes the values inside Postgres; nil: something else, or it was not read

	Where *ddl.Condition // which rows need a cell; nil: all, or it was not read
	Was   *ddl.Condition // which did by the last job

	nulls      bool   // NULL is sealed, too, under the scheme that there is, or will be first
	where      string // the same as it was asked for
	first      *messages.Scheme
	bound      string    // what the first scheme is bound to, as [cell.Scheme.Columns]; "": to no columns
	form       cell.Form // of cells in the target
	long       bool      // its cells may be stored outside their rows
	payload    ddl.Payload
	moved      moved                  // of a column whose source holds cells of ours
	targetType string                 // of a target that is to be added and takes no cells, as SQL
	made       messages.ColumnRequest // of a column that an expression makes; else empty
}

// look is one look at a table on behalf of one request.
type look struct {
	q       pg.Querier
	request messages.StartRequest
	plan    Plan

	mayInstall bool                                         // may create schema cipherfleet, or its tables in it
	registered []lifecycle.Column                           // of the table; nil: not looked up yet
	states     map[uint32]lifecycle.Standing                // of those that were looked up
	nulls      func(id uint32) (seals, written bool)        // nil: to be looked up
	makers     func(id uint32) (last work.Column, own bool) // nil: to be looked up
}

// Check resolves a request against the catalog and refuses what could not be carried out to the end. It changes
// nothing: it reads in a read-only transaction, of one moment, and gives up waiting for locks after seconds. Every
// refusal is a [*standing.Refusal]; the first one found is returned.
func Check(ctx context.Context, db *pg.DB, request messages.StartRequest) (Plan, error) {
	server, err := pg.InspectServer(ctx, db)
	if err != nil {
		return Plan{}, err
	}
	if err := CheckServer(server); err != nil {
		return Plan{}, err
	}
	p := &look{request: filled(request)}
	err = db.InTx(ctx, func(tx pg.Tx) error {
		p.q = tx
		return p.run(ctx)
	})
	if err == nil {
		err = p.readExpressions(ctx, db)
	}
	if err != nil {
		return Plan{}, err
	}
	return p.plan, nil
}

// filled fills in what a request may leave out.
func filled(r messages.StartRequest) messages.StartRequest {
	if r.Schema == "" {
		r.Schema = "public"
	}
	r.Columns = slices.Clone(r.Columns)
	for i, c := range r.Columns {
		if c.Target == "" && !c.Made() && !c.From.Own() {
			r.Columns[i].Target = c.Source + "_encrypted"
		}
	}
	return r
}

// One snapshot, no writing, no endless waiting; and a policy that hides rows is an error instead of fewer rows.
const (
	readOnlySQL = `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY`
	patienceSQL = `SELECT pg_catalog.set_config('lock_timeout', '3s', true), pg_catalog.set_config('statement_timeout', '30s', true),
 pg_catalog.set_config('row_security', 'off', true)`
)

func (p *look) run(ctx context.Context) error {
	for _, sql := range []string{readOnlySQL, patienceSQL} {
		if _, err := p.q.Exec(ctx, sql); err != nil {
			return fmt.Errorf("begin preflight: %w", err)
		}
	}
	if err := p.inspect(ctx); err != nil {
		return err
	}
	for _, check := range p.checks() {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return p.measure(ctx)
}

// checks are in the order in which one builds on what another found.
func (p *look) checks() []func(context.Context) error {
	return []func(context.Context) error{p.checkTable, p.checkPartitionKey, p.checkKey, p.checkIdentity, p.checkColumns, p.checkProxied, p.checkPrivileges, p.checkPublished, p.checkTriggers, p.checkTargets}
}

// A schema that somebody made for us needs only the right to create in it.
const installedSQL = `SELECT pg_catalog.to_regclass('cipherfleet.columns') IS NOT NULL,
 coalesce(pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('cipherfleet')::pg_catalog.oid, 'CREATE'),
          pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'))`

func (p *look) inspect(ctx context.Context) (err error) {
	p.plan.Relation, err = standing.Inspect(ctx, p.q, p.request.Schema, p.request.Table)
	var refusal *standing.Refusal
	if errors.As(err, &refusal) {
		return err
	}
	if err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	if p.plan.Installed, p.mayInstall, err = Installed(ctx, p.q); err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	return nil
}

// Installed says whether schema cipherfleet is there, and whether this role may make it, or what is missing in it.
func Installed(ctx context.Context, q pg.Querier) (is, may bool, err error) {
	err = q.QueryRow(ctx, installedSQL).Scan(&is, &may)
	return is, may, err
}

// oldest is the first version of Postgres that everything works on.
const oldest = 14

// CheckServer refuses a server that nothing can be written to, or that is too old.
func CheckServer(s pg.Server) error {
	switch {
	case s.Major() < oldest:
		return standing.Refuse("", "upgrade the server, or use another one", "this is Postgres %d, the oldest that works is %d", s.Major(), oldest)
	case s.InRecovery:
		return standing.Refuse("", "point DATABASE_URL at the primary", "database %q is on a standby, where nothing can be written", s.Database)
	case s.DefaultReadOnly:
		return standing.Refuse("", "if this is the primary, set default_transaction_read_only to off for this database or role",
			"database %q is read-only by default_transaction_read_only", s.Database)
	}
	return nil
}

// TriggersWord is what becomes of the user's own triggers, as a job's spec says it.
func TriggersWord(skip bool) string {
	if skip {
		return messages.TriggersSkip
	}
	return messages.TriggersFire
}
