package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// tested is a table whose columns are about to be verified.
type tested struct {
	relation               pg.Relation
	keys                   *lifecycle.Keys
	passes                 []*testPass
	indexes                []lifecycle.Index // of every column, as far as they may be known
	sample                 float64
	seen                   int64
	began                  time.Time
	installation, database string
}

// testPass is what can be read in one go: columns whose cells are bound to the same key.
type testPass struct {
	key     []string
	columns []testColumn
	tokens  []testTokens
	reports []proof.Report // of the columns, and behind them of the tokens
}

type testColumn struct {
	lifecycle.Column
	source, target string // today's names; "" for a source that is gone
	cutOver        bool
	mend           string // see [ColumnReport]
	missed         int64
	scheme         uint16
	external       work.External   // who made the values, if not cipherfleet
	origin         *work.Origin    // who encrypted the source, if somebody else did
	where          *ddl.Condition  // which rows need a cell; nil: all
	expression     *ddl.Expression // that made them, if one did
}

// sealed says that cells are opened.
func (c testColumn) sealed() bool { return !c.external.Foreign() && c.expression == nil }

// named is what the column is called: as it was registered, if its name was swapped or it is gone, else as today.
func (c testColumn) named() string {
	if c.source == "" || c.target == c.Source || c.Moves() {
		return c.Source
	}
	return c.source
}

// open finds the columns, their keys and the key to walk by, and makes sure that the result can be recorded.
func (v *Verifier) open(ctx context.Context, r Request) (*tested, error) {
	t := &tested{sample: r.Sample}
	if r.Sample < 0 || r.Sample >= 100 {
		return nil, standing.Reject("sample", "leave it out to read every row", "was %v; accepted is a percentage above 0 and below 100", r.Sample)
	}
	err := standing.Reading(ctx, v.DB, "30s", func(tx pg.Tx) (err error) {
		if err := standing.CheckInstalled(ctx, tx); err != nil {
			return err
		}
		if err := checkMayRecord(ctx, tx); err != nil {
			return err
		}
		const whereSQL = `SELECT clock_timestamp(), id::text, current_database()::text FROM cipherfleet.installation`
		if err := tx.QueryRow(ctx, whereSQL).Scan(&t.began, &t.installation, &t.database); err != nil {
			return err
		}
		if t.relation, err = inspectTested(ctx, tx, r); err != nil {
			return err
		}
		columns, err := testColumns(ctx, tx, t.relation, r.Columns)
		if err != nil {
			return err
		}
		for _, c := range columns {
			if err := t.plan(ctx, tx, c); err != nil {
				return err
			}
		}
		t.indexes, err = lifecycle.KnownIndexes(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := v.openKeys(ctx, t); err != nil {
		return nil, err
	}
	return t, v.openTokens(ctx, t)
}

// checkMayRecord asks before hours of reading.
func checkMayRecord(ctx context.Context, q pg.Querier) error {
	may, user := false, ""
	err := q.QueryRow(ctx, `SELECT has_table_privilege('cipherfleet.events', 'INSERT'), current_user::text`).Scan(&may, &user)
	if err == nil && !may {
		return standing.Deny("", "GRANT INSERT ON TABLE cipherfleet.events TO "+pg.Ident(user), "role %q may not append to cipherfleet.events, where the result belongs", user)
	}
	return err
}

func inspectTested(ctx context.Context, q pg.Querier, r Request) (pg.Relation, error) {
	relation, err := standing.Inspect(ctx, q, r.Schema, r.Table)
	switch {
	case err == nil && relation.IsPartition:
		return relation, standing.Refuse("table", fmt.Sprintf("name table %q in schema %q: all its partitions are verified together", relation.Root.Name, relation.Root.Schema),
			"%s is a partition of %s", relation.Table(), relation.Root.Table())
	case err == nil && relation.RowSecurity.Applies:
		return relation, standing.Refuse("table", "use a role that owns the table or has BYPASSRLS", "row security hides rows of %s from role %q", relation.Table(), relation.Server.User)
	}
	return relation, err
}

// testColumns are the registered columns that are asked for, under today's names.
func testColumns(ctx context.Context, q pg.Querier, relation pg.Relation, asked []string) ([]testColumn, error) {
	registered, err := lifecycle.Columns(ctx, q, relation.OID)
	if err != nil {
		return nil, err
	}
	if len(registered) == 0 {
		return nil, standing.Refuse("table", "cipherfleet backfill encrypts a column first", "no column of %s was ever prepared: there is nothing to verify", relation.Table())
	}
	wanted, err := wantedColumns(relation, registered, asked)
	if err != nil {
		return nil, err
	}
	conditions, err := standing.ReadConditions(ctx, q)
	if err != nil {
		return nil, err
	}
	var found []testColumn
	for _, c := range wanted {
		source, target := relation.ColumnAt(c.SourceNum), relation.ColumnAt(c.TargetNum)
		if target.Attnum == 0 {
			return nil, standing.Refuse("columns", "cipherfleet status says what is missing", "column %q of %s or its target %q is gone", c.Source, relation.Table(), c.Target)
		}
		state, err := lifecycle.Latest(ctx, q, c.Table.String(), c.Source)
		if err != nil && !errors.Is(err, lifecycle.ErrImpossible) {
			return nil, err
		}
		spec, err := standing.SpecOf(ctx, q, c.ID)
		if err != nil {
			return nil, err
		}
		cutOver := state.Phase == lifecycle.PhaseCutOver
		if spec.Made() && (cutOver || state.Phase == lifecycle.PhaseDropped || state.Phase == lifecycle.PhaseSchemaAdded) {
			if len(asked) > 0 {
				return nil, standing.Refuse("columns", "cipherfleet status shows where it stands", "column %q of %s is %s: nothing makes its values any more that they could be compared with", c.Source, relation.Table(), state.Phase)
			}
			continue
		}
		origin := spec.OriginAt(c.SourceNum)
		if origin == nil {
			origin = standing.MovedFrom(registered, c)
		}
		mend, err := mendOf(ctx, q, relation, c, state.Phase)
		if err != nil {
			return nil, err
		}
		found = append(found, testColumn{Column: c, mend: mend, source: source.Name, target: target.Name, external: spec.External, origin: origin, expression: spec.Expression, where: conditions.Within(relation, c.ID, spec.Where), cutOver: cutOver})
	}
	if len(found) == 0 {
		return nil, standing.Refuse("table", "cipherfleet status shows where they stand", "no column of %s has anything that its values could be compared with", relation.Table())
	}
	return found, nil
}

// mendOf is [ColumnReport.Mend]. Where cells are what is read, nothing is backfilled any more; one that is missing is of NULL,
// where that is sealed, and a rotation makes it.
func mendOf(ctx context.Context, q pg.Querier, relation pg.Relation, c lifecycle.Column, phase lifecycle.Phase) (string, error) {
	if phase != lifecycle.PhaseCutOver && phase != lifecycle.PhaseDropped {
		return "", nil
	}
	seals, err := standing.SealingNulls(ctx, q, c.ID)
	if err != nil || !seals[c.ID] {
		return "", err
	}
	return standing.Name{Schema: relation.Schema, Table: relation.Name, Column: c.Source}.Command("rotate"), nil
}

// wantedColumns are those that are asked for, by the names of their registration or else by today's; all if none is.
func wantedColumns(relation pg.Relation, registered []lifecycle.Column, asked []string) ([]lifecycle.Column, error) {
	if len(asked) == 0 {
		return registered, nil
	}
	var wanted []lifecycle.Column
	for i, name := range asked {
		if at := standing.At(relation, registered, name); at >= 0 {
			if !slices.Contains(wanted, registered[at]) {
				wanted = append(wanted, registered[at])
			}
			continue
		}
		field := fmt.Sprintf("columns[%d]", i)
		if _, exists := relation.Column(name); !exists {
			return nil, preflight.NoColumn(relation, field, name)
		}
		return nil, standing.Refuse(field, "cipherfleet backfill encrypts it first", "column %q of %s was never prepared: there is nothing to verify", name, relation.Table())
	}
	return wanted, nil
}

// plan adds a column to the pass of its key: that of the last job, whose cells are bound to it.
func (t *tested) plan(ctx context.Context, q pg.Querier, c testColumn) error {
	key, err := t.keyOf(ctx, q, c)
	if err != nil {
		return err
	}
	may := false
	if err := q.QueryRow(ctx, `SELECT coalesce(has_sequence_privilege(to_regclass($1)::oid, 'SELECT'), false)`, ddl.MissedSequence(c.ID)).Scan(&may); err != nil {
		return err
	}
	if may {
		if err := q.QueryRow(ctx, ddl.Missed(c.ID)).Scan(&c.missed); err != nil {
			return fmt.Errorf("count missed writes: %w", err)
		}
	}
	at := slices.IndexFunc(t.passes, func(p *testPass) bool { return slices.Equal(p.key, key) })
	if at < 0 {
		at = len(t.passes)
		t.passes = append(t.passes, &testPass{key: key})
	}
	p := t.passes[at]
	p.columns, p.reports = append(p.columns, c), append(p.reports, proof.Report{Column: c.ID, Schemes: map[uint16]int64{}, Examples: []string{}})
	return nil
}

func (t *tested) keyOf(ctx context.Context, q pg.Querier, c testColumn) ([]string, error) {
	job, err := work.Newest(ctx, q, c.ID)
	if err == nil {
		return job.Spec.Key, nil
	}
	if !errors.Is(err, work.ErrNoJob) {
		return nil, err
	}
	key, found := t.relation.UsableKey()
	if !found {
		return nil, standing.Refuse("key", preflight.KeyHint, "%s has no unique index that finds every row", t.relation.Table())
	}
	return key.Names(), nil
}

// ErrNoKEK says that cells are to be opened, and there is no key for it. No row was read.
var ErrNoKEK = errors.New("there is no key-encryption key")

// openKeys loads the keys of the columns; each needs one that is written with.
func (v *Verifier) openKeys(ctx context.Context, t *tested) error {
	var ids []uint32
	for _, p := range t.passes {
		for _, c := range p.columns {
			if c.sealed() {
				ids = append(append(ids, c.ID), c.origin.Of()...)
			}
		}
	}
	if len(ids) == 0 { // nothing can be opened here
		t.keys = &lifecycle.Keys{Keyring: cell.NewKeyring([16]byte{})}
		return nil
	}
	if v.KEK == nil {
		return ErrNoKEK
	}
	keys, err := lifecycle.LoadKeys(ctx, v.DB, v.KEK, ids...)
	if err != nil {
		return err
	}
	t.keys = keys
	for _, p := range t.passes {
		for i, c := range p.columns {
			active, has := keys.Active[c.ID]
			if !c.sealed() {
				continue
			}
			if !has {
				return standing.Refuse("columns", "run cipherfleet backfill again: it goes on with what it had begun", "column %q of %s was never prepared to the end: it has no key", c.named(), t.relation.Table())
			}
			p.columns[i].scheme = active.Number
		}
	}
	return nil
}
