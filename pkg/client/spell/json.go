package spell

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// JSON refuses what is no document; of type json Postgres keeps the text as it is.
func JSON(raw []byte) error {
	if !json.Valid(raw) {
		return fmt.Errorf("not JSON: %w", ErrValue)
	}
	return nil
}

// JSONB is a document as Postgres prints it from a column of type jsonb: keys once, by length and then by bytes, numbers
// as numeric, one blank behind colons and commas.
func JSONB(raw []byte) ([]byte, error) {
	if err := JSON(raw); err != nil {
		return nil, err
	}
	if !utf8.Valid(raw) || !pairedSurrogates(raw) {
		return nil, fmt.Errorf("text that is not Unicode: %w", ErrValue)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	out, err := appendJSONB(make([]byte, 0, len(raw)+len(raw)/8), d)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pairedSurrogates says that every \u escape of a surrogate has its other half, which the decoder does not insist on.
func pairedSurrogates(raw []byte) bool {
	high := false // the escape before this one was the first half
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			if high {
				return false
			}
			continue
		}
		if raw[i+1] != 'u' {
			if high {
				return false
			}
			i++
			continue
		}
		unit, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16) // the document is valid
		low := unit >= 0xDC00 && unit <= 0xDFFF
		if low != high {
			return false
		}
		high = unit >= 0xD800 && unit <= 0xDBFF
		i += 5
	}
	return !high
}

// appendJSONB reads one value and prints it.
func appendJSONB(dst []byte, d *json.Decoder) ([]byte, error) {
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", ErrValue)
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			return appendArray(dst, d)
		}
		return appendObject(dst, d)
	case json.Number:
		text, err := Numeric(string(token), -1)
		return append(dst, text...), err
	case string:
		return appendString(dst, token)
	case bool:
		return strconv.AppendBool(dst, token), nil
	}
	return append(dst, "null"...), nil
}

func appendArray(dst []byte, d *json.Decoder) (_ []byte, err error) {
	dst = append(dst, '[')
	for first := true; d.More(); first = false {
		if !first {
			dst = append(dst, ", "...)
		}
		if dst, err = appendJSONB(dst, d); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return append(dst, ']'), eof(err)
}

func appendObject(dst []byte, d *json.Decoder) ([]byte, error) {
	values := map[string][]byte{}
	var keys []string
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, eof(err)
		}
		key, _ := token.(string) // a valid document has no other
		value, err := appendJSONB(nil, d)
		if err != nil {
			return nil, err
		}
		if _, twice := values[key]; !twice {
			keys = append(keys, key)
		}
		values[key] = value
	}
	slices.SortFunc(keys, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	dst = append(dst, '{')
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		var err error
		if dst, err = appendString(dst, key); err != nil {
			return nil, err
		}
		dst = append(append(dst, ": "...), values[key]...)
	}
	_, err := d.Token()
	return append(dst, '}'), eof(err)
}

func eof(err error) error {
	if err == nil || err == io.EOF {
		return nil
	}
	return fmt.Errorf("not JSON: %w", ErrValue)
}

func appendString(dst []byte, text string) ([]byte, error) {
	dst = append(dst, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == 0:
			return nil, fmt.Errorf("holds a zero character: %w", ErrValue)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c == '\f':
			dst = append(dst, `\f`...)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"'), nil
}
