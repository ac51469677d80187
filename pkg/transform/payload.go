package transform

import (
	"encoding/json"
	"slices"
)

// Payload is what a JSON payload of one column has to say of itself, in the manner of EQL: a version v, an identity i
// with the table t and the column c that it belongs to, and a ciphertext c or its parts sv. It is no proof: only the
// encrypter can open what it made.
type Payload struct {
	Tables, Columns []string // names that i may give
}

// Fits says whether a document is such a payload.
func (p Payload) Fits(document []byte) bool {
	var payload map[string]any // and no struct: its names are those of any case
	if json.Unmarshal(document, &payload) != nil {
		return false
	}
	identity, _ := payload["i"].(map[string]any)
	_, versioned := payload["v"].(float64)
	_, whole := payload["c"]
	_, parts := payload["sv"]
	table, _ := identity["t"].(string)
	column, _ := identity["c"].(string)
	return versioned && slices.Contains(p.Tables, table) && slices.Contains(p.Columns, column) && (whole || parts)
}
