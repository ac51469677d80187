// Package blind changes the blind indexes of the registry: it gives them keys, takes them from one state to the next, and
// wraps their keys anew. What the registry holds of an index is [lifecycle.Index].
//
// Words: an index is prepared when its key was committed, read back and proven; moved, when it comes into another state,
// in the transaction of what makes that true.
package blind
