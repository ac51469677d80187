package ladder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Gated is a column that may be cut over, as it was when it was looked at, and what its event is going to say.
type Gated struct {
	standing.Standing
	Detail   standing.Cutover
	column   ddl.Column
	triggers string // what the last job did about the table's own
}

// gates checks everything that a cutover rests on, but that no row is uncovered. It changes nothing, and is asked again
// under the lock. Trusted says that the proof was seen before this command had rows sealed.
func (l *Ladder) gates(ctx context.Context, tx pg.Tx, r CutoverRequest, trusted string) (g Gated, err error) {
	if g.Standing, err = standing.Find(ctx, tx, r.Column); err != nil {
		return g, err
	}
	if g.State.Phase == lifecycle.PhaseCutOver {
		return g, errCutOver
	}
	if err := g.CheckLeft(ctx, tx); err != nil {
		return g, err
	}
	if err := g.checkSweep(ctx, tx); err != nil {
		return g, err
	}
	g.Detail = standing.Cutover{Strategy: r.Strategy, PlainName: g.Plain.Name, SealedName: g.Sealed.Name, PlainWas: g.Plain.Name, SealedWas: g.Sealed.Name,
		Soak: r.Soak.String(), Reason: r.Reason, Note: r.Note}
	g.Detail.Strict = slices.ContainsFunc(g.Relation.Triggers, func(t pg.Trigger) bool { return slices.Contains(ddl.StrictTriggers(g.ID), t.Name) })
	for _, check := range []func() error{g.checkMade, g.checkPhase, g.checkTable, g.checkNames} {
		if err := check(); err != nil {
			return g, err
		}
	}
	if err := g.checkDomain(ctx, tx); err != nil {
		return g, err
	}
	if g.Detail.Acknowledged, err = g.checkDependents(ctx, tx, standing.Dependents, r.Despite); err != nil {
		return g, err
	}
	if g.Detail.Places, err = placesOf(ctx, tx, g.Standing); err != nil {
		return g, err
	}
	if err := g.CheckRequired(g.Detail.Places); err != nil {
		return g, err
	}
	if err := standing.CheckFollowed(ctx, tx, g.Relation, g.Plain); err != nil {
		return g, err
	}
	if g.Detail.Proof, err = g.proof(ctx, tx, r.Reason, trusted); err != nil {
		return g, err
	}
	if err := l.quiet(ctx, tx, g.Standing, r.Soak); err != nil { // last: it may mean to wait for a day
		return g, err
	}
	if g.column, err = Steps(ctx, tx, g.Standing); err != nil {
		return g, err
	}
	if job, err := work.Newest(ctx, tx, g.ID); err == nil {
		g.triggers = job.Spec.UserTriggers
	}
	return g, nil
}

// errCutOver says that there is nothing left to do.
var errCutOver = errors.New("the column is cut over already")

func (g *Gated) name() string { return g.Relation.Table().String() + "." + g.Source }

func (g *Gated) checkPhase() error {
	switch g.State.Phase {
	case lifecycle.PhaseBackfilled:
		return nil
	case lifecycle.PhaseDropped:
		return standing.Refuse("column", "its cells are all there is", "the plaintext of %s was dropped", g.name())
	}
	return standing.Refuse("column", standing.Name{Schema: g.Relation.Schema, Table: g.Relation.Name, Column: g.Plain.Name}.Backfill()+" encrypts what is left; then cipherfleet verify, and this again", "%s is %s, not backfilled", g.name(), standing.PhaseWord(g.State.Phase))
}

// checkTable refuses what would fail half-way, or could not be judged.
func (g *Gated) checkTable() error {
	r := g.Relation
	switch {
	case g.Plain.Attnum == 0 || g.Sealed.Attnum == 0:
		return standing.Refuse("column", "cipherfleet status says what is missing", "%s or its target %q is gone from the table", g.name(), g.Target)
	case !r.Privileges.Owner:
		return standing.Deny("table", "run this as its owner, or as a member of the owning role", "role %q does not own %s", r.Server.User, r.Table())
	case r.RowSecurity.Applies:
		return standing.Refuse("table", "use a role that owns the table or has BYPASSRLS", "row security hides rows of %s from role %q", r.Table(), r.Server.User)
	case !slices.ContainsFunc(r.Checks, func(c pg.Check) bool { return c.Name == ddl.CheckName(g.ID) && c.Validated }):
		return standing.Refuse("column", "cipherfleet backfill puts it back; then verify again",
			"the CHECK that lets nothing but cells into %q is gone or not validated", g.Sealed.Name)
	}
	return nil
}

// checkNames settles under which names the columns go on.
func (g *Gated) checkNames() error {
	if g.Detail.Strategy != standing.StrategySwap {
		return nil
	}
	g.Detail.PlainName, g.Detail.SealedName = g.Plain.Name+g.PlainWord(), g.Plain.Name
	if most := g.Relation.Server.MaxIdentifierBytes; len(g.Detail.PlainName) > most {
		return standing.Refuse("column", "rename the column first, or take --strategy by-name", "the name %q would have more than %d bytes", g.Detail.PlainName, most)
	}
	if _, taken := g.Relation.Column(g.Detail.PlainName); taken {
		return standing.Refuse("column", "rename that column first, or take --strategy by-name", "%s has a column %q already", g.Relation.Table(), g.Detail.PlainName)
	}
	return nil
}

const newestVerifiedSQL = `SELECT details, created_at FROM cipherfleet.events
 WHERE table_name = $1 AND column_name = $2 AND event = 'verified' ORDER BY id DESC LIMIT 1`

// proof says what shows that every cell opens to its source: a full verification that began after the column was
// backfilled, or, with a reason, less.
func (g *Gated) proof(ctx context.Context, q pg.Querier, reason, trusted string) (string, error) {
	const hint = "cipherfleet verify opens every cell and compares; then this again"
	var newest lifecycle.Verification
	var detail []byte
	err := q.QueryRow(ctx, newestVerifiedSQL, g.Column.Table.String(), g.Source).Scan(&detail, &newest.Began)
	if err == nil {
		err = json.Unmarshal(detail, &newest)
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("read the last verification: %w", err)
	}
	counts := newest.Began.After(g.State.Backfilled)
	switch {
	case g.State.Sound():
		return standing.ProofFull, nil
	case counts && !newest.Sound():
		return "", standing.Refuse("column", "cipherfleet verify says what is wrong, and how to mend it", "the last verification of %s found cells that are wrong", g.name())
	case trusted != "":
		return trusted, nil
	case reason == "" && counts && newest.Sample > 0:
		return "", standing.Refuse("column", hint+"; with --reason a sample is enough", "only a sample of %s was verified since it was backfilled", g.name())
	case reason == "":
		return "", standing.Refuse("column", hint, "%s was not verified since it was backfilled", g.name())
	case counts && newest.Sample > 0:
		return standing.ProofSample, nil
	}
	return standing.ProofNone, nil
}

// requiredDomainSQL is a domain that lets no NULL in, on the way down from the type $1.
const requiredDomainSQL = `WITH RECURSIVE chain AS (
 SELECT oid, typtype, typbasetype, typnotnull FROM pg_catalog.pg_type WHERE oid = $1
 UNION ALL SELECT t.oid, t.typtype, t.typbasetype, t.typnotnull FROM chain c JOIN pg_catalog.pg_type t ON t.oid = c.typbasetype WHERE c.typtype = 'd')
SELECT pg_catalog.format_type(oid, NULL) FROM chain WHERE typtype = 'd' AND typnotnull LIMIT 1`

// checkDomain refuses a plaintext that could not be NULL afterwards, where applications write cells alone.
func (g *Gated) checkDomain(ctx context.Context, q pg.Querier) error {
	domains, err := pg.Values[string](ctx, q, requiredDomainSQL, g.Plain.TypeOID)
	if err != nil || len(domains) == 0 {
		return err
	}
	return standing.Refuse("column", fmt.Sprintf("ALTER DOMAIN %s DROP NOT NULL, and make the column itself NOT NULL: that is moved to the cells", domains[0]),
		"%s is of domain %s, which is NOT NULL: writers of cells alone would fail", g.name(), domains[0])
}

// dependentsOf lists what depends on a column.
type dependentsOf func(ctx context.Context, q pg.Querier, relation uint32, attnum int16) ([]standing.Dependent, error)

// checkDependents refuses with a list of everything that would silently change its meaning and is not acknowledged by
// name, and returns what is.
func (g *Gated) checkDependents(ctx context.Context, q pg.Querier, list dependentsOf, despite []string) (acknowledged []string, err error) {
	all, err := list(ctx, q, g.Relation.OID, g.Plain.Attnum)
	if err != nil {
		return nil, err
	}
	var open []string
	for _, d := range all {
		flows := d.Kind == "publication" || d.Kind == "subscription"
		switch {
		case flows && d.ByName && g.Detail.Strategy == standing.StrategyByName: // the name goes on meaning what it meant
		case slices.Contains(despite, d.Name):
			acknowledged = append(acknowledged, d.String())
		default:
			open = append(open, d.String())
		}
	}
	if len(open) == 0 {
		return acknowledged, nil
	}
	return nil, standing.Refuse("column", "change or drop each of them first, or acknowledge it by its name, as in --despite "+despiteExample(all, despite),
		"a cutover of %s would silently change what these mean: %s", g.name(), strings.Join(open, "; "))
}

// despiteExample is the first name that is not acknowledged yet, for a shell.
func despiteExample(all []standing.Dependent, despite []string) string {
	for _, d := range all {
		if !slices.Contains(despite, d.Name) {
			return "'" + strings.ReplaceAll(d.Name, "'", `'\''`) + "'"
		}
	}
	return ""
}
