package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Result is what a decrypt-and-compare of columns found. It holds no value and no key.
type Result struct {
	V            int            `json:"v"`
	Installation string         `json:"installation"` // the registry id that every cell authenticates
	Database     string         `json:"database"`
	Table        string         `json:"table"`
	Columns      []ColumnReport `json:"columns"`
	Sample       float64        `json:"sample,omitempty"` // percent of the blocks that were read; 0: every row
	Proven       bool           `json:"proven"`           // every row of every column that was read is covered
	TokensProven bool           `json:"tokens_proven"`    // so is every blind index: see [IndexReport]
	Began        time.Time      `json:"began"`            // the server's clock
	Ended        time.Time      `json:"ended"`
	Seconds      float64        `json:"seconds"`
}

// ColumnReport is what was found in one column. Examples are hashes of keys.
type ColumnReport struct {
	Column string `json:"column"`
	Source string `json:"source"` // the column that holds the plaintext, under today's name; "" when it is gone, and cells are only opened
	Target string `json:"target"` // the column that holds the cells, under today's name
	// Foreign says that a user's own encrypter made the values: they were looked at, and none was opened.
	Foreign bool `json:"foreign,omitempty"`
	// Made says that an expression made the values: Postgres compared them, and none was read.
	Made bool `json:"made,omitempty"`
	// Where is the condition of rows that need a cell, as Postgres prints it; the others are covered without one. "": all do.
	Where string `json:"where,omitempty"`
	// Mend is the command that makes cells that are missing, where backfill does not. "": backfill does.
	Mend string `json:"-"`
	proof.Report
	Proven  bool          `json:"proven"`
	Indexes []IndexReport `json:"indexes"` // those that are filling or ready
}

// Request names what to verify.
type Request struct {
	Schema, Table string
	Columns       []string // sources, as they were registered or are called today; empty: every registered column of the table
	Sample        float64  // percent of the blocks to read, below 100; 0: every row
}

// Verifier opens every cell of a table's columns and compares it with its source.
type Verifier struct {
	DB      *pg.DB
	KEK     cell.KEK      // nil where no cell is to be opened
	Foreign *foreign.Keys // of other systems whose values were re-encrypted; nil: none
	// Seen is told after each chunk how many rows have been looked at, of about how many.
	Seen func(rows, of int64)
	// Before are the hooks that values went through before they were sealed, by the name of the source. May be nil.
	Before map[string]transform.Hook
}

// Verify reads every row of every leaf once, chunk by chunk, or of a sample of its blocks, and appends a verified event
// for each column, whatever becomes of the tokens beside it. It writes nothing else, and its memory does not grow with the table. It may be run in any phase: where
// the plaintext is gone, cells are opened and have nothing to be compared with. A [*standing.Refusal] is returned before the
// first row is read.
func (v *Verifier) Verify(ctx context.Context, r Request) (Result, error) {
	t, err := v.open(ctx, r)
	if err != nil {
		return Result{}, err
	}
	for _, pass := range t.passes {
		if err := v.pass(ctx, t, pass); err != nil {
			return Result{}, fmt.Errorf("verify %s: %w", t.relation.Table(), err)
		}
	}
	result := Result{V: messages.Version, Installation: t.installation, Database: t.database, Table: t.relation.Table().String(), Sample: r.Sample, Proven: true, TokensProven: true, Began: t.began}
	for _, pass := range t.passes {
		for i, c := range pass.columns {
			report := ColumnReport{Indexes: pass.indexReports(c.ID), Column: c.named(), Source: c.source, Target: c.target, Foreign: c.external.Foreign(), Made: c.expression != nil, Mend: c.mend, Report: pass.reports[i], Proven: pass.reports[i].Proven()}
			if c.where != nil {
				report.Where = c.where.SQL
			}
			result.Columns, result.Proven = append(result.Columns, report), result.Proven && report.Proven
			result.TokensProven = result.TokensProven && !slices.ContainsFunc(report.Indexes, func(x IndexReport) bool { return !x.Proven })
		}
	}
	return v.record(ctx, t, result)
}

// pass reads the leaves one after the other.
func (v *Verifier) pass(ctx context.Context, t *tested, p *testPass) error {
	job := work.Job{Relation: t.relation.OID, Spec: work.Spec{Schema: t.relation.Schema, Table: t.relation.Name, Key: p.key}}
	before := map[uint32]transform.Hook{}
	for _, c := range p.columns {
		before[c.ID] = v.Before[c.named()]
		job.Spec.Columns = append(job.Spec.Columns, work.Column{ID: c.ID, Source: c.source, Target: c.target,
			SourceAttnum: c.SourceNum, TargetAttnum: c.TargetNum, Scheme: c.scheme, External: c.external, Expression: c.expression, Where: c.where, Origin: c.origin, LogColumn: c.Source, Reverse: c.cutOver})
	}
	job.Spec.Columns = append(job.Spec.Columns, p.tokenColumns()...)
	job, err := job.Reading(ctx, v.Foreign)
	if err != nil {
		return lacking(err)
	}
	of := t.relation.Rows() * int64(len(t.passes))
	if t.sample > 0 {
		of = int64(float64(of) * t.sample / 100)
	}
	for _, leaf := range t.relation.Leaves {
		shape, err := shape.OpenProof(ctx, v.DB, job, leaf.OID, t.keys.Keyring)
		if refusal := standing.Unbound(err); refusal != err {
			return refusal
		}
		if errors.Is(err, keyspace.ErrChanged) {
			return standing.Refuse("table", "cipherfleet status says what is different; verify again when nobody alters the table",
				"%s is not what its columns were prepared for, with key (%s)", t.relation.Table(), strings.Join(p.key, ", "))
		}
		if err != nil {
			return err
		}
		verifier := &proof.Verifier{DB: v.DB, Shape: shape, Keyring: t.keys.Keyring, Sample: t.sample, Digests: t.keys.Digests, Before: before}
		err = verifier.Verify(ctx, p.reports, func(rows int) {
			t.seen += int64(rows)
			v.Seen(t.seen, of)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lacking says what to do about a foreign key that is not here.
func lacking(err error) error {
	var missing *work.NoForeignKeyError
	if !errors.As(err, &missing) {
		return err
	}
	return standing.Refuse("columns", "name the file that has it with CIPHERFLEET_FOREIGN_KEYS; docs/foreign.md describes the file", "%s", missing)
}

// record appends the result to the log, all columns at once, and says when that was.
func (v *Verifier) record(ctx context.Context, t *tested, result Result) (Result, error) {
	err := v.DB.InTx(ctx, func(tx pg.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&result.Ended); err != nil {
			return err
		}
		result.Seconds = result.Ended.Sub(result.Began).Seconds()
		for _, p := range t.passes {
			for i, c := range p.columns {
				finding := c.finding(p.reports[i], result)
				for _, x := range p.indexReports(c.ID) {
					if !x.Proven {
						finding.Unproven = append(finding.Unproven, x.Index)
					}
				}
				detail, err := json.Marshal(finding)
				if err != nil {
					return err
				}
				event := lifecycle.Event{Table: c.Table.String(), Column: c.Source, Kind: lifecycle.KindVerified, Detail: detail}
				if _, err := (&lifecycle.Log{}).Append(ctx, tx, event); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("record the verification: %w", err)
	}
	return result, nil
}

func (c testColumn) finding(r proof.Report, of Result) status.Finding {
	return status.Finding{Verification: lifecycle.Verification{Sample: of.Sample, Proven: r.Proven(), NoneWrong: r.NoneWrong(), Began: of.Began}, Rows: r.Rows, Covered: r.Covered,
		Uncovered: r.Uncovered, Stale: r.Stale, Broken: r.Broken, Unknown: r.Unknown, Schemes: r.Schemes, Keys: r.Keys, Repeated: r.Nonces.Repeated,
		Digest: r.Digest, PlaintextGone: c.source == "", Missed: c.missed, Seconds: of.Seconds}
}
