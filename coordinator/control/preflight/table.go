package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// ownSchema holds our tables.
const ownSchema = "cipherfleet"

// checkTable refuses relations whose rows cannot be walked and written one by one, for good.
func (p *look) checkTable(context.Context) error {
	r := p.plan.Relation
	switch {
	case r.System:
		return standing.Refuse("table", "name a table of your own", "%s belongs to Postgres", r.Table())
	case r.Schema == ownSchema:
		return standing.Refuse("table", "name a table of your own", "%s is one of cipherfleet's own tables", r.Table())
	case r.Kind != pg.KindTable && r.Kind != pg.KindPartitioned:
		return standing.Refuse("table", "name the table that holds the rows", "%s is %s, not a table", r.Table(), kindName(r.Kind))
	case r.IsPartition:
		return standing.Refuse("table", fmt.Sprintf("name table %q in schema %q: all its partitions are done together", r.Root.Name, r.Root.Schema),
			"%s is a partition of %s", r.Table(), r.Root.Table())
	case len(r.Children) > 0:
		return standing.Refuse("table", "do the children one by one, after taking them out with ALTER TABLE ... NO INHERIT",
			"%s has tables that inherit from it, such as %s; their rows would be seen through it", r.Table(), r.Children[0].Table())
	}
	for _, leaf := range r.Leaves {
		switch {
		case leaf.Kind != pg.KindTable:
			return standing.Refuse("table", "detach it first", "%s, a partition of %s, is %s", leaf.Table(), r.Table(), kindName(leaf.Kind))
		case leaf.Persistence != pg.Permanent:
			return standing.Refuse("table", "make it permanent first: ALTER TABLE ... SET LOGGED", "%s is %s: what is committed there may be lost", leaf.Table(), persistenceName(leaf.Persistence))
		}
	}
	return p.checkRules()
}

func (p *look) checkRules() error {
	for _, rule := range p.plan.Relation.Rules {
		if rule.Event == "UPDATE" && rule.Enabled != "D" {
			return standing.Refuse("table", "drop the rule, or turn it into a trigger", "rule %q rewrites every UPDATE of %s", rule.Name, rule.Table.Table())
		}
	}
	return nil
}

// checkIdentity refuses a table of which Postgres itself would refuse the first chunk.
func (p *look) checkIdentity(context.Context) error {
	if len(p.plan.Relation.Unidentified) == 0 {
		return nil
	}
	u, identity := p.plan.Relation.Unidentified[0], "FULL"
	if !p.plan.Relation.IsPartitioned { // the key's index, which a partition has under another name
		identity = "USING INDEX " + pg.Ident(p.plan.Key.Index.Name)
	}
	return standing.Refuse("table", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s; give it a primary key; or take it out of the publication", u.Leaf.Table().SQL(), identity),
		"publication %q carries the updates of %s, which has no replica identity: Postgres refuses to update it", u.Publication, u.Leaf.Table())
}

// checkPublished refuses a table of which Postgres would refuse the first chunk for what a publication carries of it: the
// columns of a row filter must be of the replica identity, and a list of columns must hold all of it. Postgres itself is
// asked, by an update that is only explained.
func (p *look) checkPublished(ctx context.Context) error {
	asked := map[uint32]bool{}
	for _, part := range p.plan.Relation.PublishedParts {
		if asked[part.Leaf.OID] {
			continue
		}
		asked[part.Leaf.OID] = true
		refused, err := p.refusesUpdates(ctx, part.Leaf.Table())
		if err != nil {
			return fmt.Errorf("preflight: have an update of %s explained: %w", part.Leaf.Table(), err)
		}
		if refused {
			return standing.Refuse("table", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL suits a row filter, and an index over its columns does; a list of columns must hold the replica identity; or take the table out of the publication", part.Leaf.Table().SQL()),
				"publication %q carries the updates of %s by a row filter or a list of columns that does not fit its replica identity: Postgres refuses to update it", part.Publication, part.Leaf.Table())
		}
	}
	return nil
}

// unfitIdentity is Postgres's answer to an update that a publication could not carry.
const unfitIdentity = "42P10"

func (p *look) refusesUpdates(ctx context.Context, leaf pg.Table) (bool, error) {
	column := p.plan.Columns[0].Target
	if p.plan.Columns[0].Add {
		column = p.plan.Columns[0].Source
	}
	name := pg.Ident(column.Name)
	if _, err := p.q.Exec(ctx, "SAVEPOINT explained"); err != nil {
		return false, err
	}
	_, answer := p.q.Exec(ctx, fmt.Sprintf("EXPLAIN UPDATE ONLY %s SET %s = %s WHERE false", leaf.SQL(), name, name))
	if _, err := p.q.Exec(ctx, "ROLLBACK TO SAVEPOINT explained"); err != nil {
		return false, err
	}
	return pg.Code(answer) == unfitIdentity, nil // whatever else is wrong is for other checks to say
}

func kindName(k pg.RelationKind) string {
	switch k {
	case pg.KindView:
		return "a view"
	case pg.KindMaterialized:
		return "a materialized view"
	case pg.KindForeign:
		return "a foreign table"
	case pg.KindSequence:
		return "a sequence"
	case pg.KindIndex, "I":
		return "an index"
	case pg.KindComposite:
		return "a composite type"
	}
	return "no ordinary table"
}

func persistenceName(p pg.Persistence) string {
	if p == pg.Temporary {
		return "temporary"
	}
	return "unlogged"
}

// checkTriggers finds the user's own triggers that our UPDATE fires and wants somebody to have said what to do.
func (p *look) checkTriggers(context.Context) error {
	p.plan.Skip = p.request.UserTriggers == messages.TriggersSkip
	if err := standing.CheckLast(p.plan.Relation); err != nil {
		return err
	}
	fired := p.fired()
	switch s := p.plan.Relation.Server; {
	case p.plan.Skip && !s.MaySetReplication:
		return standing.Deny("user_triggers", fmt.Sprintf("as a superuser: GRANT SET ON PARAMETER session_replication_role TO %s (Postgres 15 and later), or let them fire", pg.Ident(s.User)),
			"skipping triggers needs the right to set session_replication_role, which role %q does not have", s.User)
	case p.plan.Skip && len(fired) > 0:
		return standing.Refuse("user_triggers", "let them fire, or disable them yourself for the time of the job",
			"these triggers cannot be skipped, because they are enabled ALWAYS or for REPLICA: %s", listTriggers(fired))
	case p.request.UserTriggers == "" && len(fired) > 0:
		return standing.Refuse("user_triggers", "look at what they do, once for each row; then say --user-triggers fire, or --user-triggers skip to keep them from firing",
			"writing the target fires triggers of your own: %s", listTriggers(fired))
	}
	p.plan.Triggers = fired
	return nil
}

// fired lists the user's own triggers that fire when the targets are updated, in the replication role that we use.
func (p *look) fired() (fired []pg.Trigger) {
	targets := p.written()
	for _, t := range p.plan.Relation.Triggers {
		inRole := t
		if p.plan.Skip { // the replica role fires the triggers of replicas instead of the ordinary ones
			inRole.Enabled = map[string]string{"R": "A", "A": "A"}[t.Enabled]
		}
		if !standing.IsOurs(t) && inRole.FiresOnUpdate(targets...) {
			fired = append(fired, t)
		}
	}
	return fired
}

func listTriggers(all []pg.Trigger) string {
	words := make([]string, len(all))
	for i, t := range all {
		level := "statement"
		if t.Row {
			level = "row"
		}
		words[i] = fmt.Sprintf("%q on %s (%s each %s, calls %s)", t.Name, t.Table.Table(), strings.ToLower(t.Timing), level, t.Function)
	}
	return strings.Join(words, ", ")
}
