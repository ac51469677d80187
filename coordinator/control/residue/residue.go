package residue

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The kinds of residue.
const (
	Plaintext    = "plaintext"         // the column itself
	Heap         = "heap"              // row versions that still carry the dropped column
	Dead         = "dead-rows"         // row versions that nobody sees any more
	Toast        = "toast"             // long values, stored apart
	Statistics   = "statistics"        // values kept for the planner
	Extended     = "extended-stats"    // the same for several columns
	Index        = "index"             // keys
	InvalidIndex = "invalid-index"     // keys in an index that a failed build left behind
	View         = "view"              // reads the column; holds nothing
	Matview      = "materialized-view" // holds a copy
	Trigger      = "trigger"           // may write it elsewhere
	Function     = "function"          // the same
	Publication  = "publication"       // sends it elsewhere
	Subscription = "subscription"      // gets it from elsewhere
	Slot         = "slot"              // keeps the server's log from before
	Logging      = "logging"           // statements, with what they write, go to a file
	Extension    = "extension"         // the same, by an extension
	Copy         = "copy"              // a table that looks like a copy or a history
)

// Kinds are all of them.
func Kinds() []string {
	return []string{Plaintext, Heap, Dead, Toast, Statistics, Extended, Index, InvalidIndex, View,
		Matview, Trigger, Function, Publication, Subscription, Slot, Logging, Extension, Copy}
}

// Finding is one place where plaintext is, or may be. It holds names and numbers, never a value.
type Finding struct {
	Kind     string `json:"kind"`
	Where    string `json:"where"`
	Says     string `json:"says"`
	Cleans   bool   `json:"cleans"`  // cleaning deals with it
	Rewrites bool   `json:"rewrite"` // but only by rewriting the table
	Then     string `json:"then"`    // what a person must do otherwise
}

// Check is something that no query can see.
type Check struct {
	What    string `json:"what"`
	LookFor string `json:"look_for"`
}

// Report is what is left of a column's plaintext.
type Report struct {
	V         int             `json:"v"`
	Table     string          `json:"table"`
	Column    string          `json:"column"`
	Plaintext string          `json:"plaintext"` // by its present name; "" if it was dropped
	Phase     lifecycle.Phase `json:"phase"`
	Findings  []Finding       `json:"findings"`
	Checklist []Check         `json:"checklist"`

	standing standing.Standing
	size     int64 // of the table with everything that belongs to it, in bytes
	indexes  []columnIndex
	emptied  bool // the plaintext is there, but every value of it is NULL, as far as statistics tell
}

// Cleaner looks for residue, and removes what can be removed without harm.
type Cleaner struct {
	DB    *pg.DB
	Actor string // who asked; empty: the database role
}

// Look looks for plaintext that outlives the encryption of a column, before or after its drop. It changes nothing.
func (cl *Cleaner) Look(ctx context.Context, n standing.Name) (Report, error) {
	return cl.seek(ctx, n, cleaned{})
}

// seek knows of a cleaning that the log does not know yet.
func (cl *Cleaner) seek(ctx context.Context, n standing.Name, now cleaned) (r Report, err error) {
	s, err := standing.Of(ctx, cl.DB, n)
	if err != nil {
		return r, err
	}
	r = Report{V: messages.Version, Table: s.Relation.Table().String(), Column: s.Source, Plaintext: s.Plain.Name, Phase: s.State.Phase,
		Findings: []Finding{}, standing: s}
	err = standing.Reading(ctx, cl.DB, "5min", func(tx pg.Tx) error {
		x := &search{q: tx, r: &r, s: s, clean: now}
		return x.run(ctx, n)
	})
	return r, err
}

// search is one look for residue.
type search struct {
	q     pg.Querier
	r     *Report
	s     standing.Standing
	names []string // that the plaintext has, or had last
	tree  []uint32 // the table and its partitions
	clean cleaned  // the last time that the table was rewritten since the drop
}

func (x *search) run(ctx context.Context, n standing.Name) error {
	if err := x.prepare(ctx); err != nil {
		return err
	}
	if x.s.Plain.Attnum != 0 {
		says := "the plaintext itself is still in the table"
		if format := x.s.FormatOf(); x.s.Origin.Own() {
			says = "the old cells are still in the table: whoever has the keys that they were sealed under reads them"
		} else if format != "" {
			says = "the old values are still in the table: not in the clear, but whoever has the old key of format " + format + " reads them"
		}
		x.add(Finding{Kind: Plaintext, Where: x.r.Table + "." + x.s.Plain.Name, Says: says, Then: x.next(n)})
	}
	parts := []func(context.Context) error{x.heap, x.dead, x.statistics, x.findIndexes, x.views, x.dependents, x.copiers, x.slots, x.logging, x.copies, x.checklist}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (x *search) add(f Finding) { x.r.Findings = append(x.r.Findings, f) }

const treeSizeSQL = `SELECT array_agg(t.oid), coalesce(sum(pg_catalog.pg_total_relation_size(t.oid)), 0)::bigint FROM
 (SELECT $1::pg_catalog.oid AS oid UNION SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid)) t`

func (x *search) prepare(ctx context.Context) error {
	if err := x.q.QueryRow(ctx, treeSizeSQL, x.s.Relid).Scan(&x.tree, &x.r.size); err != nil {
		return fmt.Errorf("look at the table: %w", err)
	}
	cut, err := standing.LastCutover(ctx, x.q, x.s.Column)
	if err != nil {
		return err
	}
	switch {
	case x.s.Plain.Attnum != 0:
		x.names = []string{x.s.Plain.Name}
	case cut.PlainName != "":
		x.names = []string{cut.PlainName}
	default:
		x.names = []string{x.s.Source + x.s.PlainWord()}
	}
	if !x.clean.Rewritten {
		x.clean, err = lastRewrite(ctx, x.q, x.s.Column)
	}
	return err
}

// next is the command that brings the column nearer to its end.
func (x *search) next(n standing.Name) string {
	switch x.s.State.Phase {
	case lifecycle.PhaseCutOver:
		return "`" + n.Command("drop") + "` takes it away"
	case lifecycle.PhaseBackfilled:
		return "`" + n.Command("cutover") + "`, and then drop"
	}
	return "`" + n.Backfill() + "` comes next"
}

// gather runs a query for findings' places and makes one of each row.
func (x *search) gather(ctx context.Context, sql string, make func(row pgx.CollectableRow) (Finding, error), args ...any) error {
	found, err := pg.Collect(ctx, x.q, sql, make, args...)
	if err != nil {
		return fmt.Errorf("look for residue: %w", err)
	}
	x.r.Findings = append(x.r.Findings, found...)
	return nil
}

// at is the same finding for every row, which only says where.
func at(f Finding) func(pgx.CollectableRow) (Finding, error) {
	return func(row pgx.CollectableRow) (Finding, error) {
		err := row.Scan(&f.Where)
		return f, err
	}
}

// Before is what stands, or stood, in the plaintext's column, in a sentence.
func (r Report) Before() string { return r.standing.Before() }

// Left are the findings that are not accepted.
func (r Report) Left(accepted []string) (left []Finding) {
	for _, f := range r.Findings {
		if !slices.Contains(accepted, f.Kind) {
			left = append(left, f)
		}
	}
	return left
}

// bytesWords is a size for a person.
func bytesWords(n int64) string {
	const units = "kMGTPE"
	value, unit := float64(n), ""
	for i := 0; value >= 1000 && i < len(units); i++ {
		value, unit = value/1000, units[i:i+1]
	}
	if unit == "" {
		return fmt.Sprintf("%d B", n)
	}
	return strings.Replace(fmt.Sprintf("%.1f %sB", value, unit), ".0 ", " ", 1)
}
