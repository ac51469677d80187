package roadmap_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/roadmap"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// largeSQL makes tables of forty columns each, the first of which have a registered column, rows and an index.
const largeSQL = `DO $$
DECLARE
  name text;
BEGIN
  FOR t IN 1..%[1]d LOOP
    name := 'large_' || t;
    EXECUTE format('CREATE TABLE %%I (id bigint PRIMARY KEY, %%s)', name, (SELECT string_agg(format('c%%s %%s', g, (ARRAY['text', 'int', 'date', 'varchar(40)'])[1 + g %% 4]), ', ') FROM generate_series(1, 39) g));
    IF t <= %[2]d THEN
      EXECUTE format('ALTER TABLE %%I ADD c4_encrypted bytea; CREATE INDEX ON %%1$I (c8); INSERT INTO %%1$I (id, c4) SELECT g, g FROM generate_series(1, 20) g', name);
      INSERT INTO cipherfleet.columns (relid, source_attnum, target_attnum, schema_name, table_name, source, target, type)
      VALUES (name::regclass, 5, 41, 'public', name, 'c4', 'c4_encrypted', 'text');
      INSERT INTO cipherfleet.events (table_name, column_name, event, phase) VALUES ('public.' || name, 'c4', 'schema_added', 'schema-added'), ('public.' || name, 'c4', 'dual_writing', 'dual-writing');
    END IF;
  END LOOP;
END $$`

// counter counts what is sent.
type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// large is such a database, a manifest that names two columns of every table, and a connection that counts.
func large(t *testing.T, tables, registered int) (*pg.DB, manifest.Manifest, *counter) {
	t.Helper()
	db := testenv.Database(t)
	db.Run(t, fmt.Sprintf(largeSQL, tables, registered))
	for id := range registered {
		c := ddl.Column{ID: uint32(id + 1), Table: pg.Table{Schema: "public", Name: fmt.Sprintf("large_%d", id+1)}, Source: "c4", Target: "c4_encrypted", Key: []string{"id"}}
		for _, sql := range slices.Concat(c.Check().Do, c.Validate().Do, c.Capture().Do) {
			db.Run(t, sql)
		}
	}
	m := manifest.Default()
	for i := range tables {
		table := manifest.DefaultTable()
		table.Name = fmt.Sprintf("large_%d", i+1)
		for _, source := range []string{"c4", "c8"} {
			c := manifest.DefaultColumn(source)
			c.Scheme, c.Schemes, c.Reach = 1, map[int]manifest.Scheme{1: manifest.DefaultScheme()}, "cut-over"
			x := manifest.DefaultIndex()
			x.Name = source + "_bidx"
			c.Indexes = []manifest.Index{x}
			table.Columns = append(table.Columns, c)
		}
		m.Tables = append(m.Tables, table)
	}
	n := &counter{}
	counted, err := pg.Open(t.Context(), db.URL, pg.Options{MaxConns: 2, Tracer: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(counted.Close)
	return counted, m, n
}

// TestStatusAndPlanOfALargeDatabase: of five hundred tables with forty columns each, and of ten, the same number of
// statements is sent. How long that takes is told, not judged: it is the machine's.
func TestStatusAndPlanOfALargeDatabase(t *testing.T) {
	t.Parallel()
	few, fewer, counted := large(t, 10, 2)
	many, more, sent := large(t, 500, 40)
	for name, ask := range map[string]func(*pg.DB, manifest.Manifest) (int, error){
		"status": func(db *pg.DB, m manifest.Manifest) (int, error) {
			s, err := status.Read(t.Context(), db, status.Request{Manifest: m})
			return len(s.Columns), err
		},
		"plan": func(db *pg.DB, m manifest.Manifest) (int, error) {
			r, err := roadmap.Read(t.Context(), db, roadmap.Request{Manifest: m})
			return len(r.Columns), err
		},
	} {
		counted.n.Store(0)
		if n, err := ask(few, fewer); err != nil || n != 20 {
			t.Fatalf("%s of few: %d columns, %v", name, n, err)
		}
		sent.n.Store(0)
		begun := time.Now()
		n, err := ask(many, more)
		if err != nil || n != 1000 {
			t.Fatalf("%s of many: %d columns, %v", name, n, err)
		}
		t.Logf("%s of 1000 columns in 500 tables: %v, %d statements", name, time.Since(begun), sent.n.Load())
		if sent.n.Load() > counted.n.Load() || sent.n.Load() > 90 {
			t.Errorf("%s: %d statements for 500 tables, %d for 10", name, sent.n.Load(), counted.n.Load())
		}
	}
}
