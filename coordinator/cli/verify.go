package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const verifyLong = `Open every cell of the named columns and compare it with its source, row by row.

It is the only proof that a column is encrypted: a row is covered when its target holds a cell that opens to its present
source, or when both are NULL and the scheme keeps NULL; under one that seals it a cell holds NULL, too. Every row is
read once, in short transactions, in constant memory; nothing is written but one event for each column, with counts.
Rows that applications change meanwhile are judged as they are when they are read. It may be run in any phase; where the
plaintext is gone, every cell is opened and authenticated, and says so.

What it counts: covered rows; uncovered ones, whose target is missing or left over; stale ones, whose cell is of another
value; broken ones, whose cell does not open, and how many of those name a scheme or key that nobody has. A nonce that
two cells under one key share is a failure too: all nonces are compared up to 262144 cells, and above that a share of
them that is picked by their own bits. Rows are shown as hashes of their keys.

The tokens of blind indexes beside the cells, of those that are filling or ready, are made again in the same pass and
compared: how many are right, missing or wrong stands below their column. None may be wrong, and none missing where the
index is ready; what the column itself proves does not depend on them.

--sample 5% reads one in twenty runs of 16 neighbouring blocks, picked at random and spread over the whole table. What
it finds counts; that it finds nothing is no proof, and no cutover takes it for one.

--report FILE writes the result as JSON, and beside it, with the ending .txt, as text. Its digest is a sum over all rows
of HMACs of key and value, keyed by the column's oldest key: two verifies of the same rows agree on it, whatever the
order and whatever the rows are sealed under, and it tells nothing to those who have no key.

Exit codes: 0 proven, or nothing wrong in the sample · 2 bad flag, environment or manifest · 4 refused, the table or
column was never prepared, or the key does not fit · 5 a column or a blind index is not proven · 6 Postgres or key
unavailable · 7 denied`

const verifyExample = `  cipherfleet verify --table users
  cipherfleet verify --schema crm --table "Contacts" --column phone --json
  cipherfleet verify --table users --sample 5%
  cipherfleet verify --table users --report proof.json`

type verifyOptions struct {
	scope          scope
	sample, report string
	asJSON         bool
}

func newVerify(read settings) *cobra.Command {
	o := &verifyOptions{}
	c := &cobra.Command{Use: "verify", Short: "Open every cell and compare it with its source", Long: verifyLong, Example: verifyExample, Args: noArgs}
	f := c.Flags()
	o.scope.flags(f)
	f.Lookup("column").Usage = "a source column; may be repeated (default: every registered column of the table)"
	f.StringVar(&o.sample, "sample", "", "read only so many percent of the table's blocks, as in 5%")
	f.StringVar(&o.report, "report", "", "write the result to this file as JSON, and as text beside it")
	f.BoolVar(&o.asJSON, "json", false, "print the result as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error { return o.run(c, read) }
	return c
}

func (o *verifyOptions) run(c *cobra.Command, read settings) error {
	if err := required(c, "table"); err != nil {
		return err
	}
	request := verify.Request{Columns: o.scope.columns}
	request.Schema, request.Table = o.scope.names(c)
	var err error
	if request.Sample, err = percentage(o.sample); err != nil {
		return usage(err, c)
	}
	s, err := read.open(c)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	if _, _, err := kekURI(s.config); err != nil {
		return err
	}
	keyless := s.openKey(c.Context()) // counts if something is to be opened
	files, err := openReport(o.report)
	if err != nil {
		return err
	}
	defer files.discard()
	result, err := (&verify.Verifier{DB: s.db, KEK: s.kek, Foreign: s.foreign, Seen: meter(c.ErrOrStderr(), "verified")}).Verify(c.Context(), request)
	if errors.Is(err, verify.ErrNoKEK) {
		return keyless
	}
	if err != nil {
		return err
	}
	if err := files.keep(result); err != nil {
		return err
	}
	if o.asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(result)
	} else {
		err = page.Verification(c.OutOrStdout(), result)
	}
	if err == nil && !(result.Proven && result.TokensProven) {
		err = &app.Fail{Code: app.CodeUnproven, Err: unproven(result), Hint: verifyHint(result)}
	}
	return err
}

// percentage reads 5 or 5%; nothing is 0.
func percentage(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !(percent > 0 && percent < 100) {
		return 0, fmt.Errorf("--sample was %q; accepted is a percentage above 0 and below 100, as in 5%%", text)
	}
	return percent, nil
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

// unproven says in one line which columns are not, and which blind indexes.
func unproven(v verify.Result) error {
	var parts []string
	if !v.Proven {
		parts = append(parts, unprovenColumns(v))
	}
	var indexes []string
	for _, c := range v.Columns {
		for _, x := range c.Indexes {
			if !x.Proven {
				indexes = append(indexes, page.Tokens(c, x))
			}
		}
	}
	if len(indexes) > 0 {
		parts = append(parts, "not every token of "+v.Table+" is right: "+strings.Join(indexes, ", "))
	}
	return errors.New(strings.Join(parts, "; "))
}

func unprovenColumns(v verify.Result) string {
	var columns []string
	for _, c := range v.Columns {
		if !c.Proven {
			column := fmt.Sprintf("%s (%d uncovered, %d stale, %d broken)", c.Column, c.Uncovered, c.Stale, c.Broken)
			if c.Nonces.Repeated > 0 {
				column += fmt.Sprintf(" and %d nonces of %s are used twice", c.Nonces.Repeated, c.Column)
			}
			columns = append(columns, column)
		}
	}
	return "not every row of " + v.Table + " is covered: " + strings.Join(columns, ", ")
}

func verifyHint(v verify.Result) string {
	for _, c := range v.Columns {
		if c.Nonces.Repeated > 0 {
			return "trust nothing that is sealed under that key: find out what drew its nonces (a copied machine image, a broken source of random numbers)"
		}
		if c.Stale == 0 && c.Broken > 0 && c.Broken == c.Unknown {
			return "nobody can open a cell whose scheme or key the registry does not have: if a tenant was shredded, or a scheme destroyed, that is as it should be, " +
				"and those rows are deleted, or their cells set to NULL; else bring the rows of cipherfleet.deks back from a backup"
		}
		if c.Broken > 0 && c.Source == "" {
			return "the plaintext of " + c.Column + " is gone, and nothing here makes such a cell again: bring those rows' cells back from a backup, or have the application write the values anew; " +
				"find out who writes " + strconv.Quote(c.Target) + " without cipherfleet; then verify again"
		}
		if c.Stale+c.Broken > 0 {
			return "find out who writes the target without cipherfleet, and whether capture is in place (cipherfleet status); " +
				"set the target of those rows to NULL, run cipherfleet backfill, and verify again"
		}
	}
	if v.Proven {
		return tokensHint(v)
	}
	indexed := func(c verify.ColumnReport) bool { return len(c.Indexes) > 0 }
	if slices.ContainsFunc(v.Columns, indexed) { // backfill writes cells alone
		return "run cipherfleet backfill again: it does what is left; then cipherfleet index build, which makes the tokens that are missing; then verify again"
	}
	var mends []string
	for _, c := range v.Columns {
		if !c.Proven && c.Mend == "" {
			return "run cipherfleet backfill again: it does what is left; then verify again"
		}
		if !c.Proven {
			mends = append(mends, c.Mend)
		}
	}
	return "run " + strings.Join(mends, ", and ") + ": rows without a cell are read as NULL, and get the cell of one; then verify again"
}

// tokensHint is about columns whose cells are all proven.
func tokensHint(v verify.Result) string {
	hint := "cipherfleet index build makes the tokens that are missing; then verify again"
	for _, c := range v.Columns {
		for _, x := range c.Indexes {
			switch {
			case x.Unread != "":
				return "bring what is gone back from a backup, or make another generation: cipherfleet index new --next, then index build, then index drop of the old one"
			case x.Wrong > 0:
				hint = "find out who writes column " + strconv.Quote(x.Tokens) + " without cipherfleet; set the tokens of those rows, or of all, to NULL, run cipherfleet index build, which makes them again, and verify again"
			}
		}
	}
	return hint
}
