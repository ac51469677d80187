// Package backfill is the engine: it cuts a table's key space into ranges, and carries every row of a range from one
// form to the next, chunk by chunk, without ever overwriting a newer value. It knows no NATS.
//
// Words: a [Key] is a primary key as text, one element per column; a [Range] is (After, Through] of the key space and
// the unit of distribution; a [Shape] is what a table looks like to the engine, with the fingerprint that every chunk
// compares; a chunk is what one transaction covers; a [Checkpoint] is what it leaves in the event log. A row is
// covered when its target holds a cell exactly if its source holds a value. A conflict is a row that changed between
// read and write: the application wins, and the row is read again. A [Claim] makes a range somebody's: its epoch
// fences every later write.
//
// The protocol is described in docs/protocol.md; the promises it keeps in the README.
package backfill
