// Package ladder carries single columns from one phase to another, up and down, for an operator and for the leader.
//
// Words: a rung is a phase that a column stands on, and a transition is the transaction that leads to the next one: it
// compares the phase, changes the table and appends the event; the gates of a cutover are what must hold for it, and are
// asked again under the lock; a soak is a time without a missed write; a place is a table or a partition on which a
// cutover moved something; a rollback takes a cutover back, or what was prepared before one, and has a job in reverse
// open the cells that were written since; a rehearsal does both to an empty copy; a drop removes the plaintext once a
// constraint proves that each has its cell. Killed at any moment, the same verb finishes or says what to do.
package ladder
