// Package roadmap compares what a manifest wants with what is, and proposes what a first one might want.
//
// Words: a [Roadmap] is the way from one to the other; a [Step] is one thing to do, with the command that does it; a
// [Difference] is what no step changes; an [Obstacle] stands in the way, or is what somebody should know; a [Cost] is
// about what a backfill takes; the verdict says whether there is something to do, and whether it can be done. An
// [Introspection] looks at a database that nobody has described yet, and proposes columns by the words in their names.
// All of it works before anything is installed, and changes nothing.
package roadmap
