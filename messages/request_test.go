package messages_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
)

// start is a good request with one part replaced, or added when it is not there.
func start(replace ...string) []byte {
	body := `{"v":1,"request_id":"r","table":"users","columns":[{"source":"email"}]}`
	return []byte(strings.NewReplacer(replace...).Replace(body))
}

// external is a good request for an encrypter on that subject.
func external(subject string) []byte {
	return start(`"email"`, `"email","type":"eql_v2_encrypted","transform":"external","external":{"subject":"`+subject+`"}`)
}

// first is a good request whose column has this first scheme, and these other fields.
func first(scheme, fields string) []byte {
	return start(`"email"`, `"email","first_scheme":`+scheme+`,`+fields)
}

func TestARequestForAnEncrypter(t *testing.T) {
	t.Parallel()
	request, err := messages.ParseStartRequest(external("crypto.users-2.encrypt"))
	want := messages.ColumnRequest{Source: "email", Target: "email_encrypted", Type: "eql_v2_encrypted", Transform: messages.TransformExternal, External: messages.Encrypter{Subject: "crypto.users-2.encrypt"}}
	if err != nil || request.Columns[0] != want {
		t.Errorf("read %+v: %v", request.Columns, err)
	}
}

func TestAShortStartRequestGetsItsDefaults(t *testing.T) {
	t.Parallel()
	request, err := messages.ParseStartRequest(start())
	if err != nil {
		t.Fatal(err)
	}
	if request.Schema != "public" || request.Columns[0].Target != "email_encrypted" {
		t.Errorf("read %+v", request)
	}
}

func TestAWrongStartRequestIsToldWhere(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 64)
	for _, test := range []struct {
		name, field string
		body        []byte
	}{
		{"not JSON", "", []byte(`start it`)},
		{"nothing", "", nil},
		{"a list", "", []byte(`[]`)},
		{"two objects", "", start(`}]}`, `}]}{}`)},
		{"too large", "", start(`"r"`, `"`+strings.Repeat("r", messages.MaxBody)+`"`)},
		{"no version", "v", start(`"v":1,`, ``)},
		{"another version", "v", start(`"v":1`, `"v":2,"new":true`)},
		{"version as text", "v", start(`"v":1`, `"v":"1"`)},
		{"unknown field", "tabel", start(`"table"`, `"tabel"`)},
		{"unknown field of a column", "soruce", start(`"source"`, `"soruce"`)},
		{"number for text", "table", start(`"users"`, `7`)},
		{"text for number", "chunk_rows", start(`"v":1`, `"v":1,"chunk_rows":"7"`)},
		{"text for list", "columns", start(`[{"source":"email"}]`, `"email"`)},
		{"text for flag", "prepare", start(`"v":1`, `"v":1,"prepare":"yes"`)},
		{"no request id", "request_id", start(`"r"`, `""`)},
		{"request id with space", "request_id", start(`"r"`, `"a b"`)},
		{"long request id", "request_id", start(`"r"`, `"`+strings.Repeat("r", 129)+`"`)},
		{"no table", "table", start(`"users"`, `""`)},
		{"long table", "table", start(`"users"`, `"`+long+`"`)},
		{"table with zero byte", "table", start(`"users"`, `"a\u0000b"`)},
		{"long schema", "schema", start(`"v":1`, `"v":1,"schema":"`+long+`"`)},
		{"no columns", "columns", start(`[{"source":"email"}]`, `[]`)},
		{"column without source", "columns[0].source", start(`{"source":"email"}`, `{"target":"x"}`)},
		{"another transform", "columns[0].transform", start(`"email"`, `"email","transform":"rot13"`)},
		{"another type", "columns[0].type", start(`"email"`, `"email","type":"xml"`)},
		{"cells in a type of EQL", "columns[0].type", start(`"email"`, `"email","transform":"encrypt","type":"eql_v2_encrypted"`)},
		{"external for nobody", "columns[0].external", start(`"email"`, `"email","external":{"subject":"crypto"}`)},
		{"no subject", "columns[0].external.subject", start(`"email"`, `"email","transform":"external"`)},
		{"all subjects", "columns[0].external.subject", external(`crypto.>`)},
		{"some subjects", "columns[0].external.subject", external(`crypto.*.x`)},
		{"subject with space", "columns[0].external.subject", external(`crypto users`)},
		{"subject with a hole", "columns[0].external.subject", external(`crypto..users`)},
		{"subject of the server", "columns[0].external.subject", external(`$SYS.users`)},
		{"subject of the streams", "columns[0].external.subject", external(`cipherfleet.v1.work.x.y`)},
		{"subject of an answer", "columns[0].external.subject", external(`_INBOX.users`)},
		{"long key", "columns[0].external.key", external(`crypto","key":"` + strings.Repeat("k", 257))},
		{"unknown field of an encrypter", "topic", external(`crypto","topic":"x`)},
		{"a first scheme of an encrypter's", "columns[0].first_scheme", external(`crypto"},"first_scheme":{"tenant":"firm`)},
		{"a first scheme of cells that move", "columns[0].first_scheme", first(`{}`, `"target":"cells","transform":"reencrypt","type":"text","from":{"format":"cipherfleet"}`)},
		{"a first scheme of a rotation", "columns[0].first_scheme", start(`"v":1`, `"v":1,"direction":"rotate"`, `"email"`, `"email","first_scheme":{}`)},
		{"an unknown field of a first scheme", "null_policy", first(`{"null_policy":"seal"}`, `"transform":"encrypt"`)},
		{"an unknown null policy", "columns[0].first_scheme.nulls", first(`{"nulls":"drop"}`, `"transform":"encrypt"`)},
		{"a first number that no cell can have", "columns[0].first_scheme.number", first(`{"number":65536}`, `"transform":"encrypt"`)},
		{"an unknown suite", "columns[0].first_scheme.suite", first(`{"suite":"rot13"}`, `"transform":"encrypt"`)},
		{"an unknown binding", "columns[0].first_scheme.binding", first(`{"binding":"row"}`, `"transform":"encrypt"`)},
		{"bound to no columns", "columns[0].first_scheme.columns", first(`{"binding":"columns"}`, `"transform":"encrypt"`)},
		{"columns of another binding", "columns[0].first_scheme.columns", first(`{"binding":"pk","columns":["a"]}`, `"transform":"encrypt"`)},
		{"a bound column without a name", "columns[0].first_scheme.columns", first(`{"binding":"columns","columns":["a",""]}`, `"transform":"encrypt"`)},
		{"deterministic and bound to columns", "columns[0].first_scheme.binding", first(`{"suite":"aes-256-siv","binding":"columns","columns":["a"]}`, `"transform":"encrypt"`)},
		{"deterministic and bound", "columns[0].first_scheme.binding", first(`{"suite":"aes-256-siv","binding":"pk"}`, `"transform":"encrypt"`)},
		{"an unknown padding", "columns[0].first_scheme.padding", first(`{"padding":17}`, `"transform":"encrypt"`)},
		{"a tenant without a name", "columns[0].first_scheme.tenant", first(`{"tenant":"a\u0000"}`, `"transform":"encrypt"`)},
		{"a retention that is no time", "columns[0].first_scheme.retain", first(`{"retain":"a month"}`, `"transform":"encrypt"`)},
		{"a retention of nothing", "columns[0].first_scheme.retain", first(`{"retain":"0s"}`, `"transform":"encrypt"`)},
		{"a retention below zero", "columns[0].first_scheme.retain", first(`{"retain":"-1h"}`, `"transform":"encrypt"`)},
		{"transform in reverse", "columns[0].transform", start(`"v":1`, `"v":1,"direction":"reverse"`, `"email"`, `"email","transform":"encrypt"`)},
		{"same source twice", "columns[1].source", start(`}]`, `},{"source":"email","target":"other"}]`)},
		{"same target twice", "columns[1].target", start(`}]`, `},{"source":"name","target":"email_encrypted"}]`)},
		{"target is a source", "columns[1].target", start(`}]`, `},{"source":"name","target":"email"}]`)},
		{"default target too long", "columns[0].target", start(`"email"`, `"`+long[:60]+`"`)},
		{"key twice", "key[1]", start(`"v":1`, `"v":1,"key":["id","id"]`)},
		{"empty key part", "key[0]", start(`"v":1`, `"v":1,"key":[""]`)},
		{"negative chunk", "chunk_rows", start(`"v":1`, `"v":1,"chunk_rows":-1`)},
		{"huge chunk", "chunk_rows", start(`"v":1`, `"v":1,"chunk_rows":100001`)},
		{"unknown triggers", "user_triggers", start(`"v":1`, `"v":1,"user_triggers":"sometimes"`)},
		{"unknown direction", "direction", start(`"v":1`, `"v":1,"direction":"sideways"`)},
		{"a scheme, but no rotation", "scheme", start(`"v":1`, `"v":1,"scheme":2`)},
		{"a scheme that no cell can have", "scheme", start(`"v":1`, `"v":1,"direction":"rotate","scheme":65536`)},
		{"a target of a rotation", "columns[0].target", start(`"v":1`, `"v":1,"direction":"rotate"`, `"email"}`, `"email","target":"cell"}`)},
		{"a strict rotation", "strict", start(`"v":1`, `"v":1,"direction":"rotate","strict":true`)},
		{"two columns in reverse", "columns", start(`"v":1`, `"v":1,"direction":"reverse"`, `}]`, `},{"source":"name"}]`)},
		{"a target in reverse", "columns[0].target", start(`"v":1`, `"v":1,"direction":"reverse"`, `"email"}`, `"email","target":"cell"}`)},
		{"a key in reverse", "key", start(`"v":1`, `"v":1,"direction":"reverse","key":["id"]`)},
		{"prepared in reverse", "prepare", start(`"v":1`, `"v":1,"direction":"reverse","prepare":true`)},
		{"actor with newline", "actor", start(`"v":1`, `"v":1,"actor":"a\nb"`)},
	} {
		_, err := messages.ParseStartRequest(test.body)
		checkProblem(t, test.name, err, test.field)
		if wrongVersion := test.name == "another version"; errors.Is(err, messages.ErrVersion) != wrongVersion {
			t.Errorf("%s: error is %v", test.name, err)
		}
	}
}

func TestAGoodStartRequestIsNotRefused(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{
		start(`"users"`, `"Weird \"table\" . naïve"`),
		start(`"v":1`, `"v":1,"key":["b","a"],"chunk_rows":100000,"user_triggers":"skip","prepare":true,"actor":"Ada L."`),
		start(`}]`, `},{"source":"name"}]`),
		first(`{}`, `"transform":"encrypt"`),
		first(`{"number":65535,"suite":"aes-256-siv","padding":0,"tenant":"firm","retain":"1ms"}`, `"target":"cells"`),
		first(`{"binding":"columns","columns":["firm","Slug \"x\""]}`, `"target":"cells"`),
		first(`{"binding":"pk"}`, `"transform":"reencrypt","from":{"format":"transit","key":"k"}`),
		start(`"v":1`, `"v":1,"direction":"reverse","user_triggers":"fire"`),
		start(`"users"`, `"`+strings.Repeat("n", 63)+`"`),
	} {
		if _, err := messages.ParseStartRequest(body); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestAWrongJobRequestIsToldWhere(t *testing.T) {
	t.Parallel()
	good := fmt.Sprintf(`{"v":1,"job":%q}`, job)
	if request, err := messages.ParseJobRequest([]byte(good)); err != nil || request.Job != job {
		t.Fatalf("read %+v, %v", request, err)
	}
	for _, test := range []struct{ name, field, body string }{
		{"no job", "job", `{"v":1}`},
		{"not a UUID", "job", `{"v":1,"job":"1"}`},
		{"dashes elsewhere", "job", `{"v":1,"job":"` + strings.ReplaceAll(job, "-", "a") + `"}`},
		{"no hexadecimal", "job", `{"v":1,"job":"` + strings.Replace(job, "a", "g", 1) + `"}`},
		{"unknown field", "jobs", `{"v":1,"jobs":"` + job + `"}`},
		{"request id with space", "request_id", strings.Replace(good, "}", `,"request_id":"a b"}`, 1)},
		{"actor with newline", "actor", strings.Replace(good, "}", `,"actor":"a\tb"}`, 1)},
	} {
		_, err := messages.ParseJobRequest([]byte(test.body))
		checkProblem(t, test.name, err, test.field)
	}
	for _, test := range []struct{ name, field, body string }{
		{"retry of nothing", "quarantined", good},
		{"retry of no job", "job", `{"v":1,"quarantined":true}`},
		{"retry of a false actor", "actor", strings.Replace(good, "}", `,"quarantined":true,"actor":"a\tb"}`, 1)},
		{"retry of all", "all", strings.Replace(good, "}", `,"all":true}`, 1)},
	} {
		_, err := messages.ParseRetryRequest([]byte(test.body))
		checkProblem(t, test.name, err, test.field)
	}
	_, err := messages.ParseListRequest([]byte(`{"v":1,"state":"running"}`))
	checkProblem(t, "list with a field", err, "state")
}

func checkProblem(t *testing.T, name string, err error, field string) {
	t.Helper()
	var problem *messages.Problem
	if !errors.As(err, &problem) {
		t.Errorf("%s: error is %v", name, err)
		return
	}
	if problem.Code != messages.CodeInvalid || problem.Field != field || problem.Message == "" {
		t.Errorf("%s: problem is %+v, the field is %q", name, *problem, field)
	}
}

func TestEachProblemHasItsNumber(t *testing.T) {
	t.Parallel()
	for code, status := range map[string]int{
		messages.CodeInvalid: 400, messages.CodeDenied: 401, messages.CodeNotFound: 404, messages.CodeConflict: 409,
		messages.CodeRefused: 422, messages.CodeWaiting: 425, messages.CodeBusy: 429, messages.CodeInternal: 500, messages.CodeUnavailable: 503, "NEW": 500,
	} {
		if got := (&messages.Problem{Code: code}).Status(); got != status {
			t.Errorf("%s has %d", code, got)
		}
		if code != "NEW" && messages.CodeOf(status) != code {
			t.Errorf("%d is %s", status, messages.CodeOf(status))
		}
	}
	if got := messages.CodeOf(418); got != messages.CodeInternal {
		t.Errorf("418 is %s", got)
	}
}

func FuzzParseStartRequest(f *testing.F) {
	f.Add(start())
	f.Add([]byte(`{"v":1,"columns":[{"source":1}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := messages.ParseStartRequest(body)
		var problem *messages.Problem
		switch {
		case err == nil && request.Validate() != nil:
			t.Fatal("read what does not validate")
		case err != nil && !errors.As(err, &problem):
			t.Fatalf("error is no problem: %v", err)
		}
	})
}
