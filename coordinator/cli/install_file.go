package cli

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// installation is our schema as a migration: everything that leads from version from, 0 is nothing, to this program's.
func installation(from int) (migration, error) {
	versions, err := schemaVersions()
	if err != nil {
		return migration{}, err
	}
	to := len(versions)
	m := migration{name: "cipherfleet", about: []string{
		fmt.Sprintf("Schema cipherfleet, version %d: columns, wrapped keys, jobs and the event log. Nothing outside of it is touched.", to)}}
	pin, unpin := ddl.Pin("0")
	m.up = []string{pin, "DO " + ddl.Quote(installGuardSQL)}
	m.down = []string{pin, "DO " + ddl.Quote(uninstallSQL), unpin}
	if from > 0 {
		m.name = fmt.Sprintf("cipherfleet_%d", to)
		m.about[0] = fmt.Sprintf("Schema cipherfleet, from version %d to version %d.", from, to)
		m.up[1] = "DO " + ddl.Quote(fmt.Sprintf(upgradeGuardSQL, from))
		m.down[1] = "DO " + ddl.Quote(fmt.Sprintf(noWayBackSQL, to, from))
	}
	for _, version := range versions[min(from, to):] {
		m.up = append(m.up, version...)
	}
	m.up = append(m.up, unpin)
	return m, nil
}

// schemaVersions are the statements of each version of the schema, without the transaction around them.
func schemaVersions() ([][]string, error) {
	var text strings.Builder
	if err := lifecycle.Print(&text); err != nil {
		return nil, err
	}
	var versions [][]string
	for _, s := range statements(text.String()) {
		switch {
		case s == "BEGIN" || strings.HasSuffix(s, "\nBEGIN"):
			versions = append(versions, nil)
		case s != "COMMIT":
			last := len(versions) - 1
			versions[last] = append(versions[last], s)
		}
	}
	return versions, nil
}

// A migration that would run into what is there already says what to do instead.
const (
	installGuardSQL = `BEGIN
  IF pg_catalog.to_regclass('cipherfleet.installation') IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'schema cipherfleet is installed in this database already',
      HINT = 'tell the migration tool that this migration has run here';
  END IF;
END`
	upgradeGuardSQL = `BEGIN
  IF (SELECT schema_version FROM cipherfleet.installation) IS DISTINCT FROM %d THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'schema cipherfleet is not at version %[1]d in this database',
      HINT = 'if it is at a later one, tell the migration tool that this migration has run here';
  END IF;
END`
	noWayBackSQL = `BEGIN
  RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'there is no way back from version %d of schema cipherfleet to version %d',
    HINT = 'every program that knew the older version can be replaced by a newer one, and goes on with the newer schema';
END`
)

// uninstallSQL removes the schema if there is no cell that would lose its key with it: no column that its check or the
// registry calls a target. It drops what is in the schema by name, so that something of yours that depends on it makes
// it fail.
const uninstallSQL = `DECLARE
  bearing text;
  part record;
BEGIN
  IF pg_catalog.to_regclass('cipherfleet.columns') IS NULL THEN
    RETURN;
  END IF;
  LOCK TABLE cipherfleet.columns IN EXCLUSIVE MODE;
  SELECT pg_catalog.string_agg(DISTINCT found.name, ', ' ORDER BY found.name) INTO bearing FROM (
    SELECT pg_catalog.format('%s.%I', k.conrelid::pg_catalog.regclass, a.attname) AS name
      FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class r ON r.oid = k.conrelid
      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
     WHERE k.contype = 'c' AND k.conname ~ '^cipherfleet_[0-9]+_cell$' AND NOT r.relispartition
    UNION ALL SELECT pg_catalog.format('%s.%I', c.relid::pg_catalog.regclass, a.attname)
      FROM cipherfleet.columns c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.relid AND a.attnum = c.target_attnum AND NOT a.attisdropped) found;
  IF bearing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = pg_catalog.concat('schema cipherfleet stays: without its keys nobody could ever open what these columns hold: ', bearing),
      HINT = 'take each column back with cipherfleet rollback and drop its column of cells; then go down again';
  END IF;
  FOR part IN
    SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
      pg_catalog.string_agg(c.oid::pg_catalog.regclass::text, ', ') AS names, pg_catalog.min(CASE c.relkind WHEN 'v' THEN 1 WHEN 'S' THEN 3 ELSE 2 END) AS turn
      FROM pg_catalog.pg_class c WHERE c.relnamespace = 'cipherfleet'::pg_catalog.regnamespace AND c.relkind IN ('v', 'r', 'S')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i'))
     GROUP BY 1
    UNION ALL SELECT 'FUNCTION', pg_catalog.string_agg(f.oid::pg_catalog.regprocedure::text, ', '), 4
      FROM pg_catalog.pg_proc f WHERE f.pronamespace = 'cipherfleet'::pg_catalog.regnamespace HAVING pg_catalog.count(*) > 0
    ORDER BY 3
  LOOP
    EXECUTE pg_catalog.format('DROP %s %s', part.kind, part.names);
  END LOOP;
  DROP SCHEMA cipherfleet;
END`
