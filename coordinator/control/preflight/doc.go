// Package preflight says what a request means on this very server, and refuses before anything is changed what could
// not be carried out to the end.
//
// Words: a [Plan] is a request whose every precondition was met when it was looked at: the table, the key to walk by, and
// for each [Column] its source and its target; a maker is who makes a column's values, cipherfleet itself or a user's own
// encrypter, which is foreign; an [Intention] is a plan written down as a manifest. A check is one precondition, refused
// with a [*standing.Refusal]. What somebody who looks at many tables has [Seen] already is not read again.
package preflight
