// Package residue looks for plaintext that outlives the encryption of a column, and removes what can be removed without
// harm.
//
// Words: a [Finding] is one place where plaintext is, or may be: row versions, indexes, statistics, copies, the server's
// log; a [Check] is what no query can see; to clean is to have the server write such a place anew; to rewrite is to do so
// with the whole table, under a lock that keeps everybody out. It holds names and numbers, never a value.
package residue
