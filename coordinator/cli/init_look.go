package cli

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// introspect proposes columns and writes nothing.
func (o *initOptions) introspect(c *cobra.Command, read settings) error {
	for _, flag := range []string{"target", "key", "user-triggers", "manifest", "force"} {
		if c.Flags().Changed(flag) {
			return usage(errors.New("--introspect writes no manifest: leave --"+flag+" out"), c)
		}
	}
	request := roadmap.IntrospectRequest{Columns: o.scope.columns}
	if o.scope.table != "" {
		schema, table := o.scope.names(c)
		request.Table = &pg.Table{Schema: schema, Name: table}
	} else if len(o.scope.columns) > 0 || c.Flags().Changed("schema") {
		return usage(errors.New("--table is missing"), c)
	}
	s, err := read.open(c)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	found, err := roadmap.Introspect(c.Context(), s.db, request)
	if err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(found)
	}
	return page.Introspection(c.OutOrStdout(), found)
}
