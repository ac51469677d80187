// Package pg is the ground every statement stands on: the pool, the transaction, identifiers, session settings,
// introspection and the classes of server errors.
//
// Words: a [DB] is a pool of connections to one database; a [Tx] one transaction; a [Conn] one connection kept for
// the raw protocol. A [Querier] is any of them. An [Error] is what is left of a server's error once everything
// that may quote a value (message, detail, hint, context) is gone: SQLSTATE, table and constraint. No other form
// of a server error leaves this package. A [Class] says what to do about it.
package pg
