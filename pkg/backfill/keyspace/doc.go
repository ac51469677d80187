// Package keyspace is the key space of a table as the engine goes through it: how keys are named, compared, bounded and
// cut, as SQL that Postgres answers.
//
// Words: a [Key] is one row's primary key as text, one element per column; a [Column] is one column of the key, with the
// operators of its index. A [Space] is the key space of one leaf table: it makes the lists and conditions of every
// statement that goes by key. A [Bound] is one end of what is read or written. A cut finds the boundaries of ranges, by
// index probes or by a sample. Only Postgres orders keys.
package keyspace
