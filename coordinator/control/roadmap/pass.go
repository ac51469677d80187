package roadmap

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/coordinator/control/status"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
)

// pass is what one job does: columns of one table that can go together.
type pass struct {
	table   uint32
	key     string
	proxied bool // through the encrypting proxy goes a job of its own
	next    bool // nothing is to be done before it; what waits for its rungs keeps nobody
}

// join has columns that are ready for the same pass done by one command. One that something stands in the way of goes
// alone: it would have all of them refused.
func join(looks []*status.Look, columns []Column) {
	passes := map[pass][]int{}
	for i, l := range looks {
		at := backfillOf(columns[i])
		if at < 0 || len(columns[i].Blockers) > 0 {
			continue
		}
		p := pass{l.Relation.OID, strings.Join(append(l.Within.Key, ""), "\x00"), l.Wanted.Transform == messages.TransformProxy, at == 0}
		passes[p] = append(passes[p], i)
	}
	for _, together := range passes {
		var all []*status.Look
		for _, i := range together {
			all = append(all, looks[i])
		}
		command := passLine(all...)
		for _, i := range together {
			step := &columns[i].Steps[backfillOf(columns[i])]
			step.Command = command
			for _, o := range all {
				if o != looks[i] {
					step.With = append(step.With, o.Name())
				}
			}
		}
	}
}

// backfillOf is the place of the step that a job makes; -1: there is none.
func backfillOf(c Column) int {
	return slices.IndexFunc(c.Steps, func(s Step) bool { return s.To == lifecycle.PhaseBackfilled })
}

// passLine is the command that encrypts columns of one table as the manifest wants it.
func passLine(looks ...*status.Look) string {
	first := looks[0]
	words := append([]string{"cipherfleet", "backfill"}, sourceOf(first).Flags()...)
	targets, named, prepare := []string{}, 0, false
	for i, l := range looks {
		if i > 0 {
			words = append(words, "--column", standing.Quoted(l.Name()))
		}
		target := cmp.Or(l.Sealed.Name, l.Wanted.Target)
		if targets = append(targets, "--target", standing.Quoted(target)); target != l.Name()+"_encrypted" {
			named = len(targets) // they are given in the order of the columns
		}
		prepare = prepare || l.Sealed.Attnum == 0
	}
	words = append(words, targets[:named]...)
	for _, key := range first.Within.Key {
		words = append(words, "--key", standing.Quoted(key))
	}
	if prepare {
		words = append(words, "--prepare")
	}
	if triggers := first.Survey.Manifest.Fleet.UserTriggers; triggers != "" {
		words = append(words, "--user-triggers", triggers)
	}
	return strings.Join(words, " ")
}
