// Package ddl writes the SQL of every step that prepares a column for its migration, and of what takes each step back.
// It is pure text: nothing here talks to a server.
//
// Words: a [Column] is one source column with its target; a [Step] what is done and how it is undone. The check is the
// CHECK constraint that lets nothing but NULL and cells of this very column into the target. Capture is the set of
// triggers that makes a write which misses the target visible: the target becomes NULL, the row uncovered instead of
// stale, a sequence counts it, and a record says whose it was. A [Watch] is what must stay as it is while a job works on a table: its fingerprint
// changes when any of it does, its parts say what.
//
// Every name, type, function and operator is qualified, because the search_path of the caller is not ours.
package ddl
