package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const verifyLong = `Open every cell of the named columns and compare it with its source, row by row.

It is the only proof that a column is encrypted: a row is covered when its target holds a cell that opens to its present
source, or when both are NULL. Every row is read once, in short transactions, in constant memory; nothing is written but
one event for each column, with counts. Rows that applications change meanwhile are judged as they are when they are
read.

What it counts: covered rows; uncovered ones, whose target is missing or left over; stale ones, whose cell is of another
value; broken ones, whose cell does not open. Rows are shown as hashes of their keys.

Exit codes: 0 proven · 2 bad flag, environment or manifest · 4 refused, the table or column was never prepared, or the
key does not fit · 5 not proven · 6 Postgres or key unavailable · 7 denied`

const verifyExample = `  cipherfleet verify --table users
  cipherfleet verify --schema crm --table "Contacts" --column phone --json`

func newVerify(read settings) *cobra.Command {
	var s scope
	asJSON := false
	c := &cobra.Command{Use: "verify", Short: "Open every cell and compare it with its source", Long: verifyLong, Example: verifyExample, Args: noArgs}
	s.flags(c.Flags())
	c.Flags().Lookup("column").Usage = "a source column; may be repeated (default: every registered column of the table)"
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error { return runVerify(c, &s, asJSON, read) }
	return c
}

func runVerify(c *cobra.Command, scope *scope, asJSON bool, read settings) error {
	if err := required(c, "table"); err != nil {
		return err
	}
	config, err := read()
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	if err := s.openKey(c.Context()); err != nil {
		return err
	}
	request := control.VerifyRequest{Columns: scope.columns}
	request.Schema, request.Table = scope.names(c)
	seen := meter(c.ErrOrStderr(), "verified")
	result, err := (&control.Verifier{DB: s.db, KEK: s.kek, Seen: seen}).Verify(c.Context(), request)
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(result)
	} else {
		err = printVerification(c.OutOrStdout(), result)
	}
	if err == nil && !result.Proven {
		err = &app.Fail{Code: app.CodeUnproven, Err: unproven(result), Hint: verifyHint(result)}
	}
	return err
}

// meter prints now and then how many rows are done.
func meter(w io.Writer, verb string) func(rows, of int64) {
	begun := time.Now()
	printed := begun
	return func(rows, of int64) {
		if time.Since(printed) < printEvery {
			return
		}
		printed = time.Now()
		fmt.Fprintf(w, "%s %d of about %d rows, %.0f rows/s\n", verb, rows, max(rows, of), float64(rows)/time.Since(begun).Seconds())
	}
}

func printVerification(w io.Writer, v control.Verification) error {
	var b strings.Builder
	for _, c := range v.Columns {
		word := "NOT PROVEN"
		if c.Proven {
			word = "proven"
		}
		fmt.Fprintf(&b, "%s.%s in %s: %s\n", v.Table, c.Column, c.Target, word)
		fmt.Fprintf(&b, "  %d rows: %d covered, %d uncovered, %d stale, %d broken\n", c.Rows, c.Covered, c.Uncovered, c.Stale, c.Broken)
		for _, number := range slices.Sorted(maps.Keys(c.Schemes)) {
			fmt.Fprintf(&b, "  scheme %d: %d cells\n", number, c.Schemes[number])
		}
		if len(c.Examples) > 0 {
			fmt.Fprintf(&b, "  hashes of the first keys: %s\n", strings.Join(c.Examples, " "))
		}
	}
	fmt.Fprintf(&b, "in %.1f s\n", v.Seconds)
	_, err := io.WriteString(w, b.String())
	return err
}

// unproven says in one line which columns are not.
func unproven(v control.Verification) error {
	var columns []string
	for _, c := range v.Columns {
		if !c.Proven {
			columns = append(columns, fmt.Sprintf("%s (%d uncovered, %d stale, %d broken)", c.Column, c.Uncovered, c.Stale, c.Broken))
		}
	}
	return errors.New("not every row of " + v.Table + " is covered: " + strings.Join(columns, ", "))
}

func verifyHint(v control.Verification) string {
	for _, c := range v.Columns {
		if c.Stale+c.Broken > 0 {
			return "find out who writes the target without cipherfleet, and whether capture is in place (cipherfleet status); " +
				"set the target of those rows to NULL, run cipherfleet backfill, and verify again"
		}
	}
	return "run cipherfleet backfill again: it does what is left; then verify again"
}
