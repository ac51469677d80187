package roadmap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestRoadmapNamesWhoHoldsTheTable: a transaction that has not ended stands in the way of every lock.
func TestRoadmapNamesWhoHoldsTheTable(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE t (id int PRIMARY KEY, email text) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF t DEFAULT`)
	m := manifest.Default()
	table, column := manifest.DefaultTable(), manifest.DefaultColumn("email")
	table.Name, column.Scheme, column.Schemes = "t", 1, map[int]manifest.Scheme{1: manifest.DefaultScheme()}
	table.Columns = []manifest.Column{column}
	m.Tables = []manifest.Table{table}
	read := func(holds time.Duration) []roadmap.Obstacle {
		r, err := roadmap.Read(t.Context(), db.DB, roadmap.Request{Manifest: m, Holds: holds})
		if err != nil {
			t.Fatal(err)
		}
		return r.Columns[0].Blockers
	}
	if list := read(time.Nanosecond); len(list) > 0 {
		t.Fatalf("nobody holds it: %v", list)
	}
	holder := testenv.Open(t, db.URL)
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // it has ended with the test
	if _, err := tx.Exec(t.Context(), `SELECT FROM low`); err != nil {
		t.Fatal(err)
	}
	list := read(time.Nanosecond)
	if len(list) != 1 || list[0].Kind != "transaction" || !strings.Contains(list[0].Message, "has held a lock on public.t") || !strings.Contains(list[0].Hint, "pg_terminate_backend") {
		t.Errorf("%+v", list)
	}
	if list := read(0); len(list) > 0 {
		t.Errorf("it has not been there for a minute: %v", list)
	}
}
