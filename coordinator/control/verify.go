package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Verification is what a full decrypt-and-compare of columns found.
type Verification struct {
	V       int            `json:"v"`
	Table   string         `json:"table"`
	Columns []ColumnReport `json:"columns"`
	Proven  bool           `json:"proven"` // every row of every column is covered
	Seconds float64        `json:"seconds"`
}

// ColumnReport is what was found in one column. Examples are hashes of keys.
type ColumnReport struct {
	Column string `json:"column"`
	Target string `json:"target"`
	backfill.Report
	Proven bool `json:"proven"`
}

// finding is a verification as the event log keeps it: counts, no keys.
type finding struct {
	Rows      int64            `json:"rows"`
	Covered   int64            `json:"covered"`
	Uncovered int64            `json:"uncovered"`
	Stale     int64            `json:"stale"`
	Broken    int64            `json:"broken"`
	Schemes   map[uint16]int64 `json:"schemes,omitempty"`
	Proven    bool             `json:"proven"`
	Missed    int64            `json:"missed"` // writes that capture had caught when it began
	Seconds   float64          `json:"seconds"`

	at time.Time
}

// VerifyRequest names what to verify.
type VerifyRequest struct {
	Schema, Table string
	Columns       []string // sources; empty: every registered column of the table
}

// Verifier opens every cell of a table's columns and compares it with its source.
type Verifier struct {
	DB  *pg.DB
	KEK cell.KEK
	// Seen is told after each chunk how many rows have been looked at, of about how many.
	Seen func(rows, of int64)
}

// Verify reads every row of every leaf once, chunk by chunk, and appends a verified event for each column. It writes
// nothing else, and its memory does not grow with the table. A [*Refusal] is returned before the first row is read.
func (v *Verifier) Verify(ctx context.Context, r VerifyRequest) (Verification, error) {
	begun := time.Now()
	t, err := v.open(ctx, r)
	if err != nil {
		return Verification{}, err
	}
	for _, pass := range t.passes {
		if err := v.pass(ctx, t, pass); err != nil {
			return Verification{}, fmt.Errorf("verify %s: %w", t.relation.Table(), err)
		}
	}
	result := Verification{V: messages.Version, Table: t.relation.Table().String(), Proven: true, Seconds: time.Since(begun).Seconds()}
	for _, pass := range t.passes {
		for i, c := range pass.columns {
			report := ColumnReport{Column: c.source, Target: c.target, Report: pass.reports[i], Proven: pass.reports[i].Proven()}
			result.Columns, result.Proven = append(result.Columns, report), result.Proven && report.Proven
		}
	}
	return result, v.record(ctx, t, result.Seconds)
}

// pass reads the leaves one after the other.
func (v *Verifier) pass(ctx context.Context, t *tested, p *testPass) error {
	job := backfill.Job{Relation: t.relation.OID, Spec: backfill.Spec{Schema: t.relation.Schema, Table: t.relation.Name, Key: p.key}}
	for _, c := range p.columns {
		job.Spec.Columns = append(job.Spec.Columns, backfill.SpecColumn{ID: c.ID, Source: c.source, Target: c.target,
			SourceAttnum: c.SourceNum, TargetAttnum: c.TargetNum, Scheme: c.scheme})
	}
	of := t.relation.Rows() * int64(len(t.passes))
	for _, leaf := range t.relation.Leaves {
		shape, err := backfill.OpenShape(ctx, v.DB, job, leaf.OID, t.keyring)
		if errors.Is(err, backfill.ErrShape) {
			return refuse("table", "cipherfleet status says what is different; verify again when nobody alters the table",
				"%s is not what its columns were prepared for, with key (%s)", t.relation.Table(), strings.Join(p.key, ", "))
		}
		if err != nil {
			return err
		}
		err = (&backfill.Verifier{DB: v.DB, Shape: shape, Keyring: t.keyring}).Verify(ctx, p.reports, func(rows int) {
			t.seen += int64(rows)
			v.Seen(t.seen, of)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// record appends the result to the log, all columns at once.
func (v *Verifier) record(ctx context.Context, t *tested, seconds float64) error {
	err := v.DB.InTx(ctx, func(tx pg.Tx) error {
		for _, p := range t.passes {
			for i, c := range p.columns {
				r := p.reports[i]
				detail, err := json.Marshal(finding{Rows: r.Rows, Covered: r.Covered, Uncovered: r.Uncovered, Stale: r.Stale, Broken: r.Broken,
					Schemes: r.Schemes, Proven: r.Proven(), Missed: c.missed, Seconds: seconds})
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
		return fmt.Errorf("record the verification: %w", err)
	}
	return nil
}
