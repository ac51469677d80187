package status_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// items is a table of so many rows whose column secret is written twice; every tenth value is NULL.
func items(t *testing.T, rows int) *testenv.Sealed {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE public.items (id bigint PRIMARY KEY, secret text, note text) WITH (autovacuum_enabled = false)`)
	if _, err := db.Exec(t.Context(), `INSERT INTO public.items SELECT i, CASE WHEN i % 10 > 0 THEN 'secret ' || i END FROM generate_series(1, $1::int) i`, rows); err != nil {
		t.Fatal(err)
	}
	db.Run(t, `ANALYZE public.items`)
	return testenv.Prepare(t, db, pg.Table{Schema: "public", Name: "items"}, "secret")
}

func read(t *testing.T, db *pg.DB, r status.Request) status.Column {
	t.Helper()
	report, err := status.Read(t.Context(), db, r)
	if err != nil || len(report.Columns) != 1 {
		t.Fatalf("%d columns, %v", len(report.Columns), err)
	}
	return report.Columns[0]
}

func TestReadCountsWhatIsCovered(t *testing.T) {
	t.Parallel()
	s := items(t, 20)
	if c := read(t, s.DB.DB, status.Request{}); c.Phase != lifecycle.PhaseDualWriting || c.Coverage.Uncovered != 18 || c.Coverage.Total != 20 || !c.Coverage.Exact || len(c.Flags) > 0 {
		t.Errorf("before: %+v", c)
	}
	s.Backfill(t)
	s.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id IN (1, 2)`)
	c := read(t, s.DB.DB, status.Request{Table: "public.items", Exact: true})
	if c.Coverage.Covered != 18 || c.Coverage.Uncovered != 2 || c.Coverage.Stale != nil || *c.Missed != 2 || len(c.MissedBy) != 1 {
		t.Errorf("after: %+v", c)
	}
	if !slices.Equal(c.Flags, []string{status.FlagUncovered}) || len(c.Schemes) != 1 || c.Schemes[0] != (status.SchemeRows{Number: 1, Rows: 16}) {
		t.Errorf("after: flags %v, schemes %v", c.Flags, c.Schemes)
	}
	_, err := status.Read(t.Context(), s.DB.DB, status.Request{Table: "Items"})
	var refused *standing.Refusal
	if !errors.As(err, &refused) || refused.Code != app.CodeRefused || refused.Hint == "" {
		t.Errorf("of another table: %v", err)
	}
}

// TestOneUncoveredRowIsNeverLost to arithmetic: of 49 rows it once was, for 1.0/49*49 is less than one.
func TestOneUncoveredRowIsNeverLost(t *testing.T) {
	t.Parallel()
	s := items(t, 0)
	s.Run(t, `INSERT INTO public.items SELECT i, 'secret' FROM generate_series(1, 110) i`)
	s.Backfill(t)
	s.Run(t, `UPDATE public.items SET secret = 'missed' WHERE id = 110`)
	for rows := int64(110); rows > 0; rows-- {
		for _, exact := range []bool{true, false} {
			c := read(t, s.DB.DB, status.Request{Exact: exact})
			if v := c.Coverage; v.Total != rows || v.Uncovered != 1 || v.Covered != rows-1 || !v.Exact || rows > 1 && c.Schemes[0].Rows != rows-1 {
				t.Errorf("of %d rows one is uncovered: %+v, schemes %v", rows, v, c.Schemes)
			}
		}
		s.Run(t, `DELETE FROM public.items WHERE id = $1`, 110-rows+1)
	}
}

// TestACellThatNobodyWatchesIsFlagged, and one that is compared no more.
func TestACellThatNobodyWatchesIsFlagged(t *testing.T) {
	t.Parallel()
	s := items(t, 20)
	const job = "00000000-0000-0000-0000-000000000002"
	uncapture := func(*testing.T) {
		for _, sql := range s.Capture().Undo {
			s.Run(t, sql)
		}
	}
	capture := func(*testing.T) {
		for _, sql := range s.Capture().Do {
			s.Run(t, sql)
		}
	}
	for _, step := range []struct {
		name  string
		do    func(*testing.T)
		event lifecycle.Event
		want  bool
	}{
		{"nothing is sealed", uncapture, lifecycle.Event{Kind: lifecycle.KindRolledBack, Phase: lifecycle.PhaseSchemaAdded}, false},
		{"a cell beside its source", func(t *testing.T) { s.Write(t, 1, s.Cell(t, 1, "secret 1")) }, lifecycle.Event{}, true},
		{"watched again", capture, lifecycle.Event{Kind: lifecycle.KindDualWriting}, true},
		{"a job began", nil, lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: job, Detail: []byte(`{"compared": true, "existing": true}`)}, true},
		{"a job compared it", func(t *testing.T) { s.Run(t, `UPDATE public.items SET secret = NULL WHERE id > 1`) }, lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: job}, false},
	} {
		if step.do != nil {
			step.do(t)
		}
		if step.event.Kind != "" {
			s.Record(t, step.event)
		}
		if c := read(t, s.DB.DB, status.Request{}); slices.Contains(c.Flags, status.FlagUnwatched) != step.want {
			t.Errorf("%s: flags %v, want unwatched %t", step.name, c.Flags, step.want)
		}
	}
}

// onlooker is the database for a role that may read the tables of schema cipherfleet, and no other.
func onlooker(t *testing.T, db *testenv.DB) *pg.DB {
	t.Helper()
	role := "looks_" + testenv.One[string](t, db, `SELECT current_database()::text`)
	db.Run(t, `CREATE ROLE `+role+`; GRANT USAGE ON SCHEMA cipherfleet TO `+role+`; GRANT SELECT ON ALL TABLES IN SCHEMA cipherfleet TO `+role)
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
			if _, err := db.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
				t.Error(err)
			}
		}
	})
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("role", role)
	u.RawQuery = query.Encode()
	return testenv.Open(t, u.String()).DB
}

// TestAJobKnowsHowManyRowsThereAre, when the table is several times as large as its rows would be, for they were written
// again, and the server has forgotten what it had counted.
func TestAJobKnowsHowManyRowsThereAre(t *testing.T) {
	t.Parallel()
	s := items(t, 3000)
	const jobSQL = `INSERT INTO cipherfleet.jobs (id, relid, spec, state, total) SELECT '00000000-0000-0000-0000-000000000001', 'public.items'::regclass,
 jsonb_build_object('schema', 'public', 'table', 'items', 'key', '["id"]'::jsonb, 'columns', jsonb_build_array(jsonb_build_object('id', id, 'source', 'secret', 'log_table', 'public.items', 'log_column', 'secret'))), 'done', 3000 FROM cipherfleet.columns`
	s.Run(t, jobSQL)
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: "00000000-0000-0000-0000-000000000001"}, lifecycle.Event{Kind: lifecycle.KindBackfilled, Job: "00000000-0000-0000-0000-000000000001"})
	for range 4 {
		s.Run(t, `UPDATE public.items SET note = 'written again'`)
	}
	s.Run(t, `SELECT pg_stat_reset()`)
	looks := onlooker(t, s.DB)
	if c := read(t, looks, status.Request{}).Coverage; c.Total != 3000 || c.Exact {
		t.Errorf("right after the job: %+v", c)
	}
	s.Run(t, `UPDATE cipherfleet.jobs SET total = 5000`)
	s.Run(t, `ANALYZE public.items`)
	testenv.Eventually(t, time.Minute, func() error {
		if c := read(t, looks, status.Request{}).Coverage; c.Total != 3000 {
			return errors.New("statistics are younger than the job, which is still believed")
		}
		return nil
	})
}

func TestHistoryAddsCheckpointsUp(t *testing.T) {
	t.Parallel()
	s := items(t, 20)
	const job = "00000000-0000-0000-0000-000000000001"
	s.Record(t, lifecycle.Event{Kind: lifecycle.KindBackfillStarted, Job: job, Total: 20})
	for range 3 {
		s.Record(t, lifecycle.Event{Kind: lifecycle.KindCheckpoint, Job: job, Rows: 5, Cursor: "a key"})
	}
	name := standing.Name{Schema: "public", Table: "items", Column: "secret"}
	kinds := func(r status.HistoryRequest) (list []lifecycle.Kind, last status.Entry) {
		t.Helper()
		r.Name = name
		h, err := status.ReadHistory(t.Context(), s.DB.DB, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range h.Events {
			list = append(list, e.Kind)
		}
		return list, h.Events[len(h.Events)-1]
	}
	list, last := kinds(status.HistoryRequest{})
	if want := []lifecycle.Kind{lifecycle.KindSchemaAdded, lifecycle.KindDualWriting, lifecycle.KindBackfillStarted, lifecycle.KindCheckpoint}; !slices.Equal(list, want) || last.Checkpoints != 3 || last.Rows != 15 || last.Cursor != "" {
		t.Errorf("%v, at last %+v", list, last)
	}
	if list, last = kinds(status.HistoryRequest{Checkpoints: true, Limit: 2}); len(list) != 2 || last.Rows != 5 || last.Cursor != "" {
		t.Errorf("each on its own: %v, at last %+v", list, last)
	}
	if _, last = kinds(status.HistoryRequest{Checkpoints: true, Keys: true}); last.Cursor != "a key" {
		t.Errorf("with keys: %+v", last)
	}
	_, err := status.ReadHistory(t.Context(), s.DB.DB, status.HistoryRequest{Name: standing.Name{Schema: "public", Table: "items", Column: "note"}})
	var refused *standing.Refusal
	if !errors.As(err, &refused) || refused.Hint == "" {
		t.Errorf("of a column that was never registered: %v", err)
	}
}

// TestAManifestIsMatchedByTheNamesOfTodayAndOfThen, and what only it names is looked at, too.
func TestAManifestIsMatchedByTheNamesOfTodayAndOfThen(t *testing.T) {
	t.Parallel()
	s := items(t, 5)
	s.Run(t, `ALTER TABLE public.items RENAME secret TO hidden`)
	m := manifest.Default()
	table := manifest.DefaultTable()
	table.Name, table.Columns = "items", []manifest.Column{manifest.DefaultColumn("secret"), manifest.DefaultColumn("nowhere")}
	m.Tables = []manifest.Table{table}
	v, err := status.ReadSurvey(t.Context(), s.DB.DB, m, "", true)
	if err != nil {
		t.Fatal(err)
	}
	looks := v.Looks()
	if len(looks) != 2 || looks[0].Wanted == nil || looks[0].Name() != "hidden" || looks[1].Column.ID != 0 || looks[1].Column.Source != "nowhere" {
		t.Fatalf("%d looks: %+v", len(looks), looks[0].Status)
	}
	if err := status.Cover(t.Context(), s.DB.DB, looks, status.Covering{}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{status.FlagSourceRenamed, status.FlagNotInDatabase} {
		if looks[i].SetFlags(); !slices.Equal(looks[i].Status.Flags, []string{want}) {
			t.Errorf("flags %v, want %s", looks[i].Status.Flags, want)
		}
	}
	if bound := looks[0].Bound(); !slices.Equal(bound, []string{"id"}) {
		t.Errorf("its cells are bound to %v", bound)
	}
}

// A session that fills a table and analyzes it at once lets the server count its rows twice.
func TestRowsOfASessionThatAnalyzedThemAreCountedOnce(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`CREATE TABLE public.items (id bigint PRIMARY KEY, secret text) WITH (autovacuum_enabled = false)`,
		`INSERT INTO public.items SELECT i, 'secret' FROM generate_series(1, 30000) i`, `ANALYZE public.items`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(t.Context()); err != nil { // it tells its counters now
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() error {
		if live := testenv.One[int](t, db, `SELECT pg_stat_get_live_tuples('public.items'::regclass)`); live != 60000 {
			return fmt.Errorf("the server counts %d rows", live)
		}
		return nil
	})
	m, table := manifest.Default(), manifest.DefaultTable()
	table.Name, table.Columns = "items", []manifest.Column{manifest.DefaultColumn("secret")}
	m.Tables = []manifest.Table{table}
	if c := read(t, db.DB, status.Request{Manifest: m}); c.Coverage.Total != 30000 {
		t.Errorf("there are 30000 rows, and status says %d", c.Coverage.Total)
	}
}
