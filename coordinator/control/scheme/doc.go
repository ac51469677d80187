// Package scheme makes, activates, retires and destroys the schemes of a column for an operator, and looks after the
// keys: who they are wrapped by, and whose they are.
//
// Words: a scheme is a numbered configuration of a column's cells, which never changes; to retire one is to prove that
// no cell of it is left, by a fence, a constraint that Postgres validates and that refuses such cells from then on; to
// destroy one is to delete its wrapped keys, once their retention is over; a census counts the cells of each scheme; to
// shred a tenant is to delete the keys that its rows alone are sealed with.
package scheme
