package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	readers "github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// Origin is a column's source that somebody else encrypted, as a job knows it.
type Origin struct {
	messages.Origin
	Beside []ddl.Input `json:"beside,omitempty"` // the columns of vectors and salts, in the order of [messages.Origin.Columns]
}

// OriginAt is who encrypted the source, if the source is still that column of the table: one that came back after its
// drop holds what cells held.
func (c SpecColumn) OriginAt(source int16) *Origin {
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

// HoldsForeign says whether a column of this type can hold what somebody else encrypted: bytes, or a text.
func HoldsForeign(c pg.Column) bool {
	return c.Base.Schema == "pg_catalog" && slices.Contains([]string{"bytea", "text", "varchar", "json", "jsonb"}, c.Base.Name)
}

// errNoReader says that a job with an origin was opened without its keys: see [Job.Reading].
var errNoReader = errors.New("nothing here opens the values of its source")

// Reading is the job with what opens the sources that somebody else encrypted; a [*NoForeignKeyError] if a key for it is
// not here. Without such columns it is the job as it was.
func (j Job) Reading(ctx context.Context, keys *readers.Keys) (Job, error) {
	j.Spec.Columns = slices.Clone(j.Spec.Columns)
	for i, c := range j.Spec.Columns {
		if c.Origin == nil || c.Rotate || c.Source == "" {
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

// NoForeignKeyError says that a process lacks a key that a column's source is encrypted under.
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

// resealing is the kind of a column whose source somebody else encrypted: what it holds is opened and sealed into cells.
type resealing struct {
	sealing
	opener  transform.Opener
	sql     string // the source with what stands beside it
	cutOver bool   // only verified: applications write cells by now, and nobody writes the source
}

// openResealing finds the columns beside the source.
func openResealing(relation pg.Relation, c SpecColumn, source, target pg.Column, keyring *cell.Keyring) (kind, error) {
	for _, in := range c.Origin.Beside {
		if column, found := relation.Column(in.Name); !found || column.Attnum != in.Attnum || !HoldsForeign(column) {
			return nil, fmt.Errorf("column %s of %s: %w", in.Name, relation.Table(), ErrShape)
		}
	}
	codec, err := c.Origin.Codec()
	if err != nil {
		return nil, err
	}
	if !HoldsForeign(source) {
		return nil, fmt.Errorf("type of %s: %w", c.Source, ErrShape)
	}
	sealed, err := openSealingAs(c, codec, target, keyring)
	if err != nil {
		return nil, err
	}
	if c.Reader == nil {
		return nil, fmt.Errorf("column %s of %s: %w", c.Source, relation.Table(), errNoReader)
	}
	return resealing{sealing: sealed, opener: c.Origin.Opener(c.Reader, codec), sql: foreignSQL(relation, c), cutOver: c.Reverse}, nil
}

// foreignSQL is the source of a row of alias t, or a record of it and what stands beside it; NULL where it is NULL. Texts
// of whatever type are read as text.
func foreignSQL(relation pg.Relation, c SpecColumn) string {
	var fields []string
	for _, name := range append([]string{c.Source}, c.Origin.Names()...) {
		column, _ := relation.Column(name)
		cast := "::pg_catalog.text"
		if column.Base.Name == "bytea" {
			cast = "::pg_catalog.bytea"
		}
		fields = append(fields, present(name)+cast)
	}
	if len(fields) == 1 {
		return fields[0]
	}
	return fmt.Sprintf("CASE WHEN %s IS NULL THEN NULL ELSE ROW(%s) END", present(c.Source), strings.Join(fields, ", "))
}

// ForeignSample is the query for a few values of a column's source that somebody else encrypted, each as [Opener] takes it.
// Its parameter is how many.
func ForeignSample(relation pg.Relation, table pg.Table, c SpecColumn) string {
	return fmt.Sprintf("SELECT %s FROM ONLY %s t WHERE %s IS NOT NULL LIMIT $1", foreignSQL(relation, c), table.SQL(), present(c.Source))
}

func (k resealing) input() operand { return operand{k.sql, true} }

func (k resealing) evidence() [2]operand {
	return [2]operand{k.input(), {present(k.target), k.form == cell.FormBytes}}
}

func (k resealing) transform(keyring *cell.Keyring) (transform.Transform, error) {
	t, err := transform.NewEncrypt(keyring, k.scheme)
	if err != nil {
		return nil, err
	}
	return transform.Formed(transform.Opened(k.opener, t), cell.FormBytes, k.form), nil
}

// judge opens the source anew and compares. A source that does not open proves nothing of its cell.
func (k resealing) judge(w *witness) (verdict, error) {
	if w.source == nil {
		if w.target == nil || !k.cutOver {
			return k.sealing.judge(w)
		}
		v := w.authenticate(k.form)
		v.ahead = v.outcome == covered
		return v, nil
	}
	wire, err := k.opener.Wire(w.ctx, w.source)
	switch {
	case errors.Is(err, transform.ErrValue) && w.target == nil:
		return verdict{outcome: uncovered}, nil
	case errors.Is(err, transform.ErrValue):
		return verdict{outcome: stale}, nil
	case err != nil:
		return verdict{}, fmt.Errorf("open a foreign value of column %d: %w", w.address.Column, err)
	}
	w.source = wire
	return k.compare(w)
}
