package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const installLong = `Create schema cipherfleet in the database, or bring it up to this program's version.

It holds what Cipherfleet remembers: columns, schemes, wrapped keys, jobs, ranges and the append-only event log. Nothing
outside of it is touched. Running it again changes nothing, and so does running it twice at once. serve and backfill do
the same when they begin; this command is for those whose role may create a schema when that of the fleet may not.

For those whose DDL goes through a migration tool, --out writes the same as a migration in that tool's --format, and
--print writes it to standard output. That needs no database. With --from it holds only what leads on from that version.

  sql             a script that keeps its own transaction, and NAME.down.sql for the way back
  golang-migrate  NUMBER_name.up.sql and NUMBER_name.down.sql
  goose           one file with both ways
  drizzle         one file; drizzle runs only what its journal lists, so let drizzle-kit generate --custom make an
                  empty one, and replace that with --force; the way back is in NAME.down.sql, for you to run

The way back drops the schema only if no column holds cells any more, and raises an error otherwise: without its keys no
cell could ever be opened. --out may be a folder; then the file gets the next number there.

Exit codes: 0 installed, written, or nothing to do · 2 bad flag or environment · 4 refused: the schema is newer than
this program, the server is read-only, or a file is there already · 6 Postgres unavailable · 7 denied`

const installExample = `  cipherfleet install
  cipherfleet install --print > migrations/0042_cipherfleet.sql
  cipherfleet install --format goose --out migrations/`

type installOptions struct {
	file                  migrationOut
	from                  int
	print, asJSON, dryRun bool
}

func newInstall(read settings) *cobra.Command {
	o := &installOptions{}
	c := &cobra.Command{Use: "install", Short: "Create schema cipherfleet, or bring it up to date", Long: installLong, Example: installExample, Args: noArgs}
	f := c.Flags()
	o.file.flags(f)
	f.IntVar(&o.from, "from", 0, "of a file: the schema's version where it will run; 0 is none")
	f.BoolVar(&o.print, "print", false, "write the DDL to standard output and change nothing")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be done and change nothing")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.check(c); err != nil {
			return err
		}
		switch {
		case o.print && o.file.style == styleSQL && o.from == 0:
			return lifecycle.Print(c.OutOrStdout())
		case o.print, o.file.out != "":
			return o.write(c)
		}
		return o.install(c, read)
	}
	return c
}

func (o *installOptions) check(c *cobra.Command) error {
	file := o.print || o.file.out != ""
	switch {
	case o.print && o.asJSON:
		return usage(errors.New("--print writes SQL and --json writes JSON: choose one"), c)
	case o.print && o.file.out != "":
		return usage(errors.New("--print writes to standard output and --out to a file: choose one"), c)
	case !file && (c.Flags().Changed("format") || c.Flags().Changed("from")):
		return usage(errors.New("--format and --from are about a file: add --out or --print"), c)
	}
	if version, err := lifecycle.Version(); err != nil {
		return err
	} else if o.from < 0 || o.from > 0 && o.from >= version {
		return usage(fmt.Errorf("--from was %d; accepted is 0 to %d", o.from, version-1), c)
	}
	return o.file.check(c)
}

// write is install as a file. The way back of most styles is a file of its own, so it is not printed.
func (o *installOptions) write(c *cobra.Command) error {
	m, err := installation(o.from)
	if err != nil {
		return err
	}
	file := o.file
	if o.dryRun {
		file.out = ""
	}
	scripts, err := file.render(m, time.Now())
	if err == nil {
		err = file.save(scripts)
	}
	switch {
	case err != nil:
		return err
	case o.asJSON && !o.dryRun:
		version, err := lifecycle.Version()
		if err != nil {
			return err
		}
		return json.NewEncoder(c.OutOrStdout()).Encode(installWritten{messages.Version, o.from, version, paths(scripts)})
	case file.out == "":
		_, err = io.WriteString(c.OutOrStdout(), scripts[0].Text)
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s\n", strings.Join(paths(scripts), " and "))
	return err
}

// installed is what install did: the versions of the schema before and after. 0 is none.
type installed struct {
	V      int  `json:"v"`
	Before int  `json:"before"`
	Schema int  `json:"schema"`
	DryRun bool `json:"dry_run,omitempty"`
}

// installWritten is what install wrote instead of installing: the migration's files.
type installWritten struct {
	V      int      `json:"v"`
	Before int      `json:"before"`
	Schema int      `json:"schema"`
	Files  []string `json:"files"`
}

func (o *installOptions) install(c *cobra.Command, read settings) error {
	s, err := read.open(c)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	did := installed{V: messages.Version, DryRun: o.dryRun}
	if did.Before, err = lifecycle.Installed(c.Context(), s.db); err != nil {
		return err
	}
	if did.Schema, err = lifecycle.Version(); err != nil {
		return err
	}
	switch {
	case did.Before > did.Schema:
		return &lifecycle.NewerError{Installed: did.Before, Known: did.Schema}
	case !o.dryRun:
		if err := lifecycle.Install(c.Context(), s.db); err != nil {
			return err
		}
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(did)
	}
	return did.print(c.OutOrStdout())
}

func (i installed) print(w io.Writer) error {
	text := fmt.Sprintf("schema cipherfleet is at version %d already\n", i.Schema)
	switch {
	case i.DryRun && i.Before < i.Schema:
		text = fmt.Sprintf("would bring schema cipherfleet from version %d to version %d\n", i.Before, i.Schema)
	case i.Before == 0:
		text = fmt.Sprintf("installed schema cipherfleet, version %d\n", i.Schema)
	case i.Before < i.Schema:
		text = fmt.Sprintf("brought schema cipherfleet from version %d to version %d\n", i.Before, i.Schema)
	}
	_, err := io.WriteString(w, text)
	return err
}
