package scheme

import (
	"context"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/blind"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Key is one data key of the registry, without the key.
type Key struct {
	ID        uint32                `json:"id"`
	Table     string                `json:"table"`
	Column    string                `json:"column"`
	Scheme    uint16                `json:"scheme"`          // 0: it is a blind index's
	Index     string                `json:"index,omitempty"` // name of the blind index
	State     lifecycle.SchemeState `json:"state"`           // of its scheme; of a blind index active or destroyed
	Suite     string                `json:"suite"`
	Tenant    string                `json:"tenant"` // "": of all rows, or of those of no tenant
	KEK       string                `json:"kek"`    // what it was wrapped under
	Created   time.Time             `json:"created"`
	Destroyed *time.Time            `json:"destroyed"`
}

// Keys is every data key there ever was.
type Keys struct {
	V    int   `json:"v"`
	Keys []Key `json:"keys"`
}

// Keys lists them, in the order of their ids.
func (r *Registry) Keys(ctx context.Context) (Keys, error) {
	all := Keys{V: messages.Version, Keys: []Key{}}
	err := standing.Reading(ctx, r.DB, "30s", func(tx pg.Tx) error {
		if err := standing.CheckInstalled(ctx, tx); err != nil {
			return err
		}
		rows, err := lifecycle.KeyRows(ctx, tx)
		if err != nil {
			return err
		}
		columns, err := lifecycle.Registered(ctx, tx)
		if err != nil {
			return err
		}
		names := map[uint32]lifecycle.Column{}
		for _, c := range columns {
			names[c.ID] = c
		}
		for _, k := range rows {
			c, live := names[k.Column]
			if !live {
				if c, err = lifecycle.ColumnByID(ctx, tx, k.Column); err != nil {
					return err
				}
				names[k.Column] = c
			}
			key := Key{ID: k.ID, Table: c.Table.String(), Column: c.Source, Scheme: k.Scheme, Index: k.Index, State: k.State, Suite: preflight.SuiteName(k.Suite), Tenant: k.Tenant, KEK: k.KEK, Created: k.Created}
			if !k.Destroyed.IsZero() {
				key.Destroyed = &k.Destroyed
			}
			all.Keys = append(all.Keys, key)
		}
		return nil
	})
	return all, err
}

// Wrapping is what became of the keys that were to be wrapped anew.
type Wrapping struct {
	V       int    `json:"v"`
	KEK     string `json:"kek"`     // what they are wrapped under
	Changed int    `json:"changed"` // keys that were wrapped anew
	Kept    int    `json:"kept"`    // that were under it already
}

// Wrap wraps every data key under the KEK to: another one than the registry's, or the same for its newest version. After
// a failure half-way the next call goes on.
func (r *Registry) Wrap(ctx context.Context, to cell.KEK) (Wrapping, error) {
	w := Wrapping{V: messages.Version, KEK: to.URI()}
	told := func(key lifecycle.Wrapped) {
		if key.Changed {
			w.Changed++
		} else {
			w.Kept++
		}
	}
	err := r.registrar().WrapAnew(ctx, to, told)
	if err == nil {
		err = blind.Registrar{Registrar: r.registrar()}.WrapAnew(ctx, to, told)
	}
	return w, err
}
