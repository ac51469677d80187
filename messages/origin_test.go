package messages_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
)

// An origin is accepted only with what its format reads, and with everything it cannot do without.
func TestAnOriginHasWhatItsFormatReads(t *testing.T) {
	t.Parallel()
	for text, wrong := range map[string]string{
		`{"format": "attr_encrypted", "key": "k", "iv": "v"}`:                                                                "",
		`{"format": "attr_encrypted", "key": "k", "iv": "v", "salt": "s", "mode": "per_attribute_iv_and_salt", "raw": true}`: "",
		`{"format": "attr_encrypted", "key": "k", "mode": "single_iv_and_salt"}`:                                             "",
		`{"format": "lockbox", "key": "k", "previous": ["a", "b"], "padding": 16, "associated_data": "x"}`:                   "",
		`{"format": "lockbox", "master_key": "k", "table": "t", "field": "f"}`:                                               "",
		`{"format": "rails", "key": "k", "key_derivation_salt": "s", "digest": "sha1"}`:                                      "",
		`{"format": "pgp", "key": "k", "plaintext": "json"}`:                                                                 "",
		`{"format": "pgcrypto", "key": "k", "iv": "v", "algorithm": "aes-cbc/pad:none"}`:                                     "",
		`{"format": "transit", "key": "k"}`:                                                                                  "",
		`{"format": "ciphersweet", "key": "k", "table": "t", "field": "f", "plaintext": "bigint"}`:                           "",
		`{"format": "rot13", "key": "k"}`:                                                                                    "from.format",
		`{"format": "cipherfleet"}`:                                                                                          "",
		`{"format": "cipherfleet", "key": "k"}`:                                                                              "from.key",
		`{"format": "cipherfleet", "plaintext": "text"}`:                                                                     "from.plaintext",
		`{"format": "pgp"}`:                                                                                     "from.key",
		`{"format": "pgp", "key": "a passphrase"}`:                                                              "from.key",
		`{"format": "pgp", "key": "0123456789abcdef0123456789abcdef"}`:                                          "from.key",
		`{"format": "pgp", "key": "k", "iv": "v"}`:                                                              "from.iv",
		`{"format": "pgp", "key": "k", "plaintext": "inet"}`:                                                    "from.plaintext",
		`{"format": "rails", "key": "k"}`:                                                                       "from.key_derivation_salt",
		`{"format": "lockbox", "key": "k", "master_key": "m", "table": "t", "field": "f"}`:                      "from.key",
		`{"format": "lockbox", "master_key": "m"}`:                                                              "from.table",
		`{"format": "lockbox", "key": "k", "padding": -1}`:                                                      "from.padding",
		`{"format": "ciphersweet", "key": "k", "table": "t"}`:                                                   "from.table",
		`{"format": "attr_encrypted", "key": "k"}`:                                                              "from.iv",
		`{"format": "attr_encrypted", "key": "k", "iv": "v", "salt": "s"}`:                                      "from.salt",
		`{"format": "attr_encrypted", "key": "k", "iv": "v", "mode": "single_iv_and_salt"}`:                     "from.iv",
		`{"format": "attr_encrypted", "key": "k", "iv": "v", "salt": "v", "mode": "per_attribute_iv_and_salt"}`: "from.salt",
		`{"format": "attr_encrypted", "key": "k", "iv": "v", "marshal": true}`:                                  "from.marshal",
		`{"format": "attr_encrypted", "key": "k", "iv": "` + strings.Repeat("v", 64) + `"}`:                     "from.iv",
	} {
		var o messages.Origin
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(o)
		var back messages.Origin
		if err != nil || json.Unmarshal(again, &back) != nil || !reflect.DeepEqual(o, back) {
			t.Errorf("%s comes back as %s: %v", text, again, err)
		}
		err = o.Validate("from")
		var problem *messages.Problem
		switch {
		case wrong == "" && err != nil, wrong != "" && (!errors.As(err, &problem) || problem.Field != wrong):
			t.Errorf("%s: %v, want a problem of %q", text, err, wrong)
		case err != nil && strings.Contains(err.Error(), "0123456789abcdef"):
			t.Errorf("what may be a key is shown: %v", err)
		}
	}
}

// A request names an origin exactly if its transform has one.
func TestAnOriginBelongsToItsTransform(t *testing.T) {
	t.Parallel()
	from := &messages.Origin{Format: "pgp", Key: "k"}
	for name, c := range map[string]struct {
		column messages.ColumnRequest
		wrong  string
	}{
		"reencrypt":            {messages.ColumnRequest{Source: "a", Target: "b", Transform: "reencrypt", From: from}, ""},
		"without":              {messages.ColumnRequest{Source: "a", Target: "b", Transform: "reencrypt"}, "c.from"},
		"encrypt":              {messages.ColumnRequest{Source: "a", Target: "b", Transform: "encrypt", From: from}, "c.from"},
		"as before":            {messages.ColumnRequest{Source: "a", Target: "b", From: from}, "c.from"},
		"copy":                 {messages.ColumnRequest{Source: "a", Target: "b", Transform: "copy", From: from}, "c.from"},
		"external":             {messages.ColumnRequest{Source: "a", Target: "b", Transform: "external", External: messages.Encrypter{Subject: "s"}, From: from}, "c.from"},
		"a vector as target":   {messages.ColumnRequest{Source: "a", Target: "b", Transform: "reencrypt", From: &messages.Origin{Format: "pgcrypto", Key: "k", IV: "b"}}, "c.from"},
		"cells of another own": {messages.ColumnRequest{Source: "a", Target: "b", Type: "eql_v2_encrypted", Transform: "reencrypt", From: from}, "c.type"},
	} {
		err := c.column.Validate("c")
		var problem *messages.Problem
		if c.wrong == "" && err != nil || c.wrong != "" && (!errors.As(err, &problem) || problem.Field != c.wrong) {
			t.Errorf("%s: %v, want a problem of %q", name, err, c.wrong)
		}
	}
}
