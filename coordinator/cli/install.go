package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

const installLong = `Create schema cipherfleet in the database, or bring it up to this program's version.

It holds what Cipherfleet remembers: columns, schemes, wrapped keys, jobs, ranges and the append-only event log. Nothing
outside of it is touched. Running it again changes nothing, and so does running it twice at once. serve and backfill do
the same when they begin; this command is for those whose role may create a schema when that of the fleet may not.

With --print the DDL goes to standard output, one transaction per version, for those whose DDL goes through their own
migrations. That needs no database.

Exit codes: 0 installed, or nothing to do · 2 bad flag or environment · 4 refused: the schema is newer than this
program, or the server is read-only · 6 Postgres unavailable · 7 denied`

const installExample = `  cipherfleet install
  cipherfleet install --print > migrations/0042_cipherfleet.sql`

func newInstall(read settings) *cobra.Command {
	var print, asJSON bool
	c := &cobra.Command{Use: "install", Short: "Create schema cipherfleet, or bring it up to date", Long: installLong, Example: installExample, Args: noArgs}
	c.Flags().BoolVar(&print, "print", false, "write the DDL to standard output and change nothing")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case print && asJSON:
			return usage(errors.New("--print writes SQL and --json writes JSON: choose one"), c)
		case print:
			return lifecycle.Print(c.OutOrStdout())
		}
		return runInstall(c, read, asJSON)
	}
	return c
}

// installed is what install did: the versions of the schema before and after. 0 is none.
type installed struct {
	V      int `json:"v"`
	Before int `json:"before"`
	Schema int `json:"schema"`
}

func runInstall(c *cobra.Command, read settings, asJSON bool) error {
	config, err := read()
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	did := installed{V: messages.Version}
	if did.Before, err = lifecycle.Installed(c.Context(), s.db); err != nil {
		return err
	}
	if err := lifecycle.Install(c.Context(), s.db); err != nil {
		return err
	}
	if did.Schema, err = lifecycle.Version(); err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(did)
	}
	return did.print(c.OutOrStdout())
}

func (i installed) print(w io.Writer) error {
	text := fmt.Sprintf("schema cipherfleet is at version %d already\n", i.Schema)
	switch {
	case i.Before == 0:
		text = fmt.Sprintf("installed schema cipherfleet, version %d\n", i.Schema)
	case i.Before < i.Schema:
		text = fmt.Sprintf("brought schema cipherfleet from version %d to version %d\n", i.Before, i.Schema)
	}
	_, err := io.WriteString(w, text)
	return err
}
