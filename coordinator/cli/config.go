package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

const configLong = `Show what is configured, and by whom.

config show prints every value that the commands of this program would use here and now, and where it comes from: a
default, an environment variable, a flag, or the manifest. Passwords and tokens are hidden. Nothing is connected to.

Exit codes: 0 shown · 2 bad flag, environment or manifest`

const configExample = `  cipherfleet config show
  cipherfleet config show --manifest crm.yaml --json | jq '.settings[] | select(.origin != "default")'`

// configuration is what config show prints.
type configuration struct {
	V        int           `json:"v"`
	Settings []app.Setting `json:"settings"`
}

func newConfig(read settings) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Show what is configured, and by whom", Long: configLong, Example: configExample}
	c.AddCommand(newConfigShow(read))
	return c
}

func newConfigShow(read settings) *cobra.Command {
	path, asJSON := "", false
	c := &cobra.Command{Use: "show", Short: "Print every value and its origin", Long: configLong, Example: configExample, Args: noArgs}
	c.Flags().StringVar(&path, "manifest", "", "the manifest's file (CIPHERFLEET_MANIFEST)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, err := read()
		if err != nil {
			return err
		}
		config.Manifest = cmp.Or(path, config.Manifest)
		shown, err := effective(config, path != "")
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(c.OutOrStdout()).Encode(shown)
		} else {
			err = shown.print(c.OutOrStdout())
		}
		return errors.Join(err, config.Validate())
	}
	return c
}

// effective puts environment, flags and manifest together.
func effective(config app.Coordinator, byFlag bool) (configuration, error) {
	m, err := loadManifest(config.Manifest)
	given := map[string]bool{}
	if err == nil {
		given, err = manifest.Given(config.Manifest)
	} else if errors.Is(err, os.ErrNotExist) {
		m, err = manifest.Default(), nil
	}
	if err != nil {
		return configuration{}, err
	}
	shown := configuration{V: messages.Version, Settings: config.Settings()}
	for i := range shown.Settings {
		s := &shown.Settings[i]
		switch {
		case s.Name == "CIPHERFLEET_MANIFEST" && byFlag:
			s.Origin = "flag --manifest"
		case s.Name == "CIPHERFLEET_KEK" && s.Value == "":
			s.Value, s.Origin = cmp.Or(m.KEK, defaultKEK), origin(given["kek"], config.Manifest)
		}
	}
	for _, s := range fleetSettings(m.Fleet) {
		s.Origin = origin(given[s.Name], config.Manifest)
		shown.Settings = append(shown.Settings, s)
	}
	return shown, nil
}

func origin(given bool, path string) string {
	if given {
		return "manifest " + path
	}
	return app.OriginDefault
}

// fleetSettings are the manifest's that are heeded, by their paths in it.
func fleetSettings(f manifest.Fleet) []app.Setting {
	return []app.Setting{
		{Name: "fleet.chunk.rows", Value: strconv.Itoa(f.Chunk.Rows), Meaning: "most rows in one transaction"},
		{Name: "fleet.user_triggers", Value: f.UserTriggers, Meaning: "what becomes of a table's own triggers"},
	}
}

func (c configuration) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range c.Settings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, cmp.Or(s.Value, "-"), s.Origin)
	}
	return table.Flush()
}
