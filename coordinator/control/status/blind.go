package status

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// blindIndex is a blind index of the registry, with what is known of its tokens.
type blindIndex struct {
	lifecycle.Index
	behind bool // rows have been left without a token since the last job that filled it to the end was asked for
}

// behindSQL compares how many rows were left without a token with how many there were when the last job that filled the
// index to the end was asked for: one that failed has left rows as they were.
const behindSQL = `SELECT x.id FROM unnest($1::bigint[], $2::text[]) AS x (id, counter)
 WHERE pg_catalog.has_sequence_privilege(pg_catalog.to_regclass(x.counter)::pg_catalog.oid, 'SELECT')
  AND coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(x.counter)), 0) OPERATOR(pg_catalog.<>) coalesce((
   SELECT (j.spec->'columns'->0->'index'->>'missed')::pg_catalog.int8 FROM cipherfleet.jobs j
    WHERE j.spec->'columns' @> pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('index', pg_catalog.jsonb_build_object('id', x.id))) AND j.state OPERATOR(pg_catalog.=) 'done'
    ORDER BY j.created_at DESC, j.id LIMIT 1), 0)`

// readBlind reads the blind indexes that are not dropped; none from a schema that knows of none, or may not be read.
func (r *registry) readBlind(ctx context.Context, q pg.Querier) error {
	r.blind = map[uint32][]blindIndex{}
	all, err := lifecycle.KnownIndexes(ctx, q)
	if err != nil {
		return err
	}
	var ids []int64
	var counters []string
	for _, x := range all {
		ids, counters = append(ids, int64(x.ID)), append(counters, ddl.TokenSequence(x.ID))
	}
	behind, err := pg.Collect(ctx, q, behindSQL, pgx.RowTo[uint32], ids, counters)
	if err != nil {
		return fmt.Errorf("count rows without a token: %w", err)
	}
	for _, x := range all {
		if x.State != lifecycle.IndexDropped {
			r.blind[x.Column] = append(r.blind[x.Column], blindIndex{x, slices.Contains(behind, x.ID)})
		}
	}
	return nil
}

// describeBlind is a blind index as status shows it.
func (l *Look) describeBlind(x blindIndex) Index {
	d := Index{Name: x.Name, Wanted: l.wantsIndex(x.Name), Present: true, Generation: x.Generation, State: string(x.State), Tokens: x.Token, Behind: x.behind,
		Normalise: spelled(x.Normaliser), Bytes: x.Bytes, Unique: x.Unique}
	at := slices.IndexFunc(l.Relation.Indexes, func(i pg.Index) bool { return i.Name == ddl.TokenIndexName(x.ID) })
	d.Valid = at >= 0 && l.Relation.Indexes[at].Valid
	return d
}

// spelled is a normaliser as the manifest spells it.
func spelled(n cell.Normaliser) string { return strings.ReplaceAll(n.String(), "+", "-") }

// Otherwise are the ways in which the manifest describes a blind index otherwise than it is: what, as wanted, as it is.
func (l *Look) Otherwise(x Index) (list [][3]string) {
	if l.Wanted == nil || x.State == "" {
		return nil
	}
	at := slices.IndexFunc(l.Wanted.Indexes, func(w manifest.Index) bool { return w.Name == x.Name })
	if at < 0 {
		return nil
	}
	w := l.Wanted.Indexes[at]
	for _, each := range [][3]string{{"normalise", w.Normalise, x.Normalise}, {"bytes", strconv.Itoa(w.Bytes), strconv.Itoa(x.Bytes)},
		{"unique", strconv.FormatBool(w.Unique), strconv.FormatBool(x.Unique)}} {
		if each[1] != each[2] {
			list = append(list, each)
		}
	}
	return list
}

func (l *Look) wantsIndex(name string) bool {
	if l.Wanted == nil {
		return false
	}
	for _, x := range l.Wanted.Indexes {
		if x.Name == name {
			return true
		}
	}
	return false
}

// flagBlind says what of the column's blind indexes is not as it should be.
func (l *Look) flagBlind() {
	has := func(holds func(blindIndex, Index) bool) bool {
		return slices.ContainsFunc(l.Survey.blind[l.Column.ID], func(x blindIndex) bool { return holds(x, l.describeBlind(x)) })
	}
	l.flag(FlagIndexDiffers, has(func(x blindIndex, d Index) bool { return len(l.Otherwise(d)) > 0 }))
	l.flag(FlagIndexUnready, has(func(x blindIndex, d Index) bool {
		return x.State == lifecycle.IndexFilling || x.State == lifecycle.IndexPrepared
	}))
	l.flag(FlagIndexInvalid, has(func(x blindIndex, d Index) bool { return x.State == lifecycle.IndexReady && !d.Valid }))
	l.flag(FlagIndexUncovered, has(func(x blindIndex, d Index) bool { return x.State == lifecycle.IndexReady && x.behind }))
}

func (l *Look) hasBlind(name string) bool {
	return slices.ContainsFunc(l.Survey.blind[l.Column.ID], func(x blindIndex) bool { return x.Name == name })
}
