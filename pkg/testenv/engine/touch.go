package engine

import (
	"context"
	"fmt"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
)

// Index builds the index of uncovered rows of every leaf, as the coordinator does.
func (k *Kit) Index() {
	k.T.Helper()
	for _, c := range k.Columns {
		column := ddl.Column{ID: c.ID, Table: k.Table, Source: c.Source, Target: c.Target, Key: k.Key().Names()}
		for _, leaf := range k.Inspect(k.T.Context()).Leaves {
			k.DB.Run(k.T, column.UncoveredIndex(leaf.Named).Do[0])
		}
	}
}

const auditSQL = `CREATE TABLE public.audit (one int);
CREATE FUNCTION public.audited() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.audit VALUES (1); RETURN NULL; END';
CREATE TRIGGER audited AFTER UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION public.audited()`

// Audit counts the row updates that are committed from here on.
func (k *Kit) Audit(context.Context) {
	k.T.Helper()
	k.DB.Run(k.T, fmt.Sprintf(auditSQL, k.Table.SQL()))
}

// BehindCapture runs SQL as somebody who disables the triggers.
func (k *Kit) BehindCapture(sql string) {
	k.T.Helper()
	k.DB.Run(k.T, `ALTER TABLE public.items DISABLE TRIGGER USER; `+sql+`;
DO $$ DECLARE name text; BEGIN
 FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.items'::regclass AND NOT tgisinternal LOOP
  EXECUTE format('ALTER TABLE public.items ENABLE ALWAYS TRIGGER %I', name);
 END LOOP; END $$`)
}
