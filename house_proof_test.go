package house

import (
	"slices"
	"strings"
	"testing"
)

// Each rule is shown a small tree that keeps it and one that breaks it, so that none can be blind.
func TestRulesSee(t *testing.T) {
	t.Parallel()
	small := [][]string{1: {"low", "beside"}, 2: {"high"}, 5: {"pkg/testenv"}}
	onFloors := func(all tree) []violation { return checkFloors(all, small) }
	inRooms := func(all tree) []violation { return checkEmpty(all, small) }
	atDoors := func(all tree) []violation {
		return checkDoors(all, []door{
			{to: "example.org/lib", open: []string{"low/..."}},
			{to: "example.org/server", open: []string{"low"}, tests: true},
			{to: "below/", open: []string{"high"}},
		})
	}
	behindWalls := func(all tree) []violation {
		return checkWalls(all, []wall{
			{around: "high/...", keeps: []string{"example.org/lib", "low"}, why: "no"},
			{around: "pure", keeps: []string{"."}, why: "no"},
		})
	}
	tests := map[string]struct {
		rule  func(tree) []violation
		files map[string]string
		want  []string // files found wrong
	}{
		"floors: down":               {onFloors, sources("high/a.go", `import _ "M/low"`, "low/a.go", ``), nil},
		"floors: up":                 {onFloors, sources("low/a.go", `import _ "M/high"`, "high/a.go", ``), []string{"low/a.go"}},
		"floors: sideways":           {onFloors, sources("low/a.go", `import _ "M/beside"`, "beside/a.go", ``), []string{"low/a.go"}},
		"floors: none":               {onFloors, sources("attic/a.go", ``), []string{"attic/a.go"}},
		"floors: testenv from tests": {onFloors, sources("low/a_test.go", `import _ "M/pkg/testenv"`, "pkg/testenv/a.go", ``), nil},
		"floors: a test goes up":     {onFloors, sources("low/a_test.go", `import _ "M/high"`, "high/a.go", ``), []string{"low/a_test.go"}},
		"floors: testenv from code":  {onFloors, sources("low/a.go", `import _ "M/pkg/testenv"`, "pkg/testenv/a.go", ``), []string{"low/a.go"}},

		"empty rooms: none": {inRooms, sources("low/a.go", ``, "beside/a.go", ``, "high/a.go", ``, "pkg/testenv/a.go", ``), nil},
		"empty rooms: one":  {inRooms, sources("low/a.go", ``, "high/a.go", ``, "pkg/testenv/a.go", ``), []string{"beside"}},

		"doors: open":              {atDoors, sources("low/a.go", `import _ "example.org/lib/v2"`), nil},
		"doors: open below":        {atDoors, sources("low/er/a.go", `import _ "example.org/lib"`), nil},
		"doors: closed":            {atDoors, sources("high/a.go", `import _ "example.org/lib/v2"`), []string{"high/a.go"}},
		"doors: closed to tests":   {atDoors, sources("high/a_test.go", `import _ "example.org/lib"`), []string{"high/a_test.go"}},
		"doors: open to tests":     {atDoors, sources("high/a_test.go", `import _ "example.org/server"`), nil},
		"doors: a similar name":    {atDoors, sources("high/a.go", `import _ "example.org/library"`), nil},
		"doors: our own packages":  {atDoors, sources("other/a.go", `import _ "M/below/x"`), []string{"other/a.go"}},
		"doors: open to a sibling": {atDoors, sources("high/a.go", `import _ "M/below/x"`), nil},

		"walls: far enough":   {behindWalls, sources("high/a.go", `import _ "M/mid"`, "mid/a.go", `import _ "os"`), nil},
		"walls: direct":       {behindWalls, sources("high/a.go", `import _ "example.org/lib"`), []string{"high"}},
		"walls: below":        {behindWalls, sources("high/er/a.go", `import _ "M/low"`), []string{"high/er"}},
		"walls: through":      {behindWalls, sources("high/a.go", `import _ "M/mid"`, "mid/a.go", `import _ "example.org/lib/x"`), []string{"high"}},
		"walls: standard":     {behindWalls, sources("pure/a.go", `import _ "encoding/json"`), nil},
		"walls: not standard": {behindWalls, sources("pure/a.go", `import _ "example.org/x"`), []string{"pure"}},
		"walls: not our own":  {behindWalls, sources("pure/a.go", `import _ "M/pkg/pg"`), []string{"pure"}},

		"environment: pkg/app": {checkEnvironment, sources("pkg/app/a.go", `import "os"; var x = os.Getenv("X")`), nil},
		"environment: read":    {checkEnvironment, sources("a/a.go", `import "os"; var x = os.Getenv("X")`), []string{"a/a.go"}},
		"environment: renamed": {checkEnvironment, sources("a/a.go", `import o "os"; var x, _ = o.LookupEnv("X")`), []string{"a/a.go"}},
		"environment: whole":   {checkEnvironment, sources("a/a.go", `import "os"; var x = os.Environ()`), []string{"a/a.go"}},
		"environment: pass on": {checkEnvironment, sources("a/a_test.go", `import "os"; var x = os.Environ()`), nil},
		"environment: by test": {checkEnvironment, sources("a/a_test.go", `import "os"; var x = os.Getenv("X")`), []string{"a/a_test.go"}},
		"environment: kernel":  {checkEnvironment, sources("a/a.go", `import "syscall"; var x = syscall.Environ()`), []string{"a/a.go"}},
		"environment: a field": {checkEnvironment, sources("a/a.go", `type o struct{ Getenv int }; var os o; var x = os.Getenv`), nil},

		"init: function": {checkInit, sources("a/a.go", `func init() {}`), []string{"a/a.go"}},
		"init: method":   {checkInit, sources("a/a.go", `type T int; func (T) init() {}`), nil},

		"sleep: called": {checkSleep, sources("a/a_test.go", `import "time"; func f() { time.Sleep(1) }`), []string{"a/a_test.go"}},
		"sleep: passed": {checkSleep, sources("a/a.go", `import "time"; var f = time.Sleep`), []string{"a/a.go"}},
		"sleep: timer":  {checkSleep, sources("a/a.go", `import "time"; var f = time.After`), nil},

		"skip: test": {checkSkip, sources("a/a_test.go", `import "testing"; func TestX(t *testing.T) { t.Skipf("no") }`), []string{"a/a_test.go"}},
		"skip: code": {checkSkip, sources("a/a.go", `type T int; func (T) Skip() {}; func f(t T) { t.Skip() }`), nil},

		"variables: constant": {checkVariables, sources("a/a.go", `var x = 1; func f() int { return x }`), nil},
		"variables: assigned": {checkVariables, sources("a/a.go", `var x = 1; func f() { x = 2 }`), []string{"a/a.go"}},
		"variables: counted":  {checkVariables, sources("a/a.go", `var x = 1`, "a/b.go", `func f() { x++ }`), []string{"a/b.go"}},
		"variables: element":  {checkVariables, sources("a/a.go", `var x = map[int]int{}; func f() { x[1] = 2 }`), []string{"a/a.go"}},
		"variables: shadowed": {checkVariables, sources("a/a.go", `var x = 1; func f() int { x := x; x = 2; return x }`), nil},
		"variables: foreign":  {checkVariables, sources("a/a.go", `import "example.org/x"; func f(y *x.T) { y.Z = 1 }`), nil},

		"length: at the limit": {checkLength, sources("a/a.go", strings.Repeat("\n", maxLines-3)), nil},
		"length: over it":      {checkLength, sources("a/a.go", strings.Repeat("\n", maxLines+1)), []string{"a/a.go"}},
		"length: a test":       {checkLength, sources("a/a_test.go", strings.Repeat("\n", maxLines+1)), nil},

		"size: at the limit": {checkSize, sources("a/a.go", strings.Repeat("var _ = `\n`\n", maxCode/2-1)), nil},
		"size: over it":      {checkSize, sources("a/a.go", strings.Repeat("var _ = `\n`\n", maxCode/4), "a/b.go", strings.Repeat("var _ = 1 // one\n", maxCode/2)), []string{"a"}},
		"size: comments":     {checkSize, sources("a/a.go", strings.Repeat("// word\n\n/* more\nwords */\n", maxCode)), nil},
		"size: tests":        {checkSize, sources("a/a_test.go", strings.Repeat("var _ = 1\n", maxCode+1)), nil},

		"comment: none":    {checkPackageComment, sources("a/a.go", ``, "a/b.go", ``), []string{"a"}},
		"comment: in one":  {checkPackageComment, map[string]string{"a/a.go": "// Package a is.\npackage a\n", "a/b.go": "package a\n"}, nil},
		"comment: in test": {checkPackageComment, map[string]string{"a/a_test.go": "// Package a is.\npackage a\n", "a/b.go": "package a\n"}, []string{"a"}},

		"names: package":  {checkNames, sources("pkg/util/a.go", ``), []string{"pkg/util/a.go"}},
		"names: file":     {checkNames, sources("a/helpers.go", ``), []string{"a/helpers.go"}},
		"names: getter":   {checkNames, sources("a/a.go", `func GetX() {}`), []string{"a/a.go"}},
		"names: manager":  {checkNames, sources("a/a.go", `type JobManager struct{}`), []string{"a/a.go"}},
		"names: carriers": {checkNames, sources("a/a.go", `type T int; func (T) Get(string) {}`), nil},

		"unfinished: word":  {checkUnfinished, sources("a/a.go", "// TO"+"DO: the rest\n"), []string{"a/a.go"}},
		"unfinished: other": {checkUnfinished, sources("a/a.go", "// what to do\n"), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := parse(test.files)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range test.rule(all) {
				got = append(got, v.file)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("found %v, want %v", got, test.want)
			}
		})
	}
}

// sources makes files from pairs of path and body; M in an import stands for our module.
func sources(pairs ...string) map[string]string {
	files := map[string]string{}
	for pair := range slices.Chunk(pairs, 2) {
		files[pair[0]] = "package p\n\n" + strings.ReplaceAll(pair[1], `"M/`, `"`+module+`/`) + "\n"
	}
	return files
}

func TestEveryRuleIsProven(t *testing.T) {
	t.Parallel()
	if len(rules()) != 14 {
		t.Errorf("there are %d rules: show a new one a tree that breaks it in TestRulesSee, then change this number", len(rules()))
	}
}
