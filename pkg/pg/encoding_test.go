package pg_test

import (
	"testing"

	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

func TestTextIsUTF8WhateverTheDatabaseSendsByDefault(t *testing.T) {
	t.Parallel()
	db := testenv.EmptyDatabase(t)
	run(t, db, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET client_encoding = ''LATIN1''', current_database()); END $$`)
	again := testenv.Open(t, db.URL)
	for _, text := range []string{"ö", "ш", "€"} {
		if got := testenv.One[string](t, again, "SELECT $1::text", text); got != text {
			t.Errorf("sent %q, read %q", text, got)
		}
		if n := testenv.One[int](t, again, "SELECT octet_length($1::text)", text); n != len(text) {
			t.Errorf("the server took %q for %d bytes", text, n)
		}
	}
}
