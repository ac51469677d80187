package chaos

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// history is what the record knows of a row.
type history struct {
	acked int
	acts  map[int]string // what became of each version
}

func (w *rotation) recorded(ctx context.Context) map[int64]*history {
	w.t.Helper()
	all := map[int64]*history{}
	for id := range int64(founders) {
		all[id+1] = &history{acts: map[int]string{0: acked}}
	}
	w.recordOfWanderers(all)
	rows, err := w.db.Query(ctx, `SELECT customer, id, version, act FROM chaos.record WHERE act <> 'looked' ORDER BY at`)
	w.must(err)
	var who, version int
	var id int64
	var act string
	owner := map[int64]int{}
	_, err = pgx.ForEachRow(rows, []any{&who, &id, &version, &act}, func() error {
		if all[id] == nil {
			all[id] = &history{acked: -1, acts: map[int]string{}}
		}
		all[id].acts[version], owner[id] = act, who
		if act == acked {
			all[id].acked = version
		}
		return nil
	})
	w.must(err)
	for id, h := range all {
		for version, act := range h.acts {
			if act == intent && owner[id] != w.killed {
				w.t.Errorf("nobody knows what became of version %d of row %d", version, id)
			}
		}
	}
	return all
}

// everyValueIsAsRecorded opens every cell with keys loaded anew: it holds what was acknowledged last, or what the killed
// customer was about to write.
func (w *rotation) everyValueIsAsRecorded(ctx context.Context) {
	w.t.Helper()
	w.everyRowIsAsRecorded(ctx, w.cells, cmp.Or(w.plain, "NULL"), w.faulty)
}

// everyRowIsAsRecorded holds each row against the record: none is missing, and judge finds nothing wrong with its cell,
// which is opened with keys loaded anew, and with the plaintext beside it.
func (w *rotation) everyRowIsAsRecorded(ctx context.Context, cells, plain string, judge func(*cell.Keyring, int64, []byte, *string, *history) string) {
	w.t.Helper()
	keys, err := lifecycle.LoadKeys(ctx, w.db.DB, w.kek)
	w.must(err)
	rows, err := w.db.Query(ctx, "SELECT id, "+cells+", "+plain+" FROM people")
	w.must(err)
	recorded := w.recorded(ctx)
	var id int64
	var sealed []byte
	var beside *string
	wrong, checked := 0, 0
	_, err = pgx.ForEachRow(rows, []any{&id, &sealed, &beside}, func() error {
		checked++
		if why := judge(keys.Keyring, id, sealed, beside, recorded[id]); why != "" {
			if wrong++; wrong <= 5 {
				w.t.Errorf("row %d %s", id, why)
			}
		}
		delete(recorded, id)
		return nil
	})
	w.must(err)
	for id, h := range recorded {
		if h.acked >= 0 {
			w.t.Errorf("row %d is lost", id)
		}
	}
	w.note("%d of %d rows hold what the record says", checked-wrong, checked)
}

// faulty says what is wrong with a row.
func (w *rotation) faulty(keyring *cell.Keyring, id int64, sealed []byte, beside *string, h *history) string {
	opened, _, err := keyring.Open(nil, w.whereabouts(keyring, id), sealed)
	if err != nil {
		return "does not open: " + err.Error()
	}
	if beside != nil && *beside != string(opened) {
		return "has another plaintext than its cell"
	}
	return w.unexpected(id, string(opened), h)
}

// unexpected says what is wrong with a row's value.
func (w *rotation) unexpected(id int64, value string, h *history) string {
	version, err := recognize(w.plan.seed, id, value)
	switch {
	case err != nil:
		return err.Error()
	case h == nil:
		return "was written by nobody"
	case version < h.acked:
		return fmt.Sprintf("has version %d, but %d was acknowledged", version, h.acked)
	case h.acts[version] != acked && h.acts[version] != intent:
		return fmt.Sprintf("has version %d, which was: %q", version, h.acts[version])
	}
	return ""
}

// theOldSchemeIsGone: by the cells themselves, by the fence, and by the registry; and nobody was passed over.
func (w *rotation) theOldSchemeIsGone() {
	w.t.Helper()
	for what, sql := range map[string]string{
		"cells of the old scheme are left":    w.ofScheme(1),
		"rows have no cell of the new scheme": strings.Replace(w.ofScheme(2), "=", "IS DISTINCT FROM", 1),
		"schemes stand where they should not": `SELECT count(*) FROM cipherfleet.schemes WHERE state <> CASE number WHEN 1 THEN 'retired' ELSE 'active' END`,
		"fences are missing or not proven":    fmt.Sprintf(`SELECT 1 - count(*) FROM pg_constraint WHERE conname = 'cipherfleet_%d_schemes' AND convalidated`, w.column),
		"programs were passed over":           `SELECT count(*) FROM chaos.early`,
		"rows are in quarantine":              `SELECT count(*) FROM cipherfleet.quarantine`,
	} {
		if n := testenv.One[int64](w.t, w.db, sql); n != 0 {
			w.t.Errorf("%d %s", n, what)
		}
	}
	for _, who := range testenv.Column[string](w.t, w.db, `SELECT what || ' before ' || who FROM chaos.early`) {
		w.t.Errorf("scheme %s has heard of it", who)
	}
}
