package client_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/client"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// TestAKeyEncryptionKeyIsReplacedUnderARunningClient: one that knows both goes on past every lifetime when the old one is
// gone, through a scheme that was made since; one that knows the old one alone does not.
func TestAKeyEncryptionKeyIsReplacedUnderARunningClient(t *testing.T) {
	t.Parallel()
	s := sold(t, 1)
	dir := t.TempDir()
	uri := func(name string) string { return "file:" + filepath.Join(dir, name) }
	open := func(uri string) cell.KEK { return must(kms.Open(t.Context(), uri, ""))(t) }
	for _, name := range []string{"old", "new"} {
		check(t, kms.CreateFile(filepath.Join(dir, name)))
	}
	wrap := func(from, to cell.KEK) {
		check(t, lifecycle.Registrar{DB: s.DB.DB, KEK: from}.WrapAnew(t.Context(), to, nil))
	}
	wrap(s.kek, open(uri("old")))
	var later clock
	lifetimes := cell.Lifetimes{Soft: time.Minute, Hard: time.Hour}
	opened := func(uri string) app {
		return s.app(s.client(func(c *client.Config) {
			c.KEK, c.Now, c.Poll, c.Lifetimes, c.Lease = open(uri), later.now, 50*time.Millisecond, lifetimes, 100*time.Hour
		}))
	}
	alone, both := opened(uri("old")), opened(uri("old")+","+uri("new"))
	wrap(open(uri("old")), open(uri("new")))
	check(t, os.Remove(filepath.Join(dir, "old")))
	check(t, both.c.Refresh(t.Context()))
	_ = alone.c.Refresh(t.Context()) // it hears of it, cannot have the keys anew, and keeps those it has until their time is over
	later.advance(2 * time.Hour)
	testenv.Eventually(t, patience, func() error { _, err := both.read(1); return err })
	both.wants(1, "user1@example.com")
	both.mustWrite(updateSQL, 1, "since")
	if _, err := alone.read(1); !errors.Is(err, client.ErrKeyExpired) {
		t.Errorf("who knows the old one alone: %v", err)
	}
	check(t, alone.c.Close(t.Context()))
	registrar := lifecycle.Registrar{DB: s.DB.DB, KEK: open(uri("new"))}
	want := s.schemes["email"]
	want.Number, want.KeyID = 0, 0
	scheme := must(registrar.NewScheme(t.Context(), lifecycle.Definition{Scheme: want}))(t)
	check(t, both.c.Refresh(t.Context()))
	check(t, registrar.ActivateScheme(t.Context(), scheme.Column, scheme.Number))
	check(t, both.c.Refresh(t.Context()))
	both.mustWrite(updateSQL, 1, "under the next scheme")
	both.wants(1, "under the next scheme")
	if have := s.scheme(1); have != scheme.Number {
		t.Errorf("row 1 is of scheme %d", have)
	}
}

// TestAColumnIsFollowedFromItsFirstLookOn: a lease that is renewed after the next look, by whomever, speaks for it, too.
func TestAColumnIsFollowedFromItsFirstLookOn(t *testing.T) {
	t.Parallel()
	s := open(t, usersSQL)
	s.register()
	c := s.still()
	if followed, err := c.LookAt(t.Context(), "public.users", "email"); err != nil || !followed {
		t.Errorf("a lease may be renewed without a look at it: %v", err)
	}
	if followed, err := c.LookAt(t.Context(), "public.users", "nothing"); err == nil || followed {
		t.Errorf("a column that is not there is followed: %v", err)
	}
}
