// Package verify proves what a backfill did: it opens every cell of a table's columns and compares it with its source.
//
// Words: a [Result] is what was found, as counts and as hashes of a few keys; it is proven if every row that was read is
// covered; a sample is a share of the table's blocks, and proves nothing about the others; a pass reads at once the
// columns whose cells are bound to the same key. Each column's result is a verified event in the log, which cutover asks
// for.
package verify
