// Package messages is what travels between the coordinator, the workers and an operator: subjects, stream names and
// JSON bodies, for programs in any language.
//
// A task offers one range of a job to the workers: it is a reference (job, range, epoch) and holds neither bounds
// nor values. A request asks the coordinator for something and is answered by a job or by a problem. Progress tells
// whoever listens what has been done; a dead letter tells what could not be done.
//
// No key, no cell and no value of a table ever stands in a message, and none may be added: bounds are read from
// Postgres by whoever needs them.
//
// Every body carries its version in "v". Requests are read strictly, since a misspelt field there would silently
// change what happens; tasks and events are read tolerantly, since an older worker must live beside a newer
// coordinator. A version nobody here knows is ErrVersion: the message is to be left for a program that knows it.
package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Version is the version of every message body that this package writes, and the only one that it reads.
const Version = 1

// MaxBody is the most bytes that a message body may have.
const MaxBody = 64 << 10

var (
	// ErrVersion says that a message has a version that this program does not know: an upgrade is under way.
	ErrVersion = errors.New("unknown message version")
	// ErrMalformed says that a body is no message at all, of any version.
	ErrMalformed = errors.New("malformed message")
)

// readTolerantly decodes body into message, ignoring fields it does not know.
func readTolerantly(body []byte, message any) error {
	var head struct {
		V *int `json:"v"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return ErrMalformed
	}
	if head.V == nil || *head.V != Version {
		return fmt.Errorf("%w: this program knows version %d", ErrVersion, Version)
	}
	if err := json.Unmarshal(body, message); err != nil {
		return ErrMalformed
	}
	return nil
}

// isToken reports whether s can stand as one token of a subject.
func isToken(s string) bool {
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '-', r == '_':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// isTable reports whether s is a table's token: "t" and the number of the relation.
func isTable(s string) bool {
	if len(s) < 2 || len(s) > 11 || s[0] != 't' {
		return false
	}
	for _, r := range s[1:] {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// isName reports whether s can be the name of a schema, table or column in Postgres.
func isName(s string) bool {
	if s == "" || len(s) > 63 || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r == 0 {
			return false
		}
	}
	return true
}
