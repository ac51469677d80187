package work

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	readers "github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Origin is a column's source that somebody else encrypted, or that holds cells of another column of ours, as a job knows
// it.
type Origin struct {
	messages.Origin
	Column uint32      `json:"column,omitempty"` // of cells of ours: the id of the column that they are of
	Scheme uint16      `json:"scheme,omitempty"` // and the scheme that they are sealed under, should they be made again
	Beside []ddl.Input `json:"beside,omitempty"` // the columns of vectors and salts, in the order of [messages.Origin.Columns]
}

// Own says that the values are cells of another column of ours. Of no origin it is false.
func (o *Origin) Own() bool { return o != nil && o.Origin.Own() }

// Of is the id of the column that the values are cells of; none of what is no cell of ours.
func (o *Origin) Of() (ids []uint32) {
	if o.Own() {
		ids = append(ids, o.Column)
	}
	return ids
}

// OriginAt is who encrypted the source, if the source is still that column of the table: one that came back after its
// drop holds what cells held.
func (c Column) OriginAt(source int16) *Origin {
	if c.SourceAttnum != source {
		return nil
	}
	return c.Origin
}

// Today is the origin with the present names of its columns.
func (o *Origin) Today(relation pg.Relation) messages.Origin {
	now := o.Origin
	for _, in := range o.Beside {
		column := relation.ColumnAt(in.Attnum)
		switch {
		case column.Attnum == 0:
		case o.IV == in.Name:
			now.IV = column.Name
		case o.Salt == in.Name:
			now.Salt = column.Name
		}
	}
	return now
}

// Names are the names of the columns beside the source; of no origin none.
func (o *Origin) Names() (names []string) {
	if o == nil {
		return nil
	}
	for _, in := range o.Beside {
		names = append(names, in.Name)
	}
	return names
}

// Codec is how what is opened is sealed; an error if nothing seals such a type.
func (o *Origin) Codec() (cell.Codec, error) {
	codec, known := map[string]cell.Codec{"text": cell.CodecText, "json": cell.CodecText, "bytea": cell.CodecBytes,
		"bigint": cell.CodecInt, "double precision": cell.CodecFloat8, "boolean": cell.CodecBool}[o.PlaintextType()]
	if !known {
		return 0, fmt.Errorf("a plaintext of type %q: %w", o.Plaintext, readers.ErrUnsupported)
	}
	return codec, nil
}

// position is the number of a column in the record that a value is read as; 0: it has none.
func (o *Origin) position(name string) int {
	if name == "" {
		return 0
	}
	return 1 + slices.Index(o.Origin.Columns(), name)
}

// Opener opens values as they are read from the source and what stands beside it.
func (o *Origin) Opener(reader transform.Reader, codec cell.Codec) transform.Opener {
	return transform.Opener{Reader: reader, Codec: codec, IV: o.position(o.IV), Salt: o.position(o.Salt)}
}

// Reading is the job with what opens the sources that somebody else encrypted; a [*NoForeignKeyError] if a key for it is
// not here. Without such columns it is the job as it was.
func (j Job) Reading(ctx context.Context, keys *readers.Keys) (Job, error) {
	j.Spec.Columns = slices.Clone(j.Spec.Columns)
	for i, c := range j.Spec.Columns {
		if c.Origin == nil || c.Origin.Own() || c.Rotate || c.Source == "" {
			continue
		}
		reader, err := transform.OpenReader(ctx, c.Origin.Origin, keys)
		if errors.Is(err, readers.ErrNoKey) {
			return j, &NoForeignKeyError{Column: c.LogColumn, err: err}
		}
		if err != nil {
			return j, fmt.Errorf("open the values of %s: %w", c.LogColumn, err)
		}
		j.Spec.Columns[i].Reader = reader
	}
	return j, nil
}

// Unread is the error of a process whose key does not open a column's source, for a reason.
func Unread(c Column, why error) *NoForeignKeyError {
	return &NoForeignKeyError{Column: c.LogColumn, err: why}
}

// NoForeignKeyError says that a process lacks a key that a column's source is encrypted under, or has another one under its
// name: another process may do better.
type NoForeignKeyError struct {
	Column string
	err    error
}

// Error names the column and the key.
func (e *NoForeignKeyError) Error() string {
	return "open the values of " + e.Column + ": " + e.err.Error()
}

// Unwrap is what was missing.
func (e *NoForeignKeyError) Unwrap() error { return e.err }
