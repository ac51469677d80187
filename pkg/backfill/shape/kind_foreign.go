package shape

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// HoldsForeign says whether a column of this type can hold what somebody else encrypted: bytes, or a text.
func HoldsForeign(c pg.Column) bool {
	return c.Base.Schema == "pg_catalog" && slices.Contains([]string{"bytea", "text", "varchar", "json", "jsonb"}, c.Base.Name)
}

// errNoReader says that a job with an origin was opened without its keys: see [work.Job.Reading].
var errNoReader = errors.New("nothing here opens the values of its source")

// resealing is the kind of a column whose source somebody else encrypted: what it holds is opened and sealed into cells.
type resealing struct {
	sealing
	opener  transform.Opener
	sql     string // the source with what stands beside it
	cutOver bool   // only verified: applications write cells by now, and nobody writes the source
}

// openResealing finds the columns beside the source.
func openResealing(relation pg.Relation, c work.Column, source, target pg.Column, keyring *cell.Keyring) (kind, error) {
	for _, in := range c.Origin.Beside {
		if column, found := relation.Column(in.Name); !found || column.Attnum != in.Attnum || !HoldsForeign(column) {
			return nil, fmt.Errorf("column %s of %s: %w", in.Name, relation.Table(), keyspace.ErrChanged)
		}
	}
	codec, err := c.Origin.Codec()
	if err != nil {
		return nil, err
	}
	if !HoldsForeign(source) {
		return nil, fmt.Errorf("type of %s: %w", c.Source, keyspace.ErrChanged)
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
func foreignSQL(relation pg.Relation, c work.Column) string {
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

// foreignSample is the query for a few values of a column's source that somebody else encrypted, each as an opener takes
// it. Its parameter is how many.
func foreignSample(relation pg.Relation, table pg.Table, c work.Column) string {
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

// Judge opens the source anew and compares. A source that does not open proves nothing of its cell.
func (k resealing) Judge(w *Witness) (Verdict, error) {
	if w.Source == nil {
		return k.sourceless(w, k.cutOver)
	}
	wire, err := k.opener.Wire(w.Context, w.Source)
	switch {
	case errors.Is(err, transform.ErrValue) && w.Target == nil:
		return Verdict{Outcome: Uncovered}, nil
	case errors.Is(err, transform.ErrValue):
		return Verdict{Outcome: Stale}, nil
	case err != nil:
		return Verdict{}, fmt.Errorf("open a foreign value of column %d: %w", w.Address.Column, err)
	}
	w.Source = wire
	return k.compare(w)
}
