package transform

import (
	"bytes"
	"context"
	"encoding/hex"
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
	// Fits says whether a result is what the target column may hold; nil: whatever its type reads.
	Fits func(result []byte) bool
	// Ask sends one request and waits for its answer. Its errors are [ErrEncrypter], [ErrAnswer], or that of a context.
	Ask func(ctx context.Context, request messages.ExternalRequest) (messages.ExternalAnswer, error)
}

var (
	// ErrEncrypter says that the encrypter cannot be asked now. The same values may be handed to it again later.
	ErrEncrypter = errors.New("the encrypter does not answer")
	// ErrAnswer says that the encrypter does not keep its contract. It is no value's fault, so nothing is set aside.
	ErrAnswer = errors.New("the encrypter's answer does not fit the request")
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
		return fmt.Errorf("%w: %d results for %d values", ErrAnswer, len(answer.Results), len(asked))
	}
	for i, result := range answer.Results {
		if result.ID != i {
			return fmt.Errorf("%w: results are not in the order of the values", ErrAnswer)
		}
		if result.Refused {
			return ErrValue
		}
		text, err := result.Text()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		if Shows(text, asked[i].In) {
			return ErrLeak
		}
		if x.Fits != nil && !x.Fits(text) {
			return fmt.Errorf("%w: a result is no payload of this column", ErrAnswer)
		}
		asked[i].Out = text
	}
	return nil
}

// tellingLength is from how many bytes on a value that appears inside its ciphertext cannot be there by chance.
const tellingLength = 8

// Shows says that a result is its plaintext, or has it inside, be it as text, as the bytes that Postgres writes in
// hexadecimal digits, or, if it is JSON, in one of its texts.
func Shows(result, plain []byte) bool {
	if isOrHas(result, plain) {
		return true
	}
	if digits, is := bytes.CutPrefix(result, []byte(`\x`)); is {
		raw := make([]byte, hex.DecodedLen(len(digits)))
		if _, err := hex.Decode(raw, digits); err == nil && isOrHas(raw, plain) {
			return true
		}
	}
	var document any
	if json.Unmarshal(result, &document) != nil {
		return false
	}
	return showsIn(document, string(plain))
}

func isOrHas(result, plain []byte) bool {
	return bytes.Equal(result, plain) || len(plain) >= tellingLength && bytes.Contains(result, plain)
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
