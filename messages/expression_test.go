package messages_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
)

func TestAnExpressionStaysOne(t *testing.T) {
	t.Parallel()
	for _, good := range []string{`email`, `lower(btrim(email))`, `a[1] || 'it''s )'`, `"a ) b" + 1`, `E'\'' || x`, `e'\\' || x`, `$$ ) $$ || $q$ $$ ) $q$`,
		`a -- ) comment`, "a -- )\n + b", `a /* ) /* ( */ ) */`, `a$b$c`, `"é" || 'ü'`, `x::numeric(10,2)`, `CASE WHEN a THEN 'b' ELSE 'c' END`} {
		if !messages.IsExpression(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{``, ` `, `-- nothing`, `a; b`, `a) + (b`, `a)`, `(a`, `a[`, `'a`, `"a`, `$$ a`, `$q$ a $$`, `/* a`, `/* /* a */ b`, `E'\'`, `email\'`,
		`a); DROP TABLE users; --`, "E'a'\n'\\' || ') ' || '", "E'a' -- c\n'\\'", "a\x00b", strings.Repeat("a", messages.MostExpression+1)} {
		if messages.IsExpression(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzAnExpressionStaysOne(f *testing.F) {
	for _, seed := range []string{`lower(email)`, `E'\''`, `$q$ ) $q$`, `/* ( */ a`, `a -- )`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if messages.IsExpression(s) && len(s) < messages.MostExpression/2 && !messages.IsExpression("(\n"+s+"\n)") {
			t.Errorf("%q is one expression, but not in brackets", s)
		}
	})
}

func TestARequestForAnExpression(t *testing.T) {
	t.Parallel()
	column := func(more string) []byte { return start(`{"source":"email"}`, `{"source":"email",`+more+`}`) }
	for _, good := range []string{
		`"target":"norm","transform":"expression","expression":"lower(email)"`,
		`"target":"norm","transform":"copy","type":"numeric(10, 2)[]"`,
		`"target":"email","transform":"expression","expression":"lower(email)","done":{"version":"form","number":2}`,
		`"target":"email","transform":"expression","expression":"lower(email)","done":{"when":"email = lower(email)"}`,
	} {
		if _, err := messages.ParseStartRequest(column(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, field := range map[string]string{
		`"transform":"expression","expression":"lower(email)"`:                               "columns[0].target",
		`"target":"norm","transform":"expression"`:                                           "columns[0].expression",
		`"target":"norm","transform":"copy","expression":"email"`:                            "columns[0].expression",
		`"target":"norm","expression":"email"`:                                               "columns[0].expression",
		`"target":"norm","done":{"when":"true"}`:                                             "columns[0].done",
		`"target":"norm","transform":"expression","expression":"a); DROP TABLE t; --"`:       "columns[0].expression",
		`"target":"norm","transform":"copy","type":"text; x"`:                                "columns[0].type",
		`"target":"norm","transform":"copy","type":"text DEFAULT 'x'"`:                       "columns[0].type",
		`"target":"email","transform":"expression","expression":"lower(email)"`:              "columns[0].done",
		`"target":"email","transform":"copy","done":{"when":"true"}`:                         "columns[0].target",
		`"target":"norm","transform":"copy","done":{"when":"true","version":"v","number":1}`: "columns[0].done",
		`"target":"norm","transform":"copy","done":{"when":"a)"}`:                            "columns[0].done.when",
		`"target":"norm","transform":"copy","done":{"number":1}`:                             "columns[0].done.version",
		`"target":"norm","transform":"copy","done":{"version":"v"}`:                          "columns[0].done.number",
		`"target":"norm","transform":"copy","external":{"subject":"s"}`:                      "columns[0].external",
		`"target":"a","transform":"copy","done":{"version":"v","number":1}},{"source":"b","target":"c","transform":"copy","done":{"version":"v","number":1}`: "columns[1].done.version",
	} {
		_, err := messages.ParseStartRequest(column(bad))
		var problem *messages.Problem
		if !errors.As(err, &problem) || problem.Field != field {
			t.Errorf("%s: %v, want a problem of %s", bad, err, field)
		}
	}
}
