package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const planLong = `Compare the manifest with the database, and say what is to be done, in which order, at what cost, and what stands in the
way. Nothing is changed, and it works before anything is installed.

For each column of the manifest: the steps to the phase that it is to reach, each with the command that takes it and
the lock that it needs; what the manifest wants otherwise than it is (type, target, key, scheme, indexes); what a
backfill costs; blockers, that is everything that backfill or cutover would refuse; and the flags that status has too.
Registered columns that the manifest does not name are listed. No step leads backward: where the manifest wants less
than there is, a warning says so.

Rows and widths come from a sample, or from the server's statistics. WAL counts a new version of each row, its index
entries, and one full image of each page. Disk is what is there twice until vacuum has run. Time is rows at the rate of
the last job of at least 1000 rows in this database; without one 20000 rows/s are assumed, which is a guess.

Exit codes: 0 nothing to do · 2 bad flag, environment or manifest · 3 there is work to do · 4 blocked · 6 Postgres
unavailable · 7 denied. They are what CI needs: 3 and 4 say everything on standard output.`

const planExample = `  cipherfleet plan
  cipherfleet plan --manifest crm.yaml --table contacts
  cipherfleet plan --json | jq '.columns[] | select(.blockers != []) | {table, column, blockers}'`

// exitCode ends a command that has said everything on standard output.
type exitCode int

// Error is for nobody.
func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func newPlan(read settings) *cobra.Command {
	var table, path string
	asJSON := false
	c := &cobra.Command{Use: "plan", Short: "Say what leads from what is to what the manifest wants", Long: planLong, Example: planExample, Args: noArgs}
	c.Flags().StringVar(&path, "manifest", "", "the manifest's file (CIPHERFLEET_MANIFEST)")
	c.Flags().StringVar(&table, "table", "", "only this table; also as schema.table")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, err := read()
		if err != nil {
			return err
		}
		config.Manifest = cmp.Or(path, config.Manifest)
		return runPlan(c, config, table, asJSON)
	}
	return c
}

func runPlan(c *cobra.Command, config app.Coordinator, table string, asJSON bool) error {
	request := roadmap.Request{Table: table}
	var err error
	if request.Manifest, err = loadManifest(config.Manifest); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("there is no manifest %s", config.Manifest),
				Hint: "cipherfleet init writes one; --manifest or CIPHERFLEET_MANIFEST names another"}
		}
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	request.Key = keyObstacle(c, config)
	r, err := roadmap.Read(c.Context(), s.db, request)
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(r)
	} else {
		err = printRoadmap(c.OutOrStdout(), r)
	}
	if err != nil {
		return err
	}
	switch r.Verdict {
	case roadmap.VerdictWork:
		return exitCode(app.CodeWaiting)
	case roadmap.VerdictBlocked:
		return exitCode(app.CodeRefused)
	}
	return nil
}

// keyObstacle says why the key-encryption key cannot be used; nil if it can.
func keyObstacle(c *cobra.Command, config app.Coordinator) *roadmap.Obstacle {
	uri, base, err := kekURI(config)
	if err == nil {
		_, err = config.OpenKEK(c.Context(), uri, base)
	}
	if err == nil {
		return nil
	}
	_, hint := app.Explain(err)
	return &roadmap.Obstacle{Kind: "key", Message: err.Error(), Hint: cmp.Or(hint, "cipherfleet init makes one; CIPHERFLEET_KEK names another")}
}

func printRoadmap(w io.Writer, r roadmap.Roadmap) error {
	var b strings.Builder
	for _, step := range r.Steps {
		fmt.Fprintf(&b, "first: %s\n  %s\n", step.Does, step.Command)
	}
	for _, c := range r.Columns {
		printRoad(&b, c)
	}
	for _, u := range r.Unlisted {
		fmt.Fprintf(&b, "not in the manifest: %s.%s, which is %s\n", u.Table, u.Column, cmp.Or(string(u.Phase), "not begun"))
	}
	printObstacles(&b, "", "BLOCKED", r.Blockers)
	printObstacles(&b, "", "warning", r.Warnings)
	for _, u := range r.Unknown {
		fmt.Fprintf(&b, "unknown: %s\n", u)
	}
	b.WriteString(conclusion(r) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// printRoad is a column: a line if there is nothing to say, else a paragraph.
func printRoad(b *strings.Builder, c roadmap.Column) {
	from, mark := cmp.Or(string(c.Phase), "not begun"), "→"
	switch {
	case len(c.Blockers) > 0:
		mark = "✗"
	case len(c.Steps) == 0 && len(c.Differences)+len(c.Flags) == 0:
		mark = "✓"
	}
	fmt.Fprintf(b, "%s %s.%s: %s", mark, c.Table, c.Column, from)
	if c.Phase != c.Reach {
		fmt.Fprintf(b, " → %s", c.Reach)
	}
	b.WriteString("\n")
	for i, step := range c.Steps {
		fmt.Fprintf(b, "  %d. %s\n", i+1, step.Does)
		if step.Command != "" {
			fmt.Fprintf(b, "     $ %s\n", step.Command)
		}
		if step.Lock != "none" {
			fmt.Fprintf(b, "     lock: %s\n", step.Lock)
		}
	}
	if c.Cost != nil {
		fmt.Fprintf(b, "  cost     %s\n", costLine(*c.Cost))
	}
	for _, d := range c.Differences {
		fmt.Fprintf(b, "  differs  %s: wanted %s, is %s\n", d.What, d.Wanted, d.Is)
	}
	printObstacles(b, "  ", "BLOCKED", c.Blockers)
	printObstacles(b, "  ", "warning", c.Warnings)
	if len(c.Flags) > 0 {
		fmt.Fprintf(b, "  flags    %s\n", strings.Join(c.Flags, ", "))
	}
}

func printObstacles(b *strings.Builder, indent, word string, list []roadmap.Obstacle) {
	for _, o := range list {
		fmt.Fprintf(b, "%s%s  %s\n%s         %s\n", indent, word, o.Message, indent, o.Hint)
	}
}

func costLine(c roadmap.Cost) string {
	how := "measured by the last job"
	if !c.Measured {
		how = "a guess: no job here was large enough to measure"
	}
	text := fmt.Sprintf("about %d rows, %s of WAL, %s more on disk until vacuum, %v at %.0f rows/s (%s)", c.Rows, size(c.WALBytes), size(c.DiskBytes),
		time.Duration(c.Seconds)*time.Second, c.PerSecond, how)
	if c.Guessed {
		text += "; the width of values is a guess: no statistics could be read"
	}
	return text
}

// size is a number of bytes for a person.
func size(bytes int64) string {
	amount, units := float64(bytes), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && amount >= 1024 {
		amount, units = amount/1024, units[1:]
	}
	return fmt.Sprintf("%.0f %s", amount, units[0])
}

func conclusion(r roadmap.Roadmap) string {
	work, blocked := 0, 0
	for _, c := range r.Columns {
		if len(c.Blockers) > 0 {
			blocked++
		}
		if len(c.Steps) > 0 {
			work++
		}
	}
	switch r.Verdict {
	case roadmap.VerdictDone:
		return fmt.Sprintf("nothing to do: columns as the manifest wants them: %d", len(r.Columns))
	case roadmap.VerdictBlocked:
		return fmt.Sprintf("blocked: of %d columns %d have steps to take, and %d are blocked", len(r.Columns), work, blocked)
	}
	return fmt.Sprintf("work to do: of %d columns %d have steps to take", len(r.Columns), work)
}
