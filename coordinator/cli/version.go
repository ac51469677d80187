package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

func newVersion() *cobra.Command {
	asJSON := false
	c := &cobra.Command{Use: "version", Short: "Print what this program is and what it speaks", Args: noArgs,
		Long: "Print the program's version, and those of its schema and its messages.\n\nExit codes: 0.", Example: "  cipherfleet version --json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		schema, err := lifecycle.Version()
		if err != nil {
			return err
		}
		v := struct {
			Version  string `json:"version"`
			Go       string `json:"go"`
			Schema   int    `json:"schema"`
			Messages int    `json:"messages"`
		}{app.Version(), runtime.Version(), schema, messages.Version}
		if asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(v)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "cipherfleet %s (%s, schema %d, messages %d)\n", v.Version, v.Go, v.Schema, v.Messages)
		return err
	}
	return c
}
