package cell

import (
	"fmt"
	"log/slog"
)

const redactedText = "redacted"

// redacted, embedded first in a type that holds a key or a value, keeps that type out of
// logs, formatted text and JSON whatever verb or handler is used.
type redacted struct{}

// String hides the value.
func (redacted) String() string { return redactedText }

// Format hides the value from every fmt verb, %#v and %x included.
func (redacted) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redactedText)) }

// LogValue hides the value from slog.
func (redacted) LogValue() slog.Value { return slog.StringValue(redactedText) }

// MarshalJSON hides the value from encoding/json.
func (redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedText + `"`), nil }
