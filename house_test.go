// Package house proves how this repository is built: which package may import which, who may open which door, and
// what no file may contain. CONTRIBUTING.md says why. When a floor or a door proves wrong, move it here, in the
// change that needs it.
//
// A *floor* is a height: an import points strictly down. A *door* is a package or a library that only some may
// import. A *rule* looks at the parsed tree and returns its violations, each naming a file and what to do.
package house

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cipherfleet/cipherfleet"

// floors, from the ground up.
func floors() [][]string {
	return [][]string{
		1:  {"messages", "pkg/pg", "pkg/cell", "pkg/cell/foreign", "pkg/client/spell", "pkg/client/template", "pkg/embedded"},
		2:  {"pkg/backfill/keyspace", "pkg/lifecycle", "pkg/lifecycle/bound", "pkg/bus", "pkg/cell/kms", "pkg/cell/kms/kmstest", "pkg/client/exchange", "pkg/client/kind"},
		3:  {"pkg/client/token", "pkg/client/lineage", "pkg/client/place", "pkg/lifecycle/blind", "pkg/lifecycle/hint", "pkg/lifecycle/shred", "pkg/manifest", "pkg/app"},
		4:  {"pkg/transform", "pkg/ddl"},
		5:  {"pkg/backfill/work", "pkg/client", "pkg/testenv"},
		6:  {"pkg/backfill/shape"},
		7:  {"pkg/backfill/proof"},
		8:  {"pkg/backfill"}, // its tests prove what it wrote
		9:  {"coordinator/control/standing", "pkg/testenv/engine"},
		10: {"coordinator/control/preflight", "coordinator/control/status"},
		11: {"coordinator/control/index", "coordinator/control/ladder", "coordinator/control/residue", "coordinator/control/roadmap", "coordinator/control/scheme", "coordinator/control/verify"},
		12: {"coordinator/control", "coordinator/control/restore", "worker/runner"},
		13: {"coordinator/demo", "coordinator/cli/page"},
		14: {"coordinator/cli", "worker/program"},
		15: {"coordinator", "worker", "loadtest", "loadtest/chaos", "loadtest/leak", "deploy/postgres/find"},
	}
}

// door lets only some packages import what it leads to.
type door struct {
	to    string   // import path or a prefix of it; our own packages without the module's path
	open  []string // who may import it; "x/..." is x and everything below
	tests bool     // test files of every package may too
}

func doors() []door {
	return []door{
		{to: "github.com/tink-crypto/", open: []string{"pkg/cell/..."}},
		// testenv clears the streams of a server that somebody else keeps.
		{to: "github.com/nats-io/nats.go", open: []string{"pkg/bus", "pkg/testenv"}, tests: true},
		{to: "github.com/nats-io/nats-server", open: []string{"pkg/embedded"}, tests: true},
		{to: "github.com/caarlos0/env", open: []string{"pkg/app"}},
		{to: "pkg/bus", open: []string{"coordinator/control", "coordinator/cli", "coordinator/demo", "worker/runner", "worker/program", "pkg/app", "pkg/testenv", "loadtest"}, tests: true},
		{to: "pkg/embedded", open: []string{"coordinator/cli", "coordinator/demo", "pkg/testenv", "loadtest", "deploy/postgres/find"}, tests: true},
		{to: "pkg/testenv", open: []string{"pkg/testenv/engine"}, tests: true},
		{to: "pkg/cell/kms/kmstest", tests: true},
		{to: "worker/runner", open: []string{"worker/program", "coordinator/cli", "loadtest"}},
		{to: "coordinator/", open: []string{"coordinator/...", "loadtest"}},
	}
}

// wall keeps a package from reaching something even through others.
type wall struct {
	around string   // "x/..." is x and everything below
	keeps  []string // prefixes of import paths that must stay out of reach
	why    string
}

func walls() []wall {
	return []wall{
		{"pkg/backfill/...", []string{"github.com/nats-io/", "pkg/bus", "pkg/embedded"}, "the engine knows no NATS: it is handed functions"},
		{"worker/...", []string{"pkg/embedded", "coordinator"}, "the worker is small and has least privilege: no servers, no web, nothing of the control plane"},
		{"pkg/client", []string{"github.com/nats-io/", "pkg/bus", "pkg/embedded", "go.opentelemetry.io/", "github.com/spf13/", "pkg/app"}, "an application imports it: it must stay small"},
		{"messages", []string{"."}, "the wire contract needs nothing but the standard library"},
	}
}

// exception lets one file break one rule; a comment beside it says why.
type exception struct{ rule, file string }

func exceptions() []exception {
	return []exception{
		{"size", "coordinator/cli"}, // one file a command, and nothing but the floors below is shared by most of them
	}
}

// rules by name; each returns what it finds wrong.
func rules() map[string]func(tree) []violation {
	return map[string]func(tree) []violation{
		"floors":            func(t tree) []violation { return checkFloors(t, floors()) },
		"empty rooms":       func(t tree) []violation { return checkEmpty(t, floors()) },
		"doors":             func(t tree) []violation { return checkDoors(t, doors()) },
		"walls":             func(t tree) []violation { return checkWalls(t, walls()) },
		"environment":       checkEnvironment,
		"init":              checkInit,
		"sleep":             checkSleep,
		"skip":              checkSkip,
		"package variables": checkVariables,
		"length":            checkLength,
		"size":              checkSize,
		"package comment":   checkPackageComment,
		"names":             checkNames,
		"unfinished":        checkUnfinished,
	}
}

func TestHouse(t *testing.T) {
	t.Parallel()
	all, err := readTree(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found")
	}
	unused := exceptions()
	for _, name := range slices.Sorted(maps.Keys(rules())) {
		t.Run(name, func(t *testing.T) {
			for _, v := range rules()[name](all) {
				excused := func(e exception) bool { return e.rule == name && e.file == v.file }
				if slices.ContainsFunc(exceptions(), excused) {
					unused = slices.DeleteFunc(unused, excused)
					continue
				}
				t.Errorf("%s: %s", v.file, v.says)
			}
		})
	}
	for _, e := range unused {
		t.Errorf("the exception of %s from rule %q is not needed: remove it", e.file, e.rule)
	}
}

// matches reports whether a package is named by a pattern: itself, or "x/..." for x and everything below.
func matches(pattern, pkg string) bool {
	below, all := strings.CutSuffix(pattern, "/...")
	return pkg == below || all && strings.HasPrefix(pkg, below+"/")
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, pkg) })
}
