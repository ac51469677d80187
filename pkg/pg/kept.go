package pg

import (
	"context"
	"fmt"
	"slices"
)

// keeper is what one connection remembers of its prepared statements.
type keeper struct {
	known map[string]kept // by text
	made  int             // statements ever prepared: no name comes twice
}

// kept is one prepared statement. It was parsed for these types of parameters.
type kept struct {
	name string
	oids []uint32
}

// keeper finds the connection's, which outlives its acquisition.
func (c *Conn) keeper() *keeper {
	const key = "cipherfleet.keeper"
	data := c.Raw().CustomData()
	k, there := data[key].(*keeper)
	if !there {
		k = &keeper{known: map[string]kept{}}
		data[key] = k
	}
	return k
}

// prepare makes sure that the session knows the statements that are kept, and returns their names; "" for the others.
func (c *Conn) prepare(ctx context.Context, statements []Statement) ([]string, error) {
	names := make([]string, len(statements))
	if !c.keeps {
		return names, nil
	}
	keeper := c.keeper()
	for i, s := range statements {
		if !s.Keep {
			continue
		}
		k, there := keeper.known[s.SQL]
		if !there {
			keeper.made++
			k = kept{fmt.Sprintf("cipherfleet_%d", keeper.made), s.OIDs}
			if _, err := c.Raw().Prepare(ctx, k.name, s.SQL, s.OIDs); err != nil {
				return nil, Safe(err)
			}
			keeper.known[s.SQL] = k
		}
		if slices.Equal(k.oids, s.OIDs) { // else it would be read as another type
			names[i] = k.name
		}
	}
	return names, nil
}

// unknownStatement is the server's answer to a name that its session does not know, after a DEALLOCATE for example.
const unknownStatement = "26000"

// forget lets the next flight prepare everything anew.
func (c *Conn) forget() { c.keeper().known = map[string]kept{} }
