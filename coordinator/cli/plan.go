package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/app"
)

const planLong = `Compare the manifest with the database, and say what is to be done, in which order, at what cost, and what stands in the
way. Nothing is changed, and it works before anything is installed.

For each column of the manifest: the steps to the phase that it is to reach, each with the command that takes it and
the lock that it needs, columns of a table that are ready for their backfill with one command together; what the
manifest wants otherwise than it is (type, target, key, scheme, indexes; a where: is a step); what a backfill costs;
blockers, that is everything that backfill or cutover would refuse, a where: that Postgres does not take among it; and
the flags that status has too. Registered columns that the manifest does not name are listed. No step leads backward:
where the manifest wants less than there is, a warning says so.

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
	request.Key, request.Proxy = keyObstacle(c, config), proxyObstacle(config)
	r, err := roadmap.Read(c.Context(), s.db, request)
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(c.OutOrStdout()).Encode(r)
	} else {
		err = page.Roadmap(c.OutOrStdout(), r)
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

// proxyObstacle says that no encrypting proxy is configured; nil if one is.
func proxyObstacle(config app.Coordinator) *roadmap.Obstacle {
	if config.ProxyURL != "" {
		return nil
	}
	return &roadmap.Obstacle{Kind: "proxy", Message: "a column of transform proxy is written through an encrypting proxy, and CIPHERFLEET_PROXY_URL is not set",
		Hint: "set it to the proxy's address and this database's name, for coordinator and workers"}
}
