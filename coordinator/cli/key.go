package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/cipherfleet/cipherfleet/coordinator/cli/page"
	"github.com/cipherfleet/cipherfleet/coordinator/control/scheme"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
)

const keyLong = `Look after the data keys: each is in the registry, wrapped by the key-encryption key (CIPHERFLEET_KEK, or kek in the
manifest), and never anywhere else.

  ls           list them, without the keys
  rewrap       wrap every key under the newest version of the same key-encryption key
  rotate-kek   wrap every key under another key-encryption key

Neither touches a cell. A new data key is a new scheme: see cipherfleet scheme and cipherfleet rotate.

Exit codes: 0 done · 2 bad flag, environment or manifest · 4 refused, nothing changed · 6 Postgres or a key-encryption
key unavailable: the same command goes on · 7 denied`

const keyExample = `  cipherfleet key ls
  cipherfleet key rewrap
  cipherfleet key rotate-kek --to vault://vault.example.com:8200/transit/cipherfleet`

func newKey(read settings) *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "List data keys, and wrap them anew", Long: keyLong, Example: keyExample}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(newKeyList(read), newKeyRewrap(read), newKeyRotate(read))
	return c
}

func newKeyList(read settings) *cobra.Command {
	asJSON := false
	c := &cobra.Command{Use: "ls", Short: "List every data key there ever was, without the key", Args: noArgs,
		Long:    "List every data key there ever was: whose it is, and what it was wrapped under. The keys themselves are not read.\n\nExit codes: as of cipherfleet key",
		Example: "  cipherfleet key ls\n  cipherfleet key ls --json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withRegistry(c, read, false, "", func(_ *station, r *scheme.Registry) error {
			keys, err := r.Keys(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(keys)
			}
			return page.Keys(c.OutOrStdout(), keys)
		})
	}
	return c
}

const keyRewrapLong = `Wrap every data key anew under the same key-encryption key: under its newest version, where it has several, so that
older ones can go. Each key is unwrapped, wrapped, proven, and only then replaced; no cell is touched, and programs need
not be restarted.

Exit codes: as of cipherfleet key`

func newKeyRewrap(read settings) *cobra.Command {
	o := &wrapOptions{}
	c := &cobra.Command{Use: "rewrap", Short: "Wrap every data key under the newest version of the key-encryption key", Args: noArgs, Long: keyRewrapLong,
		Example: "  cipherfleet key rewrap --dry-run\n  cipherfleet key rewrap --reason \"version 1 of the transit key goes\""}
	o.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withRegistry(c, read, true, o.reason, func(_ *station, r *scheme.Registry) error { return o.run(c, r, r.KEK, true) })
	}
	return c
}

const keyRotateLong = `Wrap every data key under another key-encryption key, and leave every cell as it is. The present one is still
CIPHERFLEET_KEK or the manifest's. Each key is unwrapped with the present one, wrapped under the other one, proven, and
only then replaced, if nobody else replaced it; proven once more as it was stored. Killed half-way, the same command
goes on: keys that are under the other one already are skipped. --create makes the file of a file: key first.

Programs whose CIPHERFLEET_KEK names both, with a comma between them, go on without a restart; docs/keys.md has the
steps. Those that know the old one alone keep the keys they hold for twelve hours at most: restart them with the other
one before that, and before the next scheme is made. They could not read it, and it is not activated over their heads.

Exit codes: as of cipherfleet key`

func newKeyRotate(read settings) *cobra.Command {
	o, to, create := &wrapOptions{}, "", false
	c := &cobra.Command{Use: "rotate-kek --to URI", Short: "Wrap every data key under another key-encryption key", Args: noArgs, Long: keyRotateLong, DisableFlagsInUseLine: true,
		Example: "  cipherfleet key rotate-kek --to vault://vault.example.com:8200/transit/cipherfleet --dry-run\n  cipherfleet key rotate-kek --to file:next.kek.json --create --reason \"the old file was on a laptop\""}
	c.Flags().StringVar(&to, "to", "", "URI of the other key-encryption key; a relative file: path begins here")
	c.Flags().BoolVar(&create, "create", false, "make the key's file first; there must be none")
	o.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := required(c, "to"); err != nil {
			return err
		}
		if create && kms.Path(to, "") == "" {
			return usage(errors.New("--create makes the file of a file: key, and --to names another kind"), c)
		}
		return withRegistry(c, read, true, o.reason, func(s *station, r *scheme.Registry) error {
			if create {
				if absent := !exists(kms.Path(to, "")); absent && o.dryRun {
					return o.rehearse(c, r, to, false)
				}
				if err := kms.CreateFile(kms.Path(to, "")); err != nil {
					return taken(err)
				}
			}
			next, err := s.config.OpenKEK(c.Context(), to, "")
			if err != nil {
				return unmade(err)
			}
			if next.URI() == r.KEK.URI() {
				return &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("%s is what keys are wrapped under already", next.URI()),
					Hint: "name another one; cipherfleet key rewrap brings every key under its newest version"}
			}
			if err := o.run(c, r, next, false); err != nil || o.dryRun || o.asJSON {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "next: keep a copy of that key; CIPHERFLEET_KEK, or kek in the manifest, has to name %s everywhere, and a program that does not is restarted with it within 12 hours (docs/keys.md)\n", next.URI())
			return err
		})
	}
	return c
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// taken is the refusal of a file that is there: it may be somebody's key.
func taken(err error) error {
	var kek *cell.KEKError
	if !errors.Is(err, fs.ErrExist) || !errors.As(err, &kek) {
		return err
	}
	return &app.Fail{Code: app.CodeRefused, Err: kek.Err, Hint: kek.Hint}
}

// unmade says how a key that is to come gets its file: nothing was wrapped under it yet.
func unmade(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &app.Fail{Code: app.CodeUnavailable, Err: err, Hint: "--create makes the file of a new key; one that is there already is named by its path, which begins here"}
}

// wrapOptions are those of wrapping keys anew.
type wrapOptions struct {
	reason         string
	dryRun, asJSON bool
}

func (o *wrapOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.reason, "reason", "", "why, for the log")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say how many keys it would be, and change nothing")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print what was done as JSON")
}

// wrapDone is what wrapping anew did, or would do.
type wrapDone struct {
	scheme.Wrapping
	DryRun bool `json:"dry_run"`
}

func (o *wrapOptions) run(c *cobra.Command, r *scheme.Registry, to cell.KEK, same bool) error {
	if o.dryRun {
		return o.rehearse(c, r, to.URI(), same)
	}
	done, err := r.Wrap(c.Context(), to)
	if err != nil {
		return err
	}
	return o.print(c, wrapDone{Wrapping: done}, "wrapped")
}

func (o *wrapOptions) rehearse(c *cobra.Command, r *scheme.Registry, to string, same bool) error {
	plan, err := planWrap(c, r, to, same)
	if err != nil {
		return err
	}
	return o.print(c, wrapDone{plan, true}, "would wrap")
}

func (o *wrapOptions) print(c *cobra.Command, done wrapDone, verb string) error {
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(done)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s %d keys under %s; %d were under it already\n", verb, done.Changed, done.KEK, done.Kept)
	return err
}

// planWrap says how many keys there are to wrap.
func planWrap(c *cobra.Command, r *scheme.Registry, to string, same bool) (scheme.Wrapping, error) {
	w := scheme.Wrapping{V: messages.Version, KEK: to}
	keys, err := r.Keys(c.Context())
	if err != nil {
		return w, err
	}
	for _, k := range keys.Keys {
		switch {
		case k.Destroyed != nil:
		case same || k.KEK != to:
			w.Changed++
		default:
			w.Kept++
		}
	}
	return w, nil
}
