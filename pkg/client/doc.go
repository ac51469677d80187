// Package client is the application's side: it reads and writes a column the same way while the column becomes
// encrypted, while its keys rotate and after its plaintext is gone, and needs no restart for any of it.
//
// Words: a [Client] holds the keys and a lease; a [Column] is a handle on one column; a placeholder is what a statement
// of the application has in the place of the column's name or value; truth is the column whose value counts, plaintext
// until the cutover and cells from then on; a client is behind while a column has moved and it has not noticed yet.
//
// # Three lines
//
//	users, err := c.Table(ctx, "public.users", "email")
//	err = pool.QueryRow(ctx, `SELECT id, {email} FROM users WHERE id = $1`, users, id).Scan(users.Row(&id, &email))
//	_, err = pool.Exec(ctx, `UPDATE users SET {email = $2 key $1} WHERE id = $1`, users, id, email)
//
// Handles are given to pgx as the first argument. They put names and values where the placeholders are:
//
//	{email}                     the truth's name
//	{email ...}                 the names that a write sets, in INSERT's list of columns
//	{email $2 key $1}           their values, in VALUES
//	{email = $2 key $1}         both, in UPDATE's SET
//	{email = excluded}          both, in ON CONFLICT … DO UPDATE SET
//
// After key stand the values of the row's key, in the key's order, for a row-bound scheme; after tenant the value of
// the tenant's column, for a scheme with a key for each tenant. Naming what a scheme does not need does no harm, and
// keeps the statement right for the next scheme.
//
// # What a write sets, and where a read looks
//
//	phase                          a write sets                           a read looks at
//	nobody has registered it       plaintext                              plaintext
//	schema-added … backfilled      plaintext and cell (NULL, no scheme)   plaintext
//	cut-over                       plaintext and cell                     cell
//	dropped                        cell                                   cell
//
// Cells are of the newest scheme, and say in the same statement that their writer seals, so capture lets them stand.
// Both columns are set until the plaintext is gone: a rollback then loses nothing, and who is behind reads right. There
// is no way from a key that cannot be had to plaintext: such a write fails.
//
// # Transitions, with a client behind
//
// No transition waits for clients, so each must be right for those who notice late. They notice by a notification, by
// polling, or by an error of their own statements.
//
//   - Registered, schema-added: the one behind writes plaintext only. The target is NULL, the row uncovered.
//   - Dual-writing: capture stands. Plaintext alone makes the row uncovered and is counted; a job covers it.
//   - A rollback of what was prepared, and the way up again: cells that stayed are written along, or set to NULL, so
//     none outlives its value.
//   - Cutover with a swap: a write names the target, whose name is gone, and fails (42703) with nothing done. A read
//     names the source: it finds cells, and opens them, since it goes by the column's number and not by its name.
//   - Cutover by name: both columns are written before and after, so whichever the one behind reads is right; but a
//     plaintext is NULL where a row was written again unchanged, or by code that writes cells alone.
//   - Rollback: with a swap, a write names the plaintext's other name, which is gone, and fails. By name, as before.
//     Other programs' plaintext makes the cell NULL: until it notices, a client behind reads NULL there.
//   - Dropped: a write names the plaintext, which is gone, and fails.
//   - A plaintext that comes back after its drop: cells alone are right until the swap, which waits for every lease.
//   - A new scheme: it becomes active when every lease carries it; who has none looks it up at the first cell.
//   - A retired scheme: the fence refuses its cells (23514), with nothing done.
//
// [Client.Do] runs a statement or a transaction again after such a failure, when the client has looked anew.
package client
