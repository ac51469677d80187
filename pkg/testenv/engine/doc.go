// Package engine is a table on its way, for the tests of pkg/backfill and its rooms: without the control plane above them,
// and without NATS.
//
// Words: a [Kit] is one table, prepared by hand as the coordinator's rungs prepare it; an [Option] changes what it is made
// of. It starts a job and works on its ranges; what happens between a chunk's read and its write is brought about by a
// transform that is put in between ([Kit.Wrap]). A [KeyCase] is a table of one kind of key. Hostile defaults are those of
// a database under which most values are printed, or read, in another way than ours.
package engine
