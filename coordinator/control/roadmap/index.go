package roadmap

import (
	"fmt"
	"slices"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

// indexSteps make the blind indexes that the manifest lists, once every row has its cell: those that are not there, and
// those that are not ready or do not find every row.
func indexSteps(l *status.Look, add func(to lifecycle.Phase, does, command, lock string)) {
	if !indexable(l) {
		return
	}
	for _, x := range l.Status.Indexes {
		if !x.Wanted || undividable(l, x) {
			continue
		}
		command := func(verb string) string { return nameOf(l).Command("index "+verb) + " " + standing.Quoted(x.Name) }
		state := lifecycle.IndexState(x.State)
		if unborn(x) {
			add("", fmt.Sprintf("make blind index %q, with a key of its own", x.Name), command("new"), "SHARE ROW EXCLUSIVE and ACCESS EXCLUSIVE for a moment; no row is read")
		}
		if unborn(x) || state == lifecycle.IndexFilling || state == lifecycle.IndexReady && (!x.Valid || x.Behind) {
			build := command("build")
			if generations(l, x.Name) > 1 {
				build += fmt.Sprintf(" --generation %d", x.Generation)
			}
			add("", fmt.Sprintf("write the tokens that blind index %q lacks, and build what lookups use", x.Name), build, "of rows, a chunk at a time, then SHARE UPDATE EXCLUSIVE"+joined(l))
		}
	}
}

// changed are the blind indexes that the manifest describes otherwise than they are: no step changes one, for nobody could
// look up in it meanwhile.
func changed(l *status.Look) (list []Obstacle) {
	for _, x := range l.Status.Indexes {
		message := fmt.Sprintf("blind index %q is another one than the manifest describes", x.Name)
		if len(l.Otherwise(x)) == 0 || slices.ContainsFunc(list, func(o Obstacle) bool { return o.Message == message }) {
			continue
		}
		list = append(list, Obstacle{"manifest", message,
			fmt.Sprintf("an index never changes, and --next makes another of the same with another key: describe it as it is, or list the new one under a name of its own, and when that is ready drop the old one with `%s %s`",
				nameOf(l).Command("index drop"), standing.Quoted(x.Name))})
	}
	return list
}

// indexable says that blind indexes can be made of the column's cells when the steps before are done.
func indexable(l *status.Look) bool {
	reached := max(l.State.Phase.Rung(), lifecycle.Phase(l.Wanted.Reach).Rung())
	return reached >= lifecycle.PhaseBackfilled.Rung() && !elsewhere(l) && len(unable(l)) == 0
}

// joined is the lock that the index over all partitions takes.
func joined(l *status.Look) string {
	if !l.Relation.IsPartitioned {
		return ""
	}
	return " of each partition, and SHARE of all for a moment"
}

// undividable says that the manifest wants an index that a partitioned table cannot have, and that is not there.
func undividable(l *status.Look, x status.Index) bool {
	return l.Relation.IsPartitioned && unborn(x) && slices.ContainsFunc(l.Wanted.Indexes, func(w manifest.Index) bool { return w.Name == x.Name && w.Unique })
}

// undivided are the blind indexes that cannot be made.
func undivided(l *status.Look) (list []Obstacle) {
	for _, x := range l.Status.Indexes {
		if x.Wanted && undividable(l, x) {
			list = append(list, Obstacle{"manifest", fmt.Sprintf("blind index %q cannot be unique: Postgres keeps values unique in each partition, and not in all of them together", x.Name),
				"leave unique: true out, and have the application keep values apart"})
		}
	}
	return list
}

// unborn says that an index has no column of tokens yet.
func unborn(x status.Index) bool {
	return !x.Present || lifecycle.IndexState(x.State) == lifecycle.IndexPrepared
}

// generations counts those of an index that are not dropped.
func generations(l *status.Look, name string) (n int) {
	for _, x := range l.Status.Indexes {
		if x.Name == name && x.State != "" {
			n++
		}
	}
	return n
}
