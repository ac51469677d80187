// Package shape is what a table looks like to the engine, and every statement that follows from that. It runs none of them
// but those that look at the table.
//
// Words: a [Shape] is one leaf table with its columns in work, and the fingerprint that every chunk compares. A kind is
// what differs between the ways in which a [Column]'s values are made: sealed, opened, sealed anew, opened from what
// somebody else encrypted, made by a user's encrypter or by an expression inside Postgres, or tokens of a blind index. A
// row is covered when its target holds a cell exactly if its source holds a value. A [Witness] is one column of one row
// before the judge of its kind, a [Verdict] what was found. An echo is what is read back of what was written.
package shape
