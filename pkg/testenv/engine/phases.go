package engine

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// CutOver gives the cells their sources' names, as a cutover does; from then on the kit's jobs run in reverse.
func (k *Kit) CutOver() {
	k.T.Helper()
	for i, spec := range k.Columns {
		c := ddl.Column{ID: spec.ID, Table: k.Table, Source: spec.Source, Target: spec.Target, Key: k.Key().Names(), Nulls: bool(k.Nulls)}
		statements := append(c.Capture().Undo,
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.Table.SQL(), pg.Ident(c.Source), pg.Ident(c.Source+"_plaintext")),
			fmt.Sprintf("ALTER TABLE %s RENAME %s TO %s", k.Table.SQL(), pg.Ident(c.Target), pg.Ident(c.Source)))
		c.Source, c.Target = spec.Source+"_plaintext", spec.Source
		for _, statement := range append(statements, c.ReverseCapture().Do...) {
			k.DB.Run(k.T, statement)
		}
		k.Columns[i].Source, k.Columns[i].Target, k.Columns[i].Reverse = c.Source, c.Target, true
		event := lifecycle.Event{Table: spec.LogTable, Column: spec.LogColumn, Kind: lifecycle.KindCutOver}
		check(k.T, k.DB.InTx(k.T.Context(), func(tx pg.Tx) error {
			_, err := (&lifecycle.Log{}).Append(k.T.Context(), tx, event)
			return err
		}))
	}
	k.Relation = k.Inspect(k.T.Context())
}

// Scheme makes another scheme of the kit's first column, like the one it has but for what alter says, and loads it.
func (k *Kit) Scheme(ctx context.Context, number uint16, alter func(*cell.Scheme)) uint16 {
	k.T.Helper()
	scheme, _ := k.Keyring.Scheme(k.Columns[0].ID, k.Columns[0].Scheme)
	scheme.Number, scheme.KeyID = number, 0
	if alter != nil {
		alter(&scheme)
	}
	must(lifecycle.ActivateScheme(ctx, k.DB.DB, k.KEK, scheme))(k.T)
	k.Keyring = must(testenv.LoadKeyring(ctx, k.DB, k.KEK))(k.T)
	return number
}

// Rotate lets the kit's next job seal the cells of its first column anew.
func (k *Kit) Rotate(ctx context.Context, number uint16) {
	k.T.Helper()
	c := &k.Columns[0]
	state := must(lifecycle.Latest(ctx, k.DB, c.LogTable, c.LogColumn))(k.T)
	c.Rotate, c.Reverse, c.Scheme, c.Phase = true, false, number, state.Phase
}
