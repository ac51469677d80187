package roadmap

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// absent says that a column of the manifest is nowhere.
func absent(l *status.Look) (Obstacle, bool) {
	switch {
	case l.Gone && l.Column.ID == 0:
		return Obstacle{"manifest", fmt.Sprintf("there is no table %q in schema %q", l.Column.Table.Name, l.Column.Table.Schema),
			"names are taken literally: upper and lower case differ; mend the manifest, or create the table"}, true
	case l.Gone:
		return Obstacle{"manifest", fmt.Sprintf("%s is gone", l.Table), "take it out of the manifest"}, true
	case l.Plain.Attnum == 0 && l.State.Phase.Rung() < lifecycle.PhaseCutOver.Rung():
		return Obstacle{"manifest", fmt.Sprintf("%s has no column %q", l.Table, l.Column.Source), "names are taken literally; mend the manifest: " + nearColumns(l)}, true
	}
	return Obstacle{}, false
}

func nearColumns(l *status.Look) string {
	var names []string
	for _, c := range l.Relation.Columns {
		names = append(names, c.Name)
	}
	if near := pg.Near(l.Column.Source, names); len(near) > 0 {
		return fmt.Sprintf("did you mean %q?", near[0])
	}
	return "or add the column"
}

// blockers are what stands in the way of a column's steps.
func (m *mapper) blockers(ctx context.Context, q pg.Querier, l *status.Look, steps []Step) (list []Obstacle, err error) {
	list = append(list, unable(l)...)
	if l.State.Phase.Rung() < lifecycle.PhaseCutOver.Rung() && lifecycle.Phase(l.Wanted.Reach).Rung() > 0 {
		refused, err := m.preflight(ctx, q, l)
		if err != nil {
			return nil, err
		}
		list = append(list, refused...)
	}
	if m.request.Proxy != nil && l.Wanted.Transform == messages.TransformProxy && slices.ContainsFunc(steps, func(s Step) bool { return s.To == lifecycle.PhaseBackfilled }) {
		list = append(list, *m.request.Proxy)
	}
	if m.request.Key != nil && (l.Wanted.Transform == messages.TransformEncrypt || l.Wanted.From != nil) && needsKey(l, steps) {
		list = append(list, *m.request.Key)
	}
	for _, h := range m.facts.holders[l.Relation.OID] {
		list = append(list, h.obstacle(l.Table))
	}
	if slices.ContainsFunc(steps, func(s Step) bool { return s.To == lifecycle.PhaseCutOver }) {
		list = append(list, m.dependents(l)...)
		if refused, is := asObstacle("dependent", m.facts.follow.Check(l.Relation, l.Plain)); is {
			list = append(list, refused)
		}
	}
	return list, nil
}

// unable is what a manifest may ask for and this version does not do.
func unable(l *status.Look) (list []Obstacle) {
	add := func(what string) {
		list = append(list, Obstacle{"manifest", what, "this version encrypts into cells of type bytea, text or jsonb, or has an encrypter of your own make the values (transform: external or proxy)"})
	}
	switch {
	case l.Wanted.Made() && lifecycle.Phase(l.Wanted.Reach).Rung() < lifecycle.PhaseBackfilled.Rung():
		add("no command prepares a column of transform " + l.Wanted.Transform + " without its backfill yet")
	case l.Within.Where != "" && lifecycle.Phase(l.Wanted.Reach).Rung() < lifecycle.PhaseBackfilled.Rung():
		add("no command prepares a column of a table with where without its backfill yet")
	case elsewhere(l): // whatever the type
	case l.Wanted.From != nil && lifecycle.Phase(l.Wanted.Reach).Rung() < lifecycle.PhaseBackfilled.Rung():
		add("no command prepares a column of transform reencrypt without its backfill yet")
	case l.Wanted.Transform != messages.TransformEncrypt && l.Wanted.Transform != messages.TransformReencrypt:
		add("no command runs transform " + l.Wanted.Transform + " yet")
	case l.Wanted.Type == "eql_v2_encrypted":
		add("no command writes cells into a column of type " + l.Wanted.Type + " yet")
	}
	if l.Within.Where != "" && l.Wanted.Transform != messages.TransformEncrypt {
		list = append(list, Obstacle{"manifest", "the where of a table is heeded for transform encrypt alone: transform " + l.Wanted.Transform + " makes a value for every row",
			"do without it, or put those rows into a table or partition of their own"})
	}
	return list
}

// condition is what stands in the way of the manifest's condition: Postgres, or a job that works by another one.
func (m *mapper) condition(l *status.Look) (list []Obstacle) {
	refused, is := asObstacle("preflight", l.Condition.Refused)
	switch {
	case is:
		return []Obstacle{refused}
	case l.Condition.Refused != nil:
		m.roadmap.Unknown = append(m.roadmap.Unknown, fmt.Sprintf("the condition of %s: it could not be read (%v)", l.Table, l.Condition.Refused))
	case l.Status.Job != nil && slices.Contains(l.Status.Flags, status.FlagWhereDiffers) && !l.Survey.Jobs[l.Column.ID].State.Ended():
		list = append(list, Obstacle{"job", fmt.Sprintf("job %s works by another condition", l.Status.Job.ID), "wait for its end, or end it with `cipherfleet job cancel " + l.Status.Job.ID + "`"})
	}
	return list
}

// elsewhere says that the column's values are to be no cells of ours.
func elsewhere(l *status.Look) bool {
	return l.Wanted.Transform == messages.TransformExternal || l.Wanted.Transform == messages.TransformProxy || l.Wanted.Made()
}

// needsKey says that a step makes, seals or opens something under the key.
func needsKey(l *status.Look, steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool {
		return s.To == lifecycle.PhaseDualWriting || s.To == lifecycle.PhaseBackfilled || s.Command == verifyLine(l) || strings.HasPrefix(s.Command, "cipherfleet index ")
	})
}

// preflight asks what a backfill of the column would be refused for.
func (m *mapper) preflight(ctx context.Context, q pg.Querier, l *status.Look) ([]Obstacle, error) {
	r := messages.StartRequest{Schema: l.Table.Schema, Table: l.Table.Name, Key: l.Within.Key, Prepare: true, UserTriggers: m.request.Manifest.Fleet.UserTriggers,
		Columns: []messages.ColumnRequest{wantedOf(l)}}
	return asked(ctx, q, m.survey, l.Relation, r, m.mayInstall)
}

// asked makes the checks of a preflight on what the survey has seen.
func asked(ctx context.Context, q pg.Querier, v *status.Survey, relation pg.Relation, r messages.StartRequest, mayInstall bool) (list []Obstacle, err error) {
	seen := preflight.Seen{Relation: relation, Installed: v.Installed, MayInstall: mayInstall, Registered: []lifecycle.Column{}, States: v.States,
		Makers: func(id uint32) (work.Column, bool) { return maker(v, id) }, Nulls: v.SealsNulls}
	for _, c := range v.Columns {
		if c.Relid == relation.OID {
			seen.Registered = append(seen.Registered, c)
		}
	}
	refused, err := preflight.Refusals(ctx, q, r, seen)
	for _, r := range refused {
		list = append(list, Obstacle{"preflight", r.Message, r.Hint})
	}
	return list, err
}

// maker is who made a column's values in its last job as the survey saw it, and whether the column has a scheme of its own.
func maker(v *status.Survey, id uint32) (last work.Column, own bool) {
	_, own = v.Schemes[id]
	return standing.SpecIn(v.Jobs[id], id), own
}

// wantedOf is what the manifest asks for a column, as a request says it.
func wantedOf(l *status.Look) messages.ColumnRequest {
	r := messages.ColumnRequest{Source: l.Plain.Name, Target: cmp.Or(l.Sealed.Name, l.Wanted.Target)}
	if elsewhere(l) {
		r.Transform, r.External = l.Wanted.Transform, messages.Encrypter{Subject: l.Wanted.External.Subject, Key: l.Wanted.External.Key}
	}
	if l.Wanted.From != nil {
		r.Transform, r.From = l.Wanted.Transform, l.Wanted.From
	}
	if l.Wanted.Transform == messages.TransformEncrypt {
		r.Where = l.Within.Where
	}
	r.First = l.Wanted.First()
	if elsewhere(l) || !l.Wanted.Made() && l.Wanted.Type != "bytea" {
		r.Type = l.Wanted.Type
	}
	if l.Wanted.Made() {
		r.Transform, r.Type, r.Expression = l.Wanted.Transform, l.Wanted.Type, l.Wanted.Expression
		r.Done = messages.Done{Version: l.Wanted.Done.Version, Number: l.Wanted.Done.Number, When: l.Wanted.Done.When}
	}
	return r
}

// dependents are what a cutover would silently change the meaning of.
func (m *mapper) dependents(l *status.Look) (list []Obstacle) {
	for _, d := range m.facts.depends[standing.Place{Relation: l.Relation.OID, Attnum: l.Plain.Attnum}] {
		flows := d.Kind == "publication" || d.Kind == "subscription"
		if flows && d.ByName && l.Wanted.Cutover == standing.StrategyByName {
			continue
		}
		list = append(list, Obstacle{"dependent", "a cutover would silently change what this means: " + d.String(),
			"change or drop it before the cutover, or acknowledge it there with --despite " + standing.Quoted(d.Name)})
	}
	return list
}

func (h holder) obstacle(t pg.Table) Obstacle {
	if h.prepared {
		return Obstacle{"transaction", fmt.Sprintf("a prepared transaction %q of role %q has held a lock on %s for %v", h.app, h.user, t, h.age),
			"COMMIT PREPARED or ROLLBACK PREPARED it: no lock on the table is got before"}
	}
	return Obstacle{"transaction", fmt.Sprintf("a transaction of application %q as role %q (pid %d) has held a lock on %s for %v", h.app, h.user, h.pid, t, h.age),
		fmt.Sprintf("wait for its end, or end it with SELECT pg_terminate_backend(%d): no lock on the table is got before", h.pid)}
}

// cautions are what somebody should know before.
func (m *mapper) cautions(l *status.Look) (list []Obstacle) {
	if s := l.Relation.RowSecurity; s.Enabled && !s.Applies {
		list = append(list, Obstacle{"row-security", fmt.Sprintf("%s has row security; it does not hide rows from role %q", l.Table, l.Relation.Server.User),
			"run every command as such a role: policies that name the column go on naming it after a cutover"})
	}
	if len(l.Relation.Publications) > 0 && l.State.Phase.Rung() < lifecycle.PhaseBackfilled.Rung() {
		list = append(list, Obstacle{"publication", fmt.Sprintf("%s carries every row that the backfill writes", strings.Join(l.Relation.Publications, ", ")),
			"expect as many changes downstream as the table has rows"})
	}
	return list
}

const (
	oldTransaction = time.Hour // that keeps vacuum from reclaiming what a backfill leaves behind
	gibibyte       = 1 << 30
)

// server says what holds for the whole database, if there is work that it bears on.
func (m *mapper) server() {
	r, s := &m.roadmap, m.facts.server
	writes := slices.ContainsFunc(r.Columns, func(c Column) bool { return c.Cost != nil })
	for _, relation := range m.survey.Relations {
		if o, refused := asObstacle("server", preflight.CheckServer(relation.Server)); refused {
			r.Blockers = append(r.Blockers, o)
		}
		break
	}
	if !writes {
		return
	}
	r.Unknown = append(r.Unknown, "free disk space: no server tells it over SQL; compare the costs with it yourself")
	if !s.seesSessions {
		r.Unknown = append(r.Unknown, "long transactions of other roles: GRANT pg_read_all_stats shows them")
	}
	for _, slot := range s.slots {
		m.slot(slot)
	}
	if age := time.Duration(max(s.idle, s.prepared)) * time.Second; age > oldTransaction {
		r.Warnings = append(r.Warnings, Obstacle{"transaction", fmt.Sprintf("a transaction has been open for %v", age),
			"as long as it is, vacuum reclaims nothing of what a backfill leaves behind: pg_stat_activity and pg_prepared_xacts name it"})
	}
}

// slot warns of one that holds WAL. One that nobody reads, without a limit, fills the disk.
func (m *mapper) slot(s slot) {
	keeps, r := m.facts.server.keepsWAL, &m.roadmap
	switch message := fmt.Sprintf("replication slot %q holds back %d bytes of WAL", s.name, s.behind); {
	case !s.active && keeps < 0:
		r.Blockers = append(r.Blockers, Obstacle{"replication-slot", message + ", nobody reads it, and max_slot_wal_keep_size sets no limit",
			"attach its reader, drop it with SELECT pg_drop_replication_slot, or set a limit: else all WAL of a backfill stays on the disk"})
	case !s.active:
		r.Warnings = append(r.Warnings, Obstacle{"replication-slot", message + ", and nobody reads it", "beyond max_slot_wal_keep_size it is lost, and its reader has to start anew"})
	case s.behind > gibibyte:
		r.Warnings = append(r.Warnings, Obstacle{"replication-slot", message, "let its reader catch up first"})
	}
}
