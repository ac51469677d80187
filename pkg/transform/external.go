package transform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cipherfleet/cipherfleet/messages"
)

// External hands values to a user's own encrypter, in any language, and proves what can be proved of its answers: as
// many results as values, in the same order, and none that shows its plaintext. Values travel as Postgres prints them.
type External struct {
	Table, Column string
	Key           string // the encrypter's own name for the column
	// Ask sends one request and waits for its answer. Whatever it returns as an error may pass.
	Ask func(ctx context.Context, request messages.ExternalRequest) (messages.ExternalAnswer, error)
}

var (
	errForeignAnswer = errors.New("the encrypter's answer does not fit the request")
	// ErrLeak says that the encrypter's answer shows the plaintext. It is no value's fault, so nothing is set aside.
	ErrLeak = errors.New("the encrypter gave plaintext back")
)

// Apply asks for the values in batches. An error means that the whole chunk must be thrown away; it is [ErrValue] if
// one of the values can never be encrypted.
func (x *External) Apply(ctx context.Context, values []Value) error {
	for i := range values {
		values[i].Out = nil
		if len(values[i].In) > messages.MostExternalBytes {
			return fmt.Errorf("hand a value of %s.%s to its encrypter: it is longer than a message may be: %w", x.Table, x.Column, ErrValue)
		}
	}
	for rest := values; len(rest) > 0; {
		n := x.batch(rest)
		if err := x.ask(ctx, rest[:n]); err != nil {
			return fmt.Errorf("hand values of %s.%s to their encrypter: %w", x.Table, x.Column, err)
		}
		rest = rest[n:]
	}
	return nil
}

// batch is how many of the values fit into one request; at least one.
func (x *External) batch(values []Value) int {
	size := 0
	for i, v := range values {
		if size += len(v.In); i > 0 && size > messages.MostExternalBytes || i == messages.MostExternalValues {
			return i
		}
	}
	return len(values)
}

func (x *External) ask(ctx context.Context, values []Value) error {
	request := messages.ExternalRequest{Table: x.Table, Column: x.Column, Key: x.Key}
	var asked []*Value // NULL stays NULL, and is nobody's business
	for i := range values {
		if v := &values[i]; v.In != nil {
			request.Values = append(request.Values, messages.ExternalValue{ID: len(asked), Value: string(v.In)})
			asked = append(asked, v)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	answer, err := x.Ask(ctx, request)
	if err != nil {
		return err
	}
	if len(answer.Results) != len(asked) {
		return fmt.Errorf("%w: %d results for %d values", errForeignAnswer, len(answer.Results), len(asked))
	}
	for i, result := range answer.Results {
		if result.ID != i {
			return fmt.Errorf("%w: results are not in the order of the values", errForeignAnswer)
		}
		if result.Refused {
			return ErrValue
		}
		text, err := result.Text()
		if err != nil {
			return fmt.Errorf("%w: %w", errForeignAnswer, err)
		}
		if shows(text, asked[i].In) {
			return ErrLeak
		}
		asked[i].Out = text
	}
	return nil
}

// tellingLength is from how many bytes on a value that appears inside its ciphertext cannot be there by chance.
const tellingLength = 8

// shows says that a result is its plaintext, or has it inside, or, if it is JSON, in one of its texts.
func shows(result, plain []byte) bool {
	if bytes.Equal(result, plain) || len(plain) >= tellingLength && bytes.Contains(result, plain) {
		return true
	}
	var document any
	if json.Unmarshal(result, &document) != nil {
		return false
	}
	return showsIn(document, string(plain))
}

func showsIn(document any, plain string) bool {
	switch v := document.(type) {
	case string:
		return v == plain || len(plain) >= tellingLength && bytes.Contains([]byte(v), []byte(plain))
	case []any:
		for _, element := range v {
			if showsIn(element, plain) {
				return true
			}
		}
	case map[string]any:
		for name, element := range v {
			if isEnvelope(name) {
				continue
			}
			if showsIn(element, plain) {
				return true
			}
		}
	}
	return false
}

// isEnvelope is a field of an EQL payload that tells of the column and of the kind of payload: a value may be the same
// word.
func isEnvelope(name string) bool { return name == "i" || name == "k" }
