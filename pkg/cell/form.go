package cell

import (
	"encoding/base64"
	"fmt"
)

// Form is how a cell stands in a column: as its bytes, or as text for columns that hold nothing else.
type Form uint8

// The forms.
const (
	FormBytes Form = iota // bytea: the cell itself
	FormText              // text: "cf1." and the cell in base64url without padding
	FormJSON              // jsonb: that text as a JSON string
)

// TextPrefix begins the text form of every cell of format 1.
const TextPrefix = "cf1."

// TextPrefixSize is how many characters of the text form say which column a cell belongs to: six bytes are eight
// characters exactly.
const TextPrefixSize = len(TextPrefix) + PrefixSize/3*4

var base64url = base64.RawURLEncoding.Strict()

// String is the name of the column type that holds cells in this form.
func (f Form) String() string {
	switch f {
	case FormText:
		return "text"
	case FormJSON:
		return "jsonb"
	}
	return "bytea"
}

// Length is how many bytes the form of a cell of n bytes has.
func (f Form) Length(n int) int {
	switch text := len(TextPrefix) + base64url.EncodedLen(n); f {
	case FormText:
		return text
	case FormJSON:
		return text + 2
	}
	return n
}

// Append writes a cell behind dst in this form. dst must not overlap cell.
func (f Form) Append(dst, cell []byte) []byte {
	switch f {
	case FormText:
		return base64url.AppendEncode(append(dst, TextPrefix...), cell)
	case FormJSON:
		return append(FormText.Append(append(dst, '"'), cell), '"')
	}
	return append(dst, cell...)
}

// Parse writes the cell that stands in a column behind dst. It is strict: whatever it accepts, Append writes back to the
// same bytes. Failures are [ErrNotACell]. In the form of bytes it takes everything: what is no cell does not open.
func (f Form) Parse(dst, stored []byte) ([]byte, error) {
	switch {
	case f == FormBytes:
		return append(dst, stored...), nil
	case f == FormJSON:
		if len(stored) < 2 || stored[0] != '"' || stored[len(stored)-1] != '"' {
			return dst, fmt.Errorf("parse the text form of a cell: no JSON string: %w", ErrNotACell)
		}
		stored = stored[1 : len(stored)-1]
	}
	if len(stored) < len(TextPrefix) || string(stored[:len(TextPrefix)]) != TextPrefix {
		return dst, fmt.Errorf("parse the text form of a cell: no prefix: %w", ErrNotACell)
	}
	stored = stored[len(TextPrefix):]
	for _, c := range stored {
		if c == '\n' || c == '\r' { // which the decoder would pass over
			return dst, fmt.Errorf("parse the text form of a cell: a line break: %w", ErrNotACell)
		}
	}
	start := len(dst)
	dst, err := base64url.AppendDecode(dst, stored)
	if err != nil {
		return dst[:start], fmt.Errorf("parse the text form of a cell: no base64url: %w", ErrNotACell)
	}
	return dst, nil
}
