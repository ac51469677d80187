package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/embedded"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// dualFigure is what check and capture cost an application that writes both columns and says so: medians of its
// transactions a second, in turns without and with them.
type dualFigure struct {
	Commits  string  `json:"commits"` // synchronous, as applications have them; asynchronous, so that nothing but processors is waited for
	Bare     float64 `json:"tps_without_capture"`
	Captured float64 `json:"tps_with_capture"`
	Slower   float64 `json:"slower_by"` // 0.05 is five percent; below 0 is noise
	Pairs    int     `json:"pairs"`
	Seconds  int     `json:"seconds_each"`
}

// dualScript writes source and cell of one row, and another column of one more. Each cell differs from the one before.
const dualScript = `\set a random(1, %[1]d)
\set b random(1, %[1]d)
\set n random(1, 1000000000)
UPDATE public.users SET email = 'user' || :n || '@example.com', email_encrypted = '\x%[2]x'::bytea || int8send(:n) WHERE id = :a;
UPDATE public.users SET name = 'User number ' || :n WHERE id = :b;
`

// dualSessions are what the application's sessions are set to.
func dualSessions() map[string]string {
	const client = "-c " + ddl.WriterSetting + "=" + ddl.WriterClient
	return map[string]string{"synchronous": client, "asynchronous": client + " -c synchronous_commit=off"}
}

const dualClients = "2"

var errNoPgbench = errors.New("there is no pgbench beside the server's programs")

// dual measures the pairs, and begins each the other way round than the one before. Nil: none are wanted.
func (b *stand) dual(ctx context.Context, o benchOptions) (figures []dualFigure, cost *dualCost, err error) {
	if o.pairs == 0 {
		return nil, nil, nil
	}
	if err := b.seed(ctx); err != nil {
		return nil, nil, fmt.Errorf("seed the table: %w", err)
	}
	if err := lifecycle.Install(ctx, b.db); err != nil {
		return nil, nil, err
	}
	c, prefix := dualColumn(), cell.Prefix(1)
	sealed := append(prefix[:], make([]byte, cell.Overhead+24-len(prefix))...) // and eight more: an e-mail's cell, padded
	if cost, err = b.cost(ctx, o, c, sealed); err != nil {
		return nil, nil, err
	}
	dir, err := embedded.FindBinDir(o.bindir)
	if err != nil {
		return nil, nil, err
	}
	pgbench := filepath.Join(dir, "pgbench")
	if _, err := os.Stat(pgbench); err != nil {
		return nil, cost, fmt.Errorf("%w: %s", errNoPgbench, dir)
	}
	script := filepath.Join(b.dir, "dual.sql")
	if err := os.WriteFile(script, fmt.Appendf(nil, dualScript, b.rows, sealed), 0o600); err != nil {
		return nil, nil, err
	}
	for _, commits := range []string{"synchronous", "asynchronous"} {
		rates, err := b.pairs(ctx, o, pgbench, script, commits)
		if err != nil {
			return nil, nil, err
		}
		f := dualFigure{Commits: commits, Bare: median(rates[false]), Captured: median(rates[true]), Pairs: o.pairs, Seconds: o.seconds}
		f.Slower = 1 - f.Captured/f.Bare
		figures = append(figures, f)
	}
	return figures, cost, nil
}

func dualColumn() ddl.Column {
	return ddl.Column{ID: 1, Table: pg.Table{Schema: "public", Name: "users"}, Source: "email", Target: "email_encrypted", Key: []string{"id"},
		Types: map[string]uint32{"id": pgtype.Int8OID, "email": pgtype.TextOID, "email_encrypted": pgtype.ByteaOID}}
}

// setCapture puts check and capture there, or takes them away.
func (b *stand) setCapture(ctx context.Context, c ddl.Column, captured bool) error {
	steps := slices.Concat(c.Capture().Undo, c.Check().Undo)
	if captured {
		steps = slices.Concat(steps, c.Check().Do, c.Capture().Do)
	}
	for _, statement := range append(steps, "CHECKPOINT") {
		if _, err := b.db.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// pairs are the rates with capture and without.
func (b *stand) pairs(ctx context.Context, o benchOptions, pgbench, script, commits string) (map[bool][]float64, error) {
	rates := map[bool][]float64{}
	for pair := range o.pairs {
		for _, captured := range []bool{pair%2 == 1, pair%2 == 0} {
			if err := b.setCapture(ctx, dualColumn(), captured); err != nil {
				return nil, err
			}
			rate, err := pgbenchRate(ctx, dualSessions()[commits], pgbench, "-n", "-M", "prepared", "-c", dualClients, "-T", strconv.Itoa(o.seconds), "-f", script, b.postgres.URL("postgres"))
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "pair %d  commits %-12s  capture %-5t  %9.0f transactions/s\n", pair+1, commits, captured, rate)
			rates[captured] = append(rates[captured], rate)
		}
	}
	return rates, nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// pgbenchRate runs it and returns its transactions a second. A failed transaction is an error.
func pgbenchRate(ctx context.Context, session, program string, args ...string) (float64, error) {
	c := exec.CommandContext(ctx, program, args...)
	c.Env = append(c.Environ(), "PGOPTIONS="+session)
	out, err := c.CombinedOutput()
	found := tps.FindSubmatch(out)
	if err != nil || found == nil { // a client whose statement failed stops, and with it the exit code is not 0
		return 0, fmt.Errorf("run pgbench: %w: %s", err, out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
