// Package index makes, lists, fills, builds and drops the blind indexes of a column for an operator.
//
// Words: a blind index is a column of tokens, one for each cell of another column; a token is a keyed hash of the cell's
// value in its normal form, so equal values have equal tokens, under a key that is the index's own. Generations are
// indexes of one name, each with a key and a column of its own. To fill one is to have the fleet write the tokens that
// are missing; to build it is to fill it and have Postgres make the index that lookups use. One that is ready finds every
// row; one that is retiring is written and looked up by nobody any more.
package index
