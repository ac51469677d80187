package ddl

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Watch is what must stay as it is while a job works on one relation.
type Watch struct {
	Key     []string // names of the key's columns
	Columns []Column // of each only ID, Source, Target, Beside, Expression and Where
}

// doesSQL is what a function does. What Postgres prints as its definition differs with the search path, and a shape is
// taken at home while a chunk is written abroad.
const doesSQL = `pg_catalog.md5(pg_catalog.concat_ws(' ', f.prolang, f.prosecdef, f.provolatile, f.proisstrict, f.proargtypes, f.prorettype, f.proconfig, f.prosrc))`

// partsSQL looks at the relation $1. Each branch is a part: what it is, how it stands in numbers, and in words. A part
// that is not there is missing from the result. Of triggers it lists ours, and whatever fires after them before the
// row is written. It has no joins, so that no statistics mislead its plan, which is made once per connection.
const partsSQL = `SELECT pg_catalog.concat('table') AS part,
  pg_catalog.concat_ws(' ', c.oid, c.relnamespace, c.relname, c.relkind) AS state,
  pg_catalog.concat_ws('.', c.relnamespace::pg_catalog.regnamespace, c.relname) AS words
 FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
UNION ALL SELECT 'root',
  pg_catalog.concat_ws(' ', c.oid, c.relnamespace, c.relname, c.relkind),
  pg_catalog.concat_ws('.', c.relnamespace::pg_catalog.regnamespace, c.relname)
 FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root($1::pg_catalog.oid)
UNION ALL SELECT pg_catalog.concat('column ', a.attname),
  pg_catalog.concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull, a.attgenerated),
  pg_catalog.concat_ws(' ', 'number', a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod), 'collation', a.attcollation)
 FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
  AND a.attname OPERATOR(pg_catalog.=) ANY (ARRAY[%[1]s]::pg_catalog.name[])
UNION ALL SELECT 'key index', 'usable', 'usable'
 WHERE EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
  AND i.indisunique AND i.indisvalid AND i.indislive AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
  AND i.indnkeyatts OPERATOR(pg_catalog.=) %[3]d
  AND ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
   AND a.attname OPERATOR(pg_catalog.=) ANY (ARRAY[%[2]s]::pg_catalog.name[])) OPERATOR(pg_catalog.<@) (i.indkey::pg_catalog.int2[])[0:%[5]d])
UNION ALL SELECT pg_catalog.concat('check ', k.conname),
  pg_catalog.concat_ws(' ', k.convalidated, k.conkey, pg_catalog.md5(k.conbin::pg_catalog.text)),
  pg_catalog.concat_ws(' ', CASE WHEN k.convalidated THEN 'validated' ELSE 'not validated' END, 'on column number', k.conkey)
 FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND k.contypid OPERATOR(pg_catalog.=) 0
  AND k.conname OPERATOR(pg_catalog.=) ANY (ARRAY[%[4]s]::pg_catalog.name[])
UNION ALL SELECT pg_catalog.concat('trigger ', g.tgname),
  pg_catalog.concat_ws(' ', g.tgenabled, g.tgtype, pg_catalog.md5(g.tgqual::pg_catalog.text), (SELECT ` + doesSQL + ` FROM pg_catalog.pg_proc f WHERE f.oid OPERATOR(pg_catalog.=) g.tgfoid)),
  CASE WHEN g.tgenabled OPERATOR(pg_catalog.=) 'A' THEN 'always enabled' WHEN g.tgenabled OPERATOR(pg_catalog.=) 'D' THEN 'disabled' ELSE 'enabled for some roles of replication only' END
 FROM pg_catalog.pg_trigger g WHERE g.tgrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND g.tgname OPERATOR(pg_catalog.>=) '` + TriggerPrefix + `'
  AND g.tgtype OPERATOR(pg_catalog.&) 3::pg_catalog.int2 OPERATOR(pg_catalog.=) 3 AND g.tgtype OPERATOR(pg_catalog.&) 20::pg_catalog.int2 OPERATOR(pg_catalog.<>) 0`

// Parts is a query for (part, state, words) of each thing watched: its name, how it stands in numbers, and the same for
// a reader. Its parameter is the oid of the leaf, or of the table itself. Compare them with [Changes].
func (w Watch) Parts() string {
	var watched, checks, functions, conditions []string
	for _, c := range w.Columns {
		watched = append(watched, c.Source, c.Target)
		watched = append(watched, c.Beside...)
		checks = append(checks, CheckName(c.ID))
		if c.Expression != nil {
			watched = append(watched, c.Expression.names()...)
			functions = append(functions, strings.TrimPrefix(valueFunction(c.ID), "cipherfleet."), strings.TrimPrefix(madeFunction(c.ID), "cipherfleet."), strings.TrimPrefix(doneFunction(c.ID), "cipherfleet."))
		}
		if c.Where != nil {
			watched = append(watched, c.Where.Names()...)
			functions = append(functions, strings.TrimPrefix(withinFunction(c.ID), "cipherfleet."))
		}
		if c.Expression == nil {
			conditions = append(conditions, missesFunction(c.ID), missesInsertFunction(c.ID))
		}
	}
	watched = append(watched, w.Key...)
	parts := fmt.Sprintf(partsSQL, literals(watched), literals(w.Key), len(w.Key), literals(checks), len(w.Key)-1)
	if len(functions) > 0 {
		parts += fmt.Sprintf(functionsSQL, literals(functions))
	}
	if len(conditions) > 0 {
		parts += fmt.Sprintf(conditionsSQL, literals(conditions))
	}
	return parts
}

// conditionsSQL are the functions that capture asks, by their names: the triggers of partitions say of no function that
// they depend on it.
const conditionsSQL = `
UNION ALL SELECT pg_catalog.concat('function ', f.proname), ` + doesSQL + `, 'as it was made'
 FROM pg_catalog.pg_proc f WHERE f.pronamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('cipherfleet')::pg_catalog.oid
  AND f.proname OPERATOR(pg_catalog.=) ANY (ARRAY[%s]::pg_catalog.name[])
  AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid)`

// functionsSQL are the functions of expressions, as they were parsed: their text depends on the search path.
const functionsSQL = `
UNION ALL SELECT pg_catalog.concat('function ', f.proname), pg_catalog.concat_ws(' ', f.proargtypes, f.prorettype, pg_catalog.md5(f.prosqlbody::pg_catalog.text)), 'as it was made'
 FROM pg_catalog.pg_proc f WHERE f.pronamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('cipherfleet')::pg_catalog.oid
  AND f.proname OPERATOR(pg_catalog.=) ANY (ARRAY[%s]::pg_catalog.name[])`

// Fingerprint is a query for one text that differs whenever any of [Watch.Parts] differs, with the same parameter. Under
// a lock on the relation it holds until the transaction ends. It takes a fifth of a millisecond once it is planned.
func (w Watch) Fingerprint() string {
	return `SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_literal(p.part), p.state), E'\n'` +
		` ORDER BY p.part COLLATE pg_catalog."C", p.state COLLATE pg_catalog."C"), '')) FROM (` + w.Parts() + `) p`
}

func literals(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = pg.Literal(name)
	}
	return strings.Join(quoted, ", ")
}

// Part is one row of [Watch.Parts].
type Part struct{ Name, State, Words string }

// Changes says for a reader what differs between two answers of [Watch.Parts]. It is empty if nothing does.
func Changes(before, after []Part) []string {
	var changes []string
	now := byName(after)
	for _, was := range before {
		is, there := now[was.Name]
		delete(now, was.Name)
		switch {
		case !there:
			changes = append(changes, fmt.Sprintf("%s is gone, or has another name", was.Name))
		case is.State == was.State:
		case is.Words == was.Words:
			changes = append(changes, was.Name+" has another definition")
		default:
			changes = append(changes, fmt.Sprintf("%s was %s, now %s", was.Name, was.Words, is.Words))
		}
	}
	for _, is := range after {
		if _, isNew := now[is.Name]; isNew {
			changes = append(changes, is.Name+" is new")
		}
	}
	return changes
}

func byName(parts []Part) map[string]Part {
	named := make(map[string]Part, len(parts))
	for _, p := range parts {
		named[p.Name] = p
	}
	return named
}
