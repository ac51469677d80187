// Package lifecycle is the memory of cipherfleet: where each column stands, what has happened to it, and which schemes
// and keys its cells carry. It owns schema cipherfleet, whose tables it installs from version to version.
//
// Words: a [Phase] is where a column stands, from schema-added to dropped; an [Event] one row of the append-only log
// cipherfleet.events, of a [Kind]; a [State] what the events of one column fold to, and nothing else; a run is what
// happens between backfill_started and backfilled, cancelled or the next start. The registry holds the columns, each
// with an id that is never reused, their numbered schemes and the wrapped data keys; a canary is a cell of a known
// value, kept beside each key to prove it before its first use. A [Registrar] changes schemes; each change moves the
// registry's revision. A [Keychain] is the keys of a running program, which follow it; a [Lease] says which revision a
// program carries.
//
// Events are appended only inside the transaction of what they tell about. Ids are not commit order: who reads
// incrementally uses [Since].
package lifecycle
