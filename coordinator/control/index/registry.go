package index

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle/blind"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Registry changes the blind indexes of an installation. It needs no coordinator, and does not disturb one.
type Registry struct {
	DB     *pg.DB
	KEK    cell.KEK // of verbs that make or prove keys
	Actor  string   // who asked; empty: the database role
	Reason string   // why, for the log
}

func (r *Registry) registrar() blind.Registrar {
	return blind.Registrar{Registrar: lifecycle.Registrar{DB: r.DB, KEK: r.KEK, Actor: r.Actor, Reason: r.Reason}}
}

// column is a registered column with every blind index it ever had.
type column struct {
	standing.Standing
	Rows []lifecycle.Index
}

// look looks a column up, in a transaction of its own that reads only.
func look(ctx context.Context, db *pg.DB, n standing.Name) (c column, err error) {
	err = standing.Reading(ctx, db, "30s", func(tx pg.Tx) error {
		c, err = find(ctx, tx, n)
		return err
	})
	return c, err
}

func find(ctx context.Context, q pg.Querier, n standing.Name) (c column, err error) {
	if c.Standing, err = standing.Find(ctx, q, n); err != nil {
		return c, err
	}
	c.Rows, err = lifecycle.Indexes(ctx, q, c.ID)
	return c, err
}

func (c column) name() standing.Name {
	return standing.Name{Schema: c.Relation.Schema, Table: c.Relation.Name, Column: c.Source}
}

// command is the command line of a verb for one of its indexes.
func (c column) command(verb, index string) string {
	return c.name().Command("index "+verb) + " " + standing.Quoted(index)
}

// mustHaveCells refuses a column that has no cells of ours, or none yet.
func (c column) mustHaveCells(ctx context.Context, q pg.Querier) error {
	spec, err := standing.SpecOf(ctx, q, c.ID)
	switch {
	case err != nil:
		return err
	case spec.Foreign() || spec.Made():
		return standing.Refuse("column", "make an index of your own of what stands there", "the values of %s are not cells of ours: no token can be made of them", c.name())
	case c.Sealed.Attnum == 0:
		return standing.Refuse("column", "cipherfleet status says what is missing", "the cells of %s are gone", c.name())
	case c.State.Phase == "" || c.State.Phase == lifecycle.PhaseSchemaAdded:
		return standing.Refuse("column", c.name().Backfill()+" makes its cells", "%s is %s: there are no cells that tokens could be made of", c.name(), standing.PhaseWord(c.State.Phase))
	}
	return c.CheckStays(ctx, q)
}

// mustKeepNulls refuses a column that may have cells of NULL: they could be given no token, which would tell them.
func (c column) mustKeepNulls(ctx context.Context, q pg.Querier) error {
	schemes, err := lifecycle.Schemes(ctx, q, c.ID)
	if err != nil {
		return err
	}
	for _, s := range schemes {
		if s.SealsNulls() && (s.State == lifecycle.SchemeReadable || s.State == lifecycle.SchemeActive) {
			return standing.Refuse("column", "cipherfleet scheme new --nulls keep, rotate to it and retire this one, if an index is worth more",
				"scheme %d of %s seals NULL, so that nobody can tell it: rows without a token would be those", s.Number, c.name())
		}
	}
	return nil
}

// named is the index of that name: of a generation, or of the only one that is there.
func (c column) named(name string, generation int) (lifecycle.Index, error) {
	var live []lifecycle.Index
	for _, x := range c.Rows {
		if x.Name == name && (x.Generation == generation || generation == 0 && x.State != lifecycle.IndexDropped) {
			live = append(live, x)
		}
	}
	switch len(live) {
	case 1:
		return live[0], nil
	case 0:
		return lifecycle.Index{}, standing.Lack("index", c.name().Command("index ls")+" lists those it has", "%s has no blind index %q%s", c.name(), name, generationWord(generation))
	}
	return lifecycle.Index{}, standing.Reject("generation", fmt.Sprintf("say which one with --generation: %d or %d", live[0].Generation, live[len(live)-1].Generation),
		"blind index %q of %s has %d generations", name, c.name(), len(live))
}

func generationWord(generation int) string {
	if generation == 0 {
		return ""
	}
	return fmt.Sprintf(" of generation %d", generation)
}

const tokenSQL = `SELECT a.attnum, a.attname::text FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
 WHERE k.conrelid = $1 AND k.contype = 'c' AND k.conname = $2 AND NOT a.attisdropped`

// place is the column of tokens under today's name and number; 0 if it is gone.
func place(ctx context.Context, q pg.Querier, c column, x lifecycle.Index) (attnum int16, name string, err error) {
	err = q.QueryRow(ctx, tokenSQL, c.Relation.OID, ddl.TokenCheckName(x.ID)).Scan(&attnum, &name)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("look for the tokens of %s: %w", c.name(), err)
	}
	return attnum, name, nil
}

// steps are the SQL of an index, whose tokens stand in a column of this name.
func (c column) steps(x lifecycle.Index, token string, key []string) ddl.Token {
	return ddl.Token{Index: x.ID, Table: c.Relation.Table(), Cell: c.Sealed.Name, Name: token, Bytes: x.Bytes, Unique: x.Unique, Key: key, Parted: c.Relation.IsPartitioned}
}

// key is what the column's cells are bound to: the key of its last job, else the table's own.
func (c column) key(ctx context.Context, q pg.Querier) (pg.Key, error) {
	job, err := work.Newest(ctx, q, c.ID)
	if err != nil && !errors.Is(err, work.ErrNoJob) {
		return pg.Key{}, err
	}
	key, found := c.Relation.KeyOf(job.Spec.Key)
	if !found {
		key, found = c.Relation.UsableKey()
	}
	if !found || !key.Usable() {
		return pg.Key{}, standing.Refuse("key", preflight.KeyHint, "%s has no unique index that finds every row", c.Relation.Table())
	}
	return key, nil
}

const foreignSQL = `SELECT pg_catalog.format('%s.%s', n.nspname, r.relname) FROM (SELECT $1::oid AS relid UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree($1)) t
 JOIN pg_catalog.pg_class r ON r.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE NOT pg_catalog.pg_has_role(r.relowner, 'USAGE') ORDER BY r.oid LIMIT 1`

// mustOwn refuses a role that may not alter the table, or one of its partitions: half of what it asks for would be done.
func (c column) mustOwn(ctx context.Context, q pg.Querier) error {
	foreign, err := pg.Values[string](ctx, q, foreignSQL, c.Relation.OID)
	if err != nil {
		return fmt.Errorf("look for who owns %s and its partitions: %w", c.Relation.Table(), err)
	}
	if len(foreign) > 0 {
		return standing.Deny("table", "run this as the owner of the table and of each partition", "role %q may not alter %s", c.Relation.Server.User, foreign[0])
	}
	return nil
}

// hold keeps jobs and other transitions away from the column until the transaction ends, and looks whether it is where
// it was.
func (c column) hold(ctx context.Context, tx pg.Tx) error {
	if _, err := tx.Exec(ctx, `LOCK TABLE cipherfleet.jobs IN SHARE MODE`); err != nil { // nobody begins or ends one
		return fmt.Errorf("keep jobs away: %w", err)
	}
	if _, err := tx.Exec(ctx, `SELECT FROM cipherfleet.columns WHERE id = $1 FOR UPDATE`, c.ID); err != nil {
		return fmt.Errorf("hold the column: %w", err)
	}
	state, err := lifecycle.Latest(ctx, tx, c.Standing.Column.Table.String(), c.Source)
	switch {
	case err != nil && !errors.Is(err, lifecycle.ErrImpossible):
		return err
	case state.Phase != c.State.Phase:
		return standing.ErrMoved
	}
	return noJob(ctx, tx, c)
}

// now is the state of an index in a transaction that holds its column: there it stays as it is.
func (c column) now(ctx context.Context, tx pg.Tx, x lifecycle.Index) (lifecycle.IndexState, error) {
	again, found, err := lifecycle.IndexByID(ctx, tx, x.ID)
	if err == nil && !found {
		err = fmt.Errorf("blind index %q of %s is gone", x.Name, c.name())
	}
	return again.State, err
}

// noJob refuses while a job is at work on the table: what it compares at each chunk would change under it.
func noJob(ctx context.Context, q pg.Querier, c column) error {
	return standing.CheckFree(ctx, q, c.Relid, c.Relation.Table())
}

// spellings are the normalisers as the manifest spells them, and as package cell does.
func spellings() map[string]string {
	return map[string]string{"exact": "exact", "lower-trim": "lower+trim", "digits": "digits", "nfc": "nfc"}
}

// spelled is a normaliser as the manifest spells it.
func spelled(n cell.Normaliser) string {
	for ours, theirs := range spellings() {
		if theirs == n.String() {
			return ours
		}
	}
	return n.String()
}

// live are the indexes that are not dropped.
func (c column) live() []lifecycle.Index {
	return slices.DeleteFunc(slices.Clone(c.Rows), func(x lifecycle.Index) bool { return x.State == lifecycle.IndexDropped })
}
