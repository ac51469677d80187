package pg

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Class says what a caller can do about an error.
type Class int

// The classes, from "nobody knows" to "wait and try again".
const (
	ClassOther       Class = iota // a bug, or a statement that can never succeed
	ClassLock                     // lock or statement timeout: smaller, later
	ClassConflict                 // serialization failure or deadlock: again, with jitter
	ClassUnavailable              // no connection, starting, stopping, out of resources: again, later
	ClassReadOnly                 // a replica, or a read-only default
	ClassDenied                   // authentication or privileges
	ClassData                     // this very row or value is refused
	ClassSchema                   // a table, column or function is not what it was
)

// Error is a server's error without anything that could quote a value. Its fields are safe to log.
type Error struct {
	Code       string // SQLSTATE
	Table      string // schema.table, if the server named one
	Constraint string // constraint, if the server named one
	Position   int32  // where in our own statement, in characters; 0 if unknown
}

// Error names the condition, never the server's own text.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("postgres refused with SQLSTATE " + e.Code)
	if name := conditions[e.Code]; name != "" {
		b.WriteString(" (" + name + ")")
	}
	if e.Table != "" {
		b.WriteString(" on " + e.Table)
	}
	if e.Constraint != "" {
		b.WriteString(" constraint " + e.Constraint)
	}
	return b.String()
}

// conditions names the SQLSTATEs an operator is likely to meet (PostgreSQL manual, appendix A).
var conditions = map[string]string{
	"08006": "connection failure", "22P02": "invalid text representation", "22021": "character not in repertoire",
	"23502": "not-null violation", "23503": "foreign-key violation", "23505": "unique violation", "23514": "check violation",
	"25006": "read-only transaction", "28000": "invalid authorization", "28P01": "invalid password",
	"3D000": "database does not exist", "3F000": "schema does not exist", "40001": "serialization failure", "40P01": "deadlock",
	"42501": "insufficient privilege", "42601": "syntax error", "42703": "undefined column", "42883": "undefined function",
	"42804": "datatype mismatch", "42P01": "undefined table", "42P07": "table exists already", "53100": "disk full",
	"53200": "out of memory", "53300": "too many connections", "54000": "program limit exceeded",
	"55000": "object not in prerequisite state", "55P03": "lock not available", "57014": "query cancelled, or its statement_timeout passed", "57P01": "admin shutdown",
	"57P02": "crash shutdown", "57P03": "cannot connect now", "25P03": "idle-in-transaction timeout",
	"25P04": "transaction timeout", "57P05": "idle-session timeout", "P0001": "raised by a trigger or function",
}

// Safe turns a server's error into an [Error], says in one line that none was reached, and leaves every other error as
// it is. Nil stays nil.
func Safe(err error) error {
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) && !errors.As(err, &server) {
		return &unreachedError{cause: err}
	}
	if err == nil || !errors.As(err, &server) {
		return err
	}
	safe := &Error{Code: server.Code, Constraint: server.ConstraintName, Position: server.Position}
	if server.TableName != "" {
		safe.Table = server.SchemaName + "." + server.TableName
	}
	if errors.As(err, &connect) {
		return &connectError{cause: safe}
	}
	return safe
}

// connectError marks an [Error] that happened while connecting, where every refusal but authentication means "not now".
type connectError struct{ cause *Error }

func (e *connectError) Error() string { return "connect: " + e.cause.Error() }
func (e *connectError) Unwrap() error { return e.cause }

// unreachedError is an error that happened before any server answered. The driver says it in a line for each address and
// each way of encrypting the connection.
type unreachedError struct{ cause error }

func (e *unreachedError) Error() string {
	first, rest, more := strings.Cut(e.cause.Error(), "\n")
	if !more {
		return first
	}
	var tried []string
	for line := range strings.Lines(rest) {
		if line = strings.TrimSpace(line); !slices.Contains(tried, line) {
			tried = append(tried, line)
		}
	}
	return first + " " + strings.Join(tried, "; ")
}

func (e *unreachedError) Unwrap() error { return e.cause }

// Code is the SQLSTATE inside err, or "".
func Code(err error) string {
	var safe *Error
	if errors.As(err, &safe) {
		return safe.Code
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// ClassOf sorts err into a class. A nil error is ClassOther.
func ClassOf(err error) Class {
	if code := Code(err); code != "" {
		return classOfCode(code)
	}
	var netErr net.Error
	var connect *pgconn.ConnectError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, pgx.ErrNoRows):
		return ClassOther
	case errors.As(err, &connect), errors.As(err, &netErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), pgconn.Timeout(err), pgconn.SafeToRetry(err), strings.Contains(err.Error(), "conn closed"):
		return ClassUnavailable
	}
	return ClassOther
}

func classOfCode(code string) Class {
	switch code {
	case "55P03", "57014":
		return ClassLock
	case "40001", "40P01", "40003":
		return ClassConflict
	case "25006":
		return ClassReadOnly
	case "42501", "28000", "28P01":
		return ClassDenied
	case "42703", "42P01", "42883", "42804", "3F000", "42704", "0A000", "42P17", "42846":
		return ClassSchema
	case "25P02", "25P03", "25P04", "3D000":
		return ClassUnavailable
	}
	switch code[:min(2, len(code))] {
	case "08", "53", "57", "58":
		return ClassUnavailable
	case "22", "23", "44", "P0", "21", "09", "38", "39", "54":
		return ClassData
	}
	if code[0] >= '6' && code[0] <= '9' || code[0] >= 'I' && code[0] != 'X' || strings.HasPrefix(code, "45") {
		return ClassData // no code of Postgres's own: a trigger of the user's raised it
	}
	return ClassOther
}
