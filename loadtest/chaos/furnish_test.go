package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The test's own triggers note what the fleet does, in the transaction in which it does it: rows updated, ranges closed
// or forgotten, and checkpoints of a claim that is not the present one.
const auditSQL = `CREATE TABLE chaos.updated (xid text NOT NULL DEFAULT pg_current_xact_id()::text, key text NOT NULL);
CREATE TABLE chaos.closed (range bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION chaos.count_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.updated (key) VALUES (%[2]s);
  RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON %[1]s FOR EACH ROW WHEN (current_setting('cipherfleet.writer', true) = 'fleet') EXECUTE FUNCTION chaos.count_update();
CREATE FUNCTION chaos.count_close() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.closed (range) VALUES (new.id);
  RETURN NULL;
END $$;
CREATE TABLE chaos.forgotten (LIKE cipherfleet.ranges);
CREATE FUNCTION chaos.remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.forgotten SELECT old.*;
  RETURN NULL;
END $$;
CREATE TRIGGER forgotten AFTER DELETE ON cipherfleet.ranges FOR EACH ROW EXECUTE FUNCTION chaos.remember();
CREATE VIEW chaos.ranges AS SELECT * FROM cipherfleet.ranges UNION ALL SELECT * FROM chaos.forgotten;
CREATE TABLE chaos.unfenced (event bigint NOT NULL);
CREATE FUNCTION chaos.check_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.unfenced (event) SELECT new.id FROM cipherfleet.ranges r WHERE r.id = new.range_id AND (r.epoch, r.worker) IS DISTINCT FROM (new.epoch, new.worker);
  RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT ON cipherfleet.events FOR EACH ROW WHEN (new.event = 'backfill_checkpoint') EXECUTE FUNCTION chaos.check_claim();
CREATE TRIGGER chaos AFTER UPDATE ON cipherfleet.ranges FOR EACH ROW WHEN (old.state <> 'done' AND new.state = 'done') EXECUTE FUNCTION chaos.count_close();`

// Every write, also the fleet's, takes one tilde off the end of the value: a value with three of them is changed by
// three writes. Some of the fleet's take their time, so that others begin to wait in the middle of its chunk.
const meddleSQL = `CREATE FUNCTION chaos.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  new.touched := clock_timestamp();
  IF new.secret LIKE '%%~' THEN
    new.secret := left(new.secret, -1);
  END IF;
  IF random() < 0.05 AND current_setting('cipherfleet.writer', true) = 'fleet' THEN
    PERFORM pg_sleep(0.002);
  END IF;
  RETURN new;
END $$;
CREATE TRIGGER meddle BEFORE UPDATE ON %[1]s FOR EACH ROW EXECUTE FUNCTION chaos.meddle();`

// What a database's owner may have set, and what would change values or snapshots if it were not pinned.
func (p plan) defaults() []string {
	var list []string
	if p.isolation != "" {
		list = append(list, "default_transaction_isolation = '"+p.isolation+"'")
	}
	if p.hostile {
		list = append(list, "DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Kathmandu'", "extra_float_digits = 0", "bytea_output = 'escape'",
			"standard_conforming_strings = off", "client_encoding = 'LATIN1'", "synchronous_commit = off", "array_nulls = off", "xmlbinary = 'hex'",
			"default_transaction_deferrable = on", "search_path = ''", "idle_session_timeout = '4s'", "lock_timeout = '5s'", "statement_timeout = '30s'")
	}
	return list
}

// furnish makes the database's defaults, the table with its rows, the mirror and the triggers.
func (w *world) furnish(ctx context.Context) error {
	l := w.plan.layout
	key := make([]string, len(l.key))
	for i, name := range l.key {
		key[i] = "new." + pg.Ident(name)
	}
	statements := []string{"CREATE SCHEMA chaos", l.create(w.plan), fmt.Sprintf(auditSQL, l.table.SQL(), "concat_ws('/', "+strings.Join(key, ", ")+")")}
	if w.plan.meddling {
		statements = append(statements, fmt.Sprintf(meddleSQL, l.table.SQL()))
	}
	for _, statement := range statements {
		if _, err := w.db.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	for _, setting := range w.plan.defaults() {
		if _, err := w.db.Exec(ctx, "ALTER DATABASE postgres SET "+setting); err != nil {
			return fmt.Errorf("set %s: %w", setting, err)
		}
	}
	return nil
}

// fill copies the first rows into table and mirror.
func (w *world) fill(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	l, r := w.plan.layout, chance(w.plan.seed, forPlan+1000)
	columns := append(append([]string{}, l.key...), "secret", "born", "note", "version")
	rows := make([][]any, w.plan.rows)
	for i := range rows {
		v := w.plan.value(r, int64(i+1), true)
		rows[i] = with(l.keyOf(int64(i+1)), []any{v.secret, v.born, "n", 0})
	}
	for _, table := range []pg.Table{l.table, {Schema: "chaos", Name: "mirror"}} {
		if _, err := conn.CopyFrom(ctx, pgx.Identifier{table.Schema, table.Name}, columns, pgx.CopyFromRows(rows)); err != nil {
			return fmt.Errorf("fill %s: %w", table, err)
		}
		if _, err := conn.Exec(ctx, "ANALYZE "+table.SQL()); err != nil {
			return err
		}
	}
	return nil
}

// patience is how long the application lets a statement take before it complains: far longer than anything of the
// fleet may hold it up, and than its own long locks do.
const patience = 45 * time.Second
