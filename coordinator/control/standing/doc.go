// Package standing knows where a registered column stands, and what every room of the control plane has to say about one.
//
// Words: a [Name] is what an operator calls a column; its [Standing] is its table, its phase and the columns that hold
// plaintext and cells, under today's names; a [Refusal] is a precondition that does not hold, and has changed nothing; a
// [Dependent] is what reads a column, or speaks of it, and would mean something else after a swap of names; a [Cutover]
// is what the last one moved, as its event keeps it; capture is the triggers that notice writes which miss the target.
// To read is to have a transaction that cannot write, to be patient is to wait for locks briefly and often; a [Patience] is
// for jobs that the fleet began by itself.
package standing
