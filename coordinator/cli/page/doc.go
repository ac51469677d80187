// Package page writes what the control plane reports as text for a person; programs are given the same as JSON.
//
// Words: a paragraph is a column, with a line for each thing that there is to say about it, and none for what there is
// not; a note is what fits behind an event on its line, and no text that people wrote breaks that. Nothing here asks a
// database.
package page
