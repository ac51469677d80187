package messages

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Bounds of one request to a user's own encrypter. A request fits into a NATS message of the default size.
const (
	MostExternalValues = 500
	MostExternalBytes  = 512 << 10 // of values, before JSON escapes them
)

// ExternalRequest hands values of one column to a user's own encrypter. It is the one message that holds plaintext:
// it goes to the subject that the manifest names for that purpose, and to nobody else.
type ExternalRequest struct {
	V      int             `json:"v"`
	Table  string          `json:"table"`         // schema.table
	Column string          `json:"column"`        // the source
	Key    string          `json:"key,omitempty"` // the encrypter's own name for the column, from the manifest
	Values []ExternalValue `json:"values"`
}

// ExternalValue is one value of a request, as Postgres prints it. IDs count up from 0.
type ExternalValue struct {
	ID    int    `json:"id"`
	Value string `json:"value"`
}

// ExternalAnswer is what the encrypter makes of a request: as many results, in the same order. Or an error that says
// why it cannot do any of them now; it is shown to operators and must hold no value.
type ExternalAnswer struct {
	V       int              `json:"v"`
	Results []ExternalResult `json:"results,omitempty"`
	Error   string           `json:"error,omitempty"`
}

// ExternalResult is one value's ciphertext: a JSON string is what the target column's type reads, anything else is
// taken as JSON. Refused says that this value can never be encrypted: its row goes into quarantine.
type ExternalResult struct {
	ID      int             `json:"id"`
	Value   json.RawMessage `json:"value,omitempty"`
	Refused bool            `json:"refused,omitempty"`
}

// Marshal writes the body in the current version whatever V says.
func (r ExternalRequest) Marshal() ([]byte, error) {
	r.V = Version
	return json.Marshal(r)
}

// ParseExternalRequest reads a request; ignoring fields it does not know; errors are ErrVersion and ErrMalformed.
func ParseExternalRequest(body []byte) (ExternalRequest, error) {
	var r ExternalRequest
	if err := readTolerantly(body, &r); err != nil {
		return ExternalRequest{}, fmt.Errorf("read external request: %w", err)
	}
	return r, nil
}

// Marshal writes the body in the current version whatever V says.
func (a ExternalAnswer) Marshal() ([]byte, error) {
	a.V = Version
	return json.Marshal(a)
}

// ParseExternalAnswer reads an answer; ignoring fields it does not know; errors are ErrVersion and ErrMalformed.
func ParseExternalAnswer(body []byte) (ExternalAnswer, error) {
	var a ExternalAnswer
	if err := readTolerantly(body, &a); err != nil {
		return ExternalAnswer{}, fmt.Errorf("read external answer: %w", err)
	}
	return a, nil
}

// Text is what the result's target column is to read.
func (r ExternalResult) Text() ([]byte, error) {
	if len(r.Value) == 0 || string(r.Value) == "null" {
		return nil, errors.New("read an external result: it has no value")
	}
	if r.Value[0] != '"' {
		return r.Value, nil
	}
	var text string
	if err := json.Unmarshal(r.Value, &text); err != nil {
		return nil, errors.New("read an external result: its string is damaged")
	}
	return []byte(text), nil
}
