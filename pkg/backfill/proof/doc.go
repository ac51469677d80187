// Package proof opens every cell of a table and compares it with its source: what it finds is what a cutover, a drop and
// the end of a key rest on.
//
// Words: a [Verifier] walks a leaf page by page and writes nothing; a [Report] is what it found of one column. A row is
// covered, uncovered, stale or broken: see package shape. A sample is a share of the leaf's blocks. A digest is of every
// row's key and value, whatever their order. [Nonces] says whether a key was used twice with the same nonce.
package proof
