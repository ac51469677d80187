package ddl_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

// awkward is a column whose names hold everything a name can.
func awkward() ddl.Column {
	return ddl.Column{ID: 4294967295, Table: pg.Table{Schema: `My "Shop"`, Name: `or.ders\`}, Source: `e'mail "x"`, Target: `e.mail $capture$ cell`, Key: []string{`Tenant`, `id;--`}}
}

const awkwardSchema = `CREATE SCHEMA "My ""Shop"""`
const awkwardTable = `CREATE TABLE "My ""Shop"""."or.ders\" ("Tenant" uuid, "id;--" int, "e'mail ""x""" text, PRIMARY KEY ("id;--", "Tenant"))`

func TestGolden(t *testing.T) {
	t.Parallel()
	c := awkward()
	leaf := pg.Named{OID: 4294967295, Schema: c.Table.Schema, Name: c.Table.Name}
	beside := c
	beside.Beside = []string{`iv "1"`, `salt`}
	within := c
	within.Where = &ddl.Condition{SQL: `(("Kind $capture$" = 'a; --'::text) AND (length("e'mail ""x""") > 3))`, Reads: []ddl.Input{{Name: "Kind $capture$", Attnum: 4, Collation: `pg_catalog."C"`}, {Name: `e'mail "x"`, Attnum: 3}}}
	token := ddl.Token{Index: 4294967295, Table: c.Table, Cell: c.Target, Name: `b"idx %s`, Bytes: 16, Unique: true, Key: c.Key}
	parted := token
	parted.Unique, parted.Parted = false, true
	watch := ddl.Watch{Key: c.Key, Columns: []ddl.Column{c, usersColumn()}}
	for name, step := range map[string]ddl.Step{
		"add_target": c.AddTarget(), "store": c.Store(), "check": c.Check(), "validate": c.Validate(), "capture": c.Capture(), "capture_beside": beside.Capture(), "capture_within": within.Capture(), "strict": c.Strict(), "bare": c.Bare(false), "bare_bytes": c.Bare(true), "reverse": c.ReverseCapture(),
		"reverse_index":     c.ReverseUncoveredIndex(pg.Named{OID: 4294967295, Schema: c.Table.Schema, Name: c.Table.Name}),
		"reverse_uncovered": {Do: []string{c.ReverseUncovered(pg.Named{OID: 4294967295, Schema: c.Table.Schema, Name: c.Table.Name})}},
		"reverse_missed":    {Do: []string{ddl.ReverseMissed(c.ID)}},

		"token_add": token.Add(), "token_capture": token.Capture(), "token_build": token.Build(), "token_drop": {Do: token.Drop()},
		"token_list": token.List(), "token_listed": {Do: []string{token.Listed()}},
		"token_part": parted.On(leaf).Build(), "token_part_list": parted.On(leaf).List(), "token_join": {Do: append([]string{parted.HoldParts()}, parted.Join().Do...), Undo: parted.Join().Undo}, "token_parted_capture": parted.Capture(),
		"token_doubled": {Do: []string{token.Doubled(), token.DoubledKeys(), ddl.TokenMissed(token.Index)}},

		"uncovered_index": c.UncoveredIndex(leaf), "uncovered": {Do: []string{c.Uncovered(leaf)}},
		"present": c.Present(), "validate_present": c.ValidatePresent(), "require": c.Require(),
		"shredded": c.Shredded([]uint32{7, 3, 7}), "bind": c.Bind([]string{"Tenant", `"slug" $capture$`}), "fence": c.Fence([]uint16{9, 2, 1, 2}), "validate_fence": c.ValidateFence(), "raise_fence": c.RaiseFence(),
		"left_behind": {Do: []string{c.LeftBehind(65535, 1000)}}, "census": {Do: []string{c.Census()}},

		"missed": {Do: []string{ddl.Missed(c.ID)}}, "conditions": {Do: []string{ddl.Conditions()}}, "parts": {Do: []string{watch.Parts()}}, "fingerprint": {Do: []string{watch.Fingerprint()}},
	} {
		text := strings.Join(step.Do, ";\n") + ";\n"
		if len(step.Undo) > 0 {
			text += "-- undo\n" + strings.Join(step.Undo, ";\n") + ";\n"
		}
		compareGolden(t, name, text)
	}
}

func compareGolden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name+".sql")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s differs; go test -update writes it anew:\n%s", path, text)
	}
}
