// Package backfill is the engine: it carries every row of a range from one form to the next, chunk by chunk, without ever
// overwriting a newer value. It knows no NATS.
//
// Words: a chunk is what one transaction covers; a [Checkpoint] is what it leaves in the event log, in the same
// transaction as its rows and the range's cursor. An [Executor] carries the range of a claim: it reads and seals the next
// chunk while the last one is written. A conflict is a row that changed between read and write: the application wins, and
// the row is read again. A row that resists is set aside in quarantine. A [Sizer] adapts chunks to the time they take.
//
// The rooms beneath: [keyspace] is how keys are named, bounded and cut; [work] is jobs, ranges and the claims on them;
// [shape] is what a table looks like to the engine, with its statements; [proof] opens everything and compares.
//
// The protocol is described in docs/protocol.md; the promises it keeps in the README.
package backfill
