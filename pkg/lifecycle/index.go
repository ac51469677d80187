package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// IndexState says what may be done with a blind index.
type IndexState string

// The states of a blind index, in the order in which they follow. Only one that is ready finds every row.
const (
	IndexPrepared IndexState = "prepared" // it has a key, and no column of tokens yet
	IndexFilling  IndexState = "filling"  // its tokens are written beside cells; older rows may have none
	IndexReady    IndexState = "ready"    // every row had its token, and Postgres an index of them
	IndexRetiring IndexState = "retiring" // nobody writes it or looks anything up in it any more
	IndexDropped  IndexState = "dropped"  // column and key are gone for good
)

// Written says whether tokens of the index are written beside cells.
func (s IndexState) Written() bool { return s == IndexFilling || s == IndexReady }

// IndexDefinition is what a blind index is to be. Its name is one for all its generations; each has a key and a column
// of tokens of its own.
type IndexDefinition struct {
	Column     uint32
	Name       string
	Generation int // from 1
	Token      string
	Normaliser cell.Normaliser
	Bytes      int // of a token
	Unique     bool
}

// Index is one blind index as it stands in the registry.
type Index struct {
	ID uint32
	IndexDefinition
	Key                     uint32 // id of its key; 0: it has none any more
	KEK                     string // what that is wrapped under
	State                   IndexState
	Revision                int64     // of the registry, with which it came into its state
	Created, Ready, Dropped time.Time // zero: not yet

	Wrapped, Canary []byte // the key under that, and what proves it

	whose Whose
}

// Blind is the index as package cell takes it, with the id of its key.
func (x Index) Blind() cell.IndexKey {
	return cell.IndexKey{KeyID: x.Key,
		BlindIndex: cell.BlindIndex{Column: x.Column, Number: x.ID, Normaliser: x.Normaliser, Length: x.Bytes}}
}

const indexFields = `x.id, x.column_id, x.name, x.generation, x.token, x.normaliser, x.bytes, x.is_unique, x.state, x.revision,
 x.created_at, x.ready_at, x.dropped_at, coalesce(d.id, 0), coalesce(d.kek, ''), d.wrapped, d.canary, coalesce((SELECT pg_catalog.concat_ws('.', c.schema_name, c.table_name, c.source) FROM cipherfleet.columns c WHERE c.id = x.column_id), '')
 FROM cipherfleet.blind_indexes x LEFT JOIN cipherfleet.deks d ON d.blind_index = x.id`

func scanIndex(row pgx.CollectableRow) (x Index, err error) {
	var ready, dropped *time.Time
	err = row.Scan(&x.ID, &x.Column, &x.Name, &x.Generation, &x.Token, &x.Normaliser, &x.Bytes, &x.Unique, &x.State, &x.Revision,
		&x.Created, &ready, &dropped, &x.Key, &x.KEK, &x.Wrapped, &x.Canary, &x.whose.Name)
	if ready != nil {
		x.Ready = *ready
	}
	if dropped != nil {
		x.Dropped = *dropped
	}
	return x, err
}

// Indexes are all blind indexes a column ever had, by name and generation.
func Indexes(ctx context.Context, q pg.Querier, column uint32) ([]Index, error) {
	all, err := collect(ctx, q, scanIndex, `SELECT `+indexFields+` WHERE x.column_id = $1 ORDER BY x.name, x.generation`, column)
	return all, wrap(fmt.Sprintf("read blind indexes of column %d", column), err)
}

// FindIndex is the blind index of a column with that name and generation; false if there is none, or never was.
func FindIndex(ctx context.Context, q pg.Querier, column uint32, name string, generation int) (Index, bool, error) {
	return oneIndex(ctx, q, `WHERE x.column_id = $1 AND x.name = $2 AND x.generation = $3`, column, name, generation)
}

// IndexByID is one blind index; false if there never was such a one.
func IndexByID(ctx context.Context, q pg.Querier, id uint32) (Index, bool, error) {
	return oneIndex(ctx, q, `WHERE x.id = $1`, id)
}

func oneIndex(ctx context.Context, q pg.Querier, where string, args ...any) (Index, bool, error) {
	found, err := collect(ctx, q, scanIndex, `SELECT `+indexFields+` `+where, args...)
	if err != nil || len(found) == 0 {
		return Index{}, false, wrap("read blind index", err)
	}
	return found[0], true, nil
}

// LiveIndexes are the blind indexes of every column that are not dropped, by column, name and generation.
func LiveIndexes(ctx context.Context, q pg.Querier) ([]Index, error) {
	all, err := collect(ctx, q, scanIndex, `SELECT `+indexFields+` WHERE x.state <> 'dropped' ORDER BY x.column_id, x.name, x.generation`)
	return all, wrap("read blind indexes", err)
}

// mayReadIndexesSQL is false for a role that was granted its rights before there were blind indexes.
const mayReadIndexesSQL = `SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('cipherfleet.blind_indexes')::oid, 'SELECT'), false)`

// KnownIndexes are all blind indexes there ever were, in the order of their ids, as far as this role may know of them.
func KnownIndexes(ctx context.Context, q pg.Querier) ([]Index, error) {
	return readableIndexes(ctx, q, []uint32{})
}

// readableIndexes are those of the columns given, or of all when none is, that this role may know of.
func readableIndexes(ctx context.Context, q pg.Querier, columns []uint32) ([]Index, error) {
	may := false
	if err := q.QueryRow(ctx, mayReadIndexesSQL).Scan(&may); err != nil || !may {
		return nil, wrap("look for blind indexes", err)
	}
	all, err := collect(ctx, q, scanIndex, `SELECT `+indexFields+` WHERE pg_catalog.cardinality($1::bigint[]) = 0 OR x.column_id = ANY ($1) ORDER BY x.id`, columns)
	return all, wrap("read blind indexes", err)
}

// Damage is a registry that is not as it was written, where this index's key should be.
func (x Index) Damage(err error) error {
	return &DamageError{Whose: x.whose, Column: x.Column, Index: x.ID, Named: x.Name, Err: err}
}

// Of is the name of the index's column, or its number.
func (x Index) Of() string { return x.whose.Of(x.Column) }

// Logged is the beginning of an event of the index's own line in the log of its column: there it is a column too, by the
// name of its tokens.
func (x Index) Logged(of Column) Event { return Event{Table: of.Table.String(), Column: x.Token} }

// Carried refuses with a [*NotReadyError] while a live lease is of before the index came into its state.
func (x Index) Carried(ctx context.Context, tx pg.Tx) error {
	return carried(ctx, tx, NotReadyError{Column: x.Column, Index: x.Name, Act: "dropped", Revision: x.Revision})
}

// TellIndex appends the event of a change to a blind index, for its column.
func (r Registrar) TellIndex(ctx context.Context, tx pgx.Tx, x Index, what string) error {
	return r.tell(ctx, tx, x.Column, change{Index: x.Name, Generation: x.Generation, Token: x.Token, Key: x.Key, What: what})
}

// TellKey appends the event of a change to a scheme's key, for its column.
func (r Registrar) TellKey(ctx context.Context, tx pgx.Tx, column uint32, scheme uint16, key uint32, what string) error {
	return r.tell(ctx, tx, column, change{Scheme: scheme, Key: key, What: what})
}

// BeginChange begins a change of the registry in a transaction: its commit waits for the disk, nobody else changes the
// registry until then, and the revision that is returned is the registry's if it commits.
func BeginChange(ctx context.Context, tx pg.Tx) (revision int64, err error) {
	if _, err := tx.Exec(ctx, pg.Durable); err != nil {
		return 0, fmt.Errorf("make the commit durable: %w", err)
	}
	return nextRevision(ctx, tx)
}
