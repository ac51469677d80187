package ddl

import (
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// The conditions of capture are functions of their own. A statement makes its conditions ready anew each time, from
// their text, and that costs a write of one row more than it costs to ask; what is written in a function is made ready
// once a transaction, and read once a session. They take columns as arguments, so they follow renames too, and may be
// called by whoever may write the table. Most writes are let go by the first question, the rest is asked of few.
//
// missesBody is of an update. A client that says that it seals has written another cell if source or key changed.
const missesBody = `
BEGIN
  IF %[1]s THEN
    RETURN false;
  END IF;
%[2]s  RETURN %[3]spg_catalog.record_image_ne(ROW(%[4]s), ROW(%[5]s))
   AND (new_target IS DISTINCT FROM NULL AND ` + isClient + ` AND pg_catalog.record_image_ne(ROW(new_target), ROW(old_target))) IS NOT TRUE;
END
`

// sealedBody is what comes sooner where it is known how cells compare.
const sealedBody = `  IF %s AND ` + isClient + ` THEN
    RETURN false;
  END IF;
`

// valueBody is that there is something to miss: a row of NULL needs no cell, unless NULL is sealed.
const valueBody = `(new_target IS DISTINCT FROM NULL OR %s IS DISTINCT FROM NULL) AND `

// missesInsertBody is of an insert. Nothing says whose a cell is that comes in, but who brings it.
const missesInsertBody = `
BEGIN
  RETURN CASE WHEN new_target IS DISTINCT FROM NULL THEN (` + isClient + `) IS NOT TRUE ELSE %s END;
END
`

// hasSource is, behind AND, that a new row has a value that could miss its cell; nothing where a NULL could, too.
func (c Column) hasSource() string {
	if c.Nulls {
		return ""
	}
	return " AND new." + pg.Ident(c.Source) + " IS DISTINCT FROM NULL"
}

// insertBody is that of this column.
func (c Column) insertBody() string {
	if c.Nulls {
		return fmt.Sprintf(missesInsertBody, "true")
	}
	return fmt.Sprintf(missesInsertBody, "new_source IS DISTINCT FROM NULL")
}

const conditionSQL = `CREATE OR REPLACE FUNCTION cipherfleet.%s(%s) RETURNS boolean
LANGUAGE plpgsql STABLE AS $misses$%s$misses$`

func (c Column) misses() string {
	arguments, body := c.missesParts()
	return fmt.Sprintf(conditionSQL, missesFunction(c.ID), arguments, body)
}

func (c Column) missesParts() (list, body string) {
	bound := c.bound()
	arguments := []string{"new_target " + c.typeOf(c.Target), "old_target " + c.typeOf(c.Target)}
	var images [2][]string
	for v, version := range []string{"new", "old"} {
		for i, name := range bound {
			argument := fmt.Sprintf("%s_%d", version, i+1)
			arguments = append(arguments, argument+" "+c.typeOf(name))
			images[v] = append(images[v], argument)
		}
	}
	sealed := ""
	if unlike, known := c.compared("<>", c.Target, "new_target", "old_target"); known {
		sealed = fmt.Sprintf(sealedBody, unlike)
	}
	value := ""
	if !c.Nulls {
		value = fmt.Sprintf(valueBody, images[0][len(bound)-1])
	}
	now, before := strings.Join(images[0], ", "), strings.Join(images[1], ", ")
	return strings.Join(arguments, ", "), fmt.Sprintf(missesBody, c.unchanged(images), sealed, value, now, before)
}

func (c Column) missesInsert() string {
	arguments := []string{"new_target " + c.typeOf(c.Target), "new_source " + c.typeOf(c.Source)}
	return fmt.Sprintf(conditionSQL, missesInsertFunction(c.ID), strings.Join(arguments, ", "), c.insertBody())
}

// unchanged is never true of a write that changed an image of source or key; of NULL it need not say anything.
func (c Column) unchanged(images [2][]string) string {
	bound := c.bound()
	equal := make([]string, 0, len(bound))
	for i := len(bound) - 1; i >= 0; i-- { // the source changes more often than the key
		same, known := c.compared("=", bound[i], images[0][i], images[1][i])
		if !known {
			return fmt.Sprintf("pg_catalog.record_image_eq(ROW(%s), ROW(%s))", strings.Join(images[0], ", "), strings.Join(images[1], ", "))
		}
		equal = append(equal, same)
	}
	return strings.Join(equal, " AND ")
}

// compared compares two versions of a column by their bytes, if its type has an operator that does.
func (c Column) compared(operator, name, one, other string) (condition string, known bool) {
	collation := ""
	switch c.Types[name] {
	case oidBool, oidBytea, oidInt8, oidInt2, oidInt4, oidOID, oidDate, oidTimestamp, oidTimestamptz, oidUUID:
	case oidText, oidVarchar:
		collation = ` COLLATE pg_catalog."C"`
	default:
		return "", false
	}
	return fmt.Sprintf("%s%s OPERATOR(pg_catalog.%s) %s%s", one, collation, operator, other, collation), true
}

// Types that are equal only if their bytes are (pg_type.dat), if need be under the collation that compares bytes.
const (
	oidBool, oidBytea            = 16, 17
	oidInt8, oidInt2, oidInt4    = 20, 21, 23
	oidOID, oidVarchar           = 26, 1043
	oidDate, oidUUID             = 1082, 2950
	oidTimestamp, oidTimestamptz = 1114, 1184
)

// TypesOf are those of columns, for [Column.Types].
func TypesOf(columns ...pg.Column) map[string]uint32 {
	types := make(map[string]uint32, len(columns))
	for _, c := range columns {
		types[c.Name] = c.TypeOID
	}
	return types
}

// typeOf is the type of a column, as a function's argument takes it.
func (c Column) typeOf(name string) string {
	return pg.Ident(c.Table.Schema, c.Table.Name, name) + "%TYPE"
}
