package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// file is one parsed Go file of the module.
type file struct {
	path    string // from the root, with slashes
	pkg     string // its folder
	test    bool
	lines   int
	code    int // lines that hold more than a comment
	syntax  *ast.File
	imports []string // our own packages without the module's path
	read    *token.FileSet
}

type tree []file

type violation struct{ file, says string }

// readTree parses every Go file of the module at root; nested modules and generated folders are not part of it.
func readTree(root string) (tree, error) {
	sources := map[string]string{}
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipFolder(root, at, entry.Name())
		}
		if path.Ext(at) != ".go" {
			return nil
		}
		content, err := os.ReadFile(at)
		relative, relErr := filepath.Rel(root, at)
		sources[filepath.ToSlash(relative)] = string(content)
		if relErr != nil {
			return relErr
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return parse(sources)
}

func skipFolder(root, at, name string) error {
	if at == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "bin", "build"}, name) {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

// parse reads sources by path.
func parse(sources map[string]string) (tree, error) {
	var all tree
	positions := token.NewFileSet()
	for _, at := range slices.Sorted(maps.Keys(sources)) {
		syntax, err := parser.ParseFile(positions, at, sources[at], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", at, err)
		}
		f := file{path: at, pkg: path.Dir(at), test: strings.HasSuffix(at, "_test.go"), syntax: syntax, read: positions}
		f.lines, f.code = strings.Count(sources[at], "\n"), codeLines(sources[at])
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, fmt.Errorf("parse import of %s: %w", at, err)
			}
			f.imports = append(f.imports, strings.TrimPrefix(imported, module+"/"))
		}
		all = append(all, f)
	}
	return all, nil
}

// forTests are packages that tests on every floor may import.
var forTests = []string{"pkg/testenv", "pkg/testenv/engine", "pkg/cell/kms/kmstest"}

func checkFloors(all tree, floors [][]string) []violation {
	height := map[string]int{}
	for floor, packages := range floors {
		for _, pkg := range packages {
			height[pkg] = floor
		}
	}
	ours := map[string]bool{}
	for _, f := range all {
		ours[f.pkg] = true
	}
	var found []violation
	for _, f := range all {
		if f.pkg == "." {
			continue
		}
		if height[f.pkg] == 0 {
			found = append(found, violation{f.path, "package " + f.pkg + " stands on no floor: give it one"})
			continue
		}
		for _, imported := range f.imports {
			if !ours[imported] || f.test && (imported == f.pkg || slices.Contains(forTests, imported)) {
				continue
			}
			if height[imported] >= height[f.pkg] {
				found = append(found, violation{f.path, fmt.Sprintf("floor %d imports %s on floor %d: imports point strictly down",
					height[f.pkg], imported, height[imported])})
			}
		}
	}
	return found
}

// checkEmpty finds floors that name a package which is not there, so that the plan of the house stays one of the house.
func checkEmpty(all tree, floors [][]string) []violation {
	var found []violation
	for _, packages := range floors {
		for _, pkg := range packages {
			if !slices.ContainsFunc(all, func(f file) bool { return f.pkg == pkg }) {
				found = append(found, violation{pkg, "is on a floor, and there is no such package: take it out"})
			}
		}
	}
	return found
}

func checkDoors(all tree, doors []door) []violation {
	var found []violation
	for _, f := range all {
		for _, imported := range f.imports {
			for _, d := range doors {
				if !leadsTo(d.to, imported) || matchesAny(d.open, f.pkg) || d.tests && f.test || imported == f.pkg {
					continue
				}
				found = append(found, violation{f.path, fmt.Sprintf("imports %s, a door open to %v only", imported, d.open)})
			}
		}
	}
	return found
}

// leadsTo reports whether an import path is prefix, or below it; a prefix that ends in a slash means only below.
func leadsTo(prefix, imported string) bool {
	return imported == prefix || strings.HasPrefix(imported, strings.TrimSuffix(prefix, "/")+"/")
}

func checkWalls(all tree, walls []wall) []violation {
	imports := map[string][]string{}
	for _, f := range all {
		if !f.test {
			imports[f.pkg] = append(imports[f.pkg], f.imports...)
		}
	}
	var found []violation
	for _, w := range walls {
		for _, pkg := range slices.Sorted(maps.Keys(imports)) {
			if !matches(w.around, pkg) {
				continue
			}
			for _, way := range reach(imports, pkg) {
				end := way[len(way)-1]
				if slices.ContainsFunc(w.keeps, func(kept string) bool { return keptOut(kept, end) }) {
					found = append(found, violation{pkg, "reaches " + strings.Join(way[1:], " → ") + ": " + w.why})
				}
			}
		}
	}
	return found
}

// keptOut: "." stands for everything outside the standard library, whose paths have no dot in their first element.
func keptOut(kept, imported string) bool {
	if kept != "." {
		return leadsTo(kept, imported)
	}
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".") || first == "pkg" || first == "coordinator" || first == "worker"
}

// reach lists a shortest way from pkg to everything that it imports, itself or through our other packages.
func reach(imports map[string][]string, pkg string) [][]string {
	seen := map[string]bool{pkg: true}
	ways := [][]string{{pkg}}
	for i := 0; i < len(ways); i++ {
		way := ways[i]
		for _, next := range imports[way[len(way)-1]] {
			if !seen[next] {
				seen[next] = true
				ways = append(ways, append(slices.Clone(way), next))
			}
		}
	}
	return ways[1:]
}

// calls lists the files that name one of the functions of a package, such as os.Getenv.
func calls(all tree, pkg string, functions ...string) []violation {
	var found []violation
	for _, f := range all {
		name, imported := localName(f.syntax, pkg)
		if !imported {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			base, ok := selector.X.(*ast.Ident)
			if ok && base.Name == name && slices.Contains(functions, selector.Sel.Name) {
				found = append(found, violation{f.path, "uses " + pkg + "." + selector.Sel.Name})
			}
			return true
		})
	}
	return found
}

func localName(syntax *ast.File, pkg string) (string, bool) {
	for _, spec := range syntax.Imports {
		if spec.Path.Value != strconv.Quote(pkg) {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name, true
		}
		return path.Base(pkg), true
	}
	return "", false
}

// checkEnvironment: a test may pass its environment on to a program that it starts, but not look into it.
func checkEnvironment(all tree) []violation {
	found := calls(all, "os", "Getenv", "LookupEnv", "ExpandEnv")
	found = append(found, calls(all, "syscall", "Getenv", "Environ")...)
	for _, v := range calls(all, "os", "Environ") {
		if !strings.HasSuffix(v.file, "_test.go") {
			found = append(found, v)
		}
	}
	found = slices.DeleteFunc(found, func(v violation) bool { return path.Dir(v.file) == "pkg/app" })
	for i := range found {
		found[i].says += ": only pkg/app reads the environment"
	}
	return found
}

func checkSleep(all tree) []violation {
	found := calls(all, "time", "Sleep")
	for i := range found {
		found[i].says += ": wait for the event instead, or poll with a deadline"
	}
	return found
}

func checkSkip(all tree) []violation {
	var found []violation
	for _, f := range all {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if ok && f.test && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) {
				found = append(found, violation{f.path, "skips a test: what a test needs is there, or it fails"})
			}
			return true
		})
	}
	return found
}

func checkInit(all tree) []violation {
	var found []violation
	for _, f := range all {
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, violation{f.path, "has an init function: call what it does from where it is needed"})
			}
		}
	}
	return found
}

// checkVariables finds package variables that a function assigns to. Types of other packages are not needed for that,
// so imports are not followed and their absence is no error.
func checkVariables(all tree) []violation {
	byPackage := map[string][]file{}
	for _, f := range all {
		if !f.test {
			byPackage[f.pkg] = append(byPackage[f.pkg], f)
		}
	}
	var found []violation
	for _, pkg := range slices.Sorted(maps.Keys(byPackage)) {
		uses := map[*ast.Ident]types.Object{}
		var syntax []*ast.File
		for _, f := range byPackage[pkg] {
			syntax = append(syntax, f.syntax)
		}
		config := types.Config{Error: func(error) {}, FakeImportC: true}
		checked, _ := config.Check(pkg, byPackage[pkg][0].read, syntax, &types.Info{Uses: uses})
		for _, f := range byPackage[pkg] {
			for _, target := range assigned(f.syntax) {
				if variable, ok := uses[target].(*types.Var); ok && variable.Parent() == checked.Scope() {
					found = append(found, violation{f.path, "assigns to package variable " + target.Name + ": make it a field"})
				}
			}
		}
	}
	return found
}

// assigned lists the identifiers at the root of what a file assigns to: x in x = 1, x.f = 1, x[i]++.
func assigned(syntax *ast.File) []*ast.Ident {
	var targets []ast.Expr
	ast.Inspect(syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				targets = append(targets, n.Lhs...)
			}
		case *ast.IncDecStmt:
			targets = append(targets, n.X)
		}
		return true
	})
	var roots []*ast.Ident
	for _, target := range targets {
		if root := rootOf(target); root != nil {
			roots = append(roots, root)
		}
	}
	return roots
}

func rootOf(e ast.Expr) *ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return rootOf(e.X)
	case *ast.IndexExpr:
		return rootOf(e.X)
	case *ast.StarExpr:
		return rootOf(e.X)
	case *ast.ParenExpr:
		return rootOf(e.X)
	default:
		return nil
	}
}

const maxLines = 600

func checkLength(all tree) []violation {
	var found []violation
	for _, f := range all {
		if !f.test && f.lines > maxLines {
			found = append(found, violation{f.path, fmt.Sprintf("has %d lines, over %d: split it by what it is about", f.lines, maxLines)})
		}
	}
	return found
}

const maxCode = 2500

// checkSize refuses packages that hold too much to be one thing. What is counted are lines of code: none that is blank,
// or nothing but a comment, and no tests.
func checkSize(all tree) []violation {
	code := map[string]int{}
	for _, f := range all {
		if !f.test {
			code[f.pkg] += f.code
		}
	}
	var found []violation
	for _, pkg := range slices.Sorted(maps.Keys(code)) {
		if code[pkg] > maxCode {
			found = append(found, violation{pkg, fmt.Sprintf("has %d lines of code, over %d: split it by what it is about", code[pkg], maxCode)})
		}
	}
	return found
}

// codeLines counts the lines on which a token stands, all those of a string with several included.
func codeLines(source string) int {
	var tokens scanner.Scanner
	positions := token.NewFileSet().AddFile("", -1, len(source))
	tokens.Init(positions, []byte(source), nil, 0)
	count, last := 0, 0
	for {
		at, what, text := tokens.Scan()
		if what == token.EOF {
			return count
		}
		if what == token.SEMICOLON && text == "\n" {
			continue // no one wrote it
		}
		first := positions.Line(at)
		end := first + strings.Count(text, "\n")
		count += end - max(first, last+1) + 1
		last = max(last, end)
	}
}

func checkPackageComment(all tree) []violation {
	commented := map[string]bool{}
	for _, f := range all {
		if !f.test {
			commented[f.pkg] = commented[f.pkg] || f.syntax.Doc != nil
		}
	}
	var found []violation
	for _, pkg := range slices.Sorted(maps.Keys(commented)) {
		if !commented[pkg] {
			found = append(found, violation{pkg, "has no package comment: define its words in 5 to 15 lines"})
		}
	}
	return found
}

// checkNames refuses names that say nothing, of packages and of what they declare.
func checkNames(all tree) []violation {
	empty := []string{"util", "utils", "common", "helper", "helpers", "types", "models", "core", "misc"}
	hollow := regexp.MustCompile(`^Get[A-Z]|Impl$|Manager$`)
	var found []violation
	for _, f := range all {
		if slices.Contains(empty, path.Base(f.pkg)) || slices.Contains(empty, strings.TrimSuffix(path.Base(f.path), ".go")) {
			found = append(found, violation{f.path, "has a name that says nothing"})
		}
		for _, name := range declared(f.syntax) {
			if !f.test && hollow.MatchString(name) {
				found = append(found, violation{f.path, name + ": no Get, no Impl, no Manager"})
			}
		}
	}
	return found
}

func declared(syntax *ast.File) []string {
	var names []string
	for _, decl := range syntax.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			names = append(names, decl.Name.Name)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok {
					names = append(names, spec.Name.Name)
				}
			}
		}
	}
	return names
}

func checkUnfinished(all tree) []violation {
	unfinished := regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "XX" + "X"}, "|") + `)\b`)
	var found []violation
	for _, f := range all {
		for _, group := range f.syntax.Comments {
			if word := unfinished.FindString(group.Text()); word != "" {
				found = append(found, violation{f.path, "says " + word + ": finish it, or open an issue"})
			}
		}
	}
	return found
}
