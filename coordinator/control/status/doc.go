// Package status says where columns stand: what is covered, what is not as it was prepared, how jobs go, and what
// happened to a column.
//
// Words: a [Survey] is one look at everything that is registered and at all tables of a manifest, by statements whose
// number does not grow with them; a [Look] is one column in it; a flag is what is not as it was prepared, or not as the
// manifest wants it; coverage is how many rows have a cell of their present value, counted or estimated; a [Finding] is a
// verification as the log keeps it; a [History] is a column's events, checkpoints added up. Reading changes nothing but
// that a plaintext which is seen gone is recorded as dropped.
package status
