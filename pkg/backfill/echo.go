package backfill

import (
	"bytes"
	"errors"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
)

// errAltered says that a plaintext is stored otherwise than it was sent. The transaction must not commit.
var errAltered = errors.New("a value was altered on its way into the table")

// compareEcho compares what is stored now with what was sent for a row of the span, under the same pinned settings.
func compareEcho(s *shape.Shape, sent span, row int, stored [][]byte) error {
	next := 0
	for i, c := range s.Columns {
		if !c.Output().Echoed {
			continue
		}
		out := sent.values[i][row].Out
		if (out == nil) != (stored[next] == nil) || !bytes.Equal(out, stored[next]) {
			return errAltered
		}
		next++
	}
	return nil
}
