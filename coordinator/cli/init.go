package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

const initLong = `Look at a table, write down in a manifest what is to become of the named columns, and create the key.

The same checks are made as by backfill, and nothing is changed in the database. The manifest, cipherfleet.yaml, is for
people to review: columns, key, schemes. It holds no secret. One that is there already is left alone, unless --force
replaces it. The key-encryption key that it names (or CIPHERFLEET_KEK does) is created as a file that only its owner may
read, when there is none; one that is there is never touched. Keep a copy of it somewhere else: without it no cell can
be decrypted. For a manifest that you wrote yourself, init without --table and --column creates that key alone.

With --introspect it only looks, at every table, or at the one that --table names, and proposes columns: with type, key,
size, and the indexes, constraints, triggers, views, functions and publications that touch them. That is a heuristic: a
column of a text, date or JSON type is proposed for a word in its name, such as email, phone, ssn, iban, token, address
or birth (all words: email_1 and homePhone have them, too). It neither reads values nor knows what they mean: what it
proposes may be harmless, and what it passes over may not be. Columns that --column names are shown whatever they are.

Names are literal: upper and lower case differ, and nothing is quoted.

Exit codes: 0 written, or looked · 2 bad flag, environment or manifest · 4 refused: the table or a column cannot be
done, or a manifest is there already · 6 Postgres unavailable · 7 denied`

const initExample = `  cipherfleet init --table users --column email
  cipherfleet init --introspect
  cipherfleet init --introspect --json | jq '.tables[] | {table, columns: [.columns[].column]}'
  cipherfleet init --schema crm --table "Contacts" --column phone --column notes --manifest crm.yaml`

type initOptions struct {
	scope    scope
	key      []string
	triggers string
	manifest string
	force    bool
	look     bool
	asJSON   bool
}

func newInit(read settings) *cobra.Command {
	o := &initOptions{}
	c := &cobra.Command{Use: "init", Short: "Write a manifest for the named columns, and create the key", Long: initLong, Example: initExample, Args: noArgs}
	f := c.Flags()
	o.scope.flags(f)
	o.scope.targetFlags(f)
	f.StringSliceVar(&o.key, "key", nil, "columns of the unique key to walk by (default: the primary key, else a NOT NULL unique index)")
	f.StringVar(&o.triggers, "user-triggers", "", "fire or skip: what becomes of the table's own triggers when rows are encrypted")
	f.StringVar(&o.manifest, "manifest", "", "the manifest's file (CIPHERFLEET_MANIFEST)")
	f.BoolVar(&o.force, "force", false, "replace a manifest that is there already")
	f.BoolVar(&o.look, "introspect", false, "look at the database and propose columns; write nothing")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if o.look {
			return o.introspect(c, read)
		}
		return o.run(c, read)
	}
	return c
}

func (o *initOptions) request(c *cobra.Command) (messages.StartRequest, error) {
	if err := required(c, "table", "column"); err != nil {
		return messages.StartRequest{}, err
	}
	r := messages.StartRequest{V: messages.Version, RequestID: uuid.NewString(), Key: o.key, UserTriggers: o.triggers}
	if err := o.scope.fill(&r, c); err != nil {
		return messages.StartRequest{}, err
	}
	return r, invalid(r.Validate(), c)
}

func (o *initOptions) run(c *cobra.Command, read settings) error {
	named := false // something to write a manifest about
	c.Flags().Visit(func(f *pflag.Flag) { named = named || f.Name != "manifest" && f.Name != "json" })
	if !named {
		return o.keyAlone(c, read)
	}
	request, err := o.request(c)
	if err != nil {
		return err
	}
	config, err := read()
	if err != nil {
		return err
	}
	if o.manifest != "" {
		config.Manifest = o.manifest
	}
	if err := checkManifest(config.Manifest, o.force); err != nil {
		return err
	}
	uri, base, err := o.kek(config)
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	intention, err := preflight.Intend(c.Context(), s.db, request, relativeKEK(uri, base, config.Manifest))
	if err != nil {
		return err
	}
	did := initialised{V: messages.Version, Manifest: config.Manifest, intention: intention}
	if did.Key, did.KeyCreated, err = createKEK(c, config, uri, base, intention.Wrapped); err != nil {
		return err
	}
	if err := writeManifest(config.Manifest, intention.Manifest, o.force); err != nil {
		return err
	}
	did.Next = o.next(request, intention)
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(did)
	}
	return did.print(c.OutOrStdout())
}

// keyAlone makes the key that a manifest names which is there already; without one, columns are wanted.
func (o *initOptions) keyAlone(c *cobra.Command, read settings) error {
	config, err := read()
	if err != nil {
		return err
	}
	config.Manifest = cmp.Or(o.manifest, config.Manifest)
	if _, err := os.Lstat(config.Manifest); err != nil {
		return required(c, "table", "column")
	}
	uri, base, err := kekURI(config)
	if err != nil {
		return err
	}
	s, err := openBase(c.Context(), config, c.ErrOrStderr(), "cipherfleet", fewConns)
	if err != nil {
		return err
	}
	defer s.close(c.Context())
	wrapped, err := preflight.WrappedUnder(c.Context(), s.db)
	if err != nil {
		return err
	}
	did := initialised{V: messages.Version, Manifest: config.Manifest, Next: "cipherfleet plan"}
	if did.Key, did.KeyCreated, err = createKEK(c, config, uri, base, wrapped); err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(did)
	}
	words := fmt.Sprintf("manifest %s is there, and so is its key; nothing was made", did.Manifest)
	if did.KeyCreated {
		words = fmt.Sprintf("created key file %s, which %s names. Keep a copy of it somewhere else: without it no cell can be decrypted", did.Key, did.Manifest)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s\nnext: %s\n", words, did.Next)
	return err
}

// kek is that of the manifest that is to be replaced; of one that is to be made it is the environment's, or the usual one.
func (o *initOptions) kek(config app.Coordinator) (uri, base string, err error) {
	if _, err := os.Lstat(config.Manifest); errors.Is(err, os.ErrNotExist) {
		uri, base = kekBeside(config, "")
		return uri, base, nil
	}
	return kekURI(config)
}

// checkManifest looks before anything is done.
func checkManifest(path string, force bool) error {
	folder := filepath.Dir(path)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("there is no folder %s for the manifest", folder), Hint: "create it, or name another file with --manifest"}
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("manifest %s is there already", path),
			Hint: "add the columns to it, and if only its key is missing, leave --table and --column out; name another file with --manifest, or replace it with --force"}
	}
	return nil
}

// relativeKEK is the key's URI as the manifest names it: a relative file begins at the manifest.
func relativeKEK(uri, base, at string) string {
	path := kms.Path(uri, base)
	if path == "" || filepath.IsAbs(path) || len(kms.Split(uri)) > 1 {
		return uri
	}
	relative, err := filepath.Rel(filepath.Dir(at), path)
	if err != nil {
		return uri
	}
	return "file:" + relative
}

// createKEK makes the key's file if it is missing, and proves that it can be used. Where data keys are wrapped already
// a new key would open none of them: it is the old one that is missed.
func createKEK(c *cobra.Command, config app.Coordinator, uri, base string, wrapped []string) (path string, created bool, err error) {
	path = kms.Path(uri, base)
	if path != "" {
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			if len(wrapped) > 0 {
				return "", false, &app.Fail{Code: app.CodeRefused,
					Err:  fmt.Errorf("there is no key file %s, but data keys of this database are wrapped by a key already (%s)", path, strings.Join(wrapped, ", ")),
					Hint: "bring that file back from its backup, or name it with CIPHERFLEET_KEK; a new key would open none of them"}
			}
			if err := kms.CreateFile(path); err != nil {
				return "", false, err
			}
			created = true
		}
	}
	_, err = config.OpenKEK(c.Context(), uri, base)
	return path, created, err
}

// writeManifest makes the file, or replaces it if that is wanted; what is half written does not stay.
func writeManifest(path string, m manifest.Manifest, replace bool) error {
	body, err := manifest.Marshal(m)
	if err != nil {
		return err
	}
	how := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if replace {
		how = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	file, err := os.OpenFile(path, how, 0o644)
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	_, err = file.Write(body)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the manifest: %w", err), os.Remove(path))
	}
	return nil
}

// next is the command that does what the manifest says.
func (o *initOptions) next(r messages.StartRequest, i preflight.Intention) string {
	words := []string{"cipherfleet", "backfill"}
	if r.Schema != "public" {
		words = append(words, "--schema", r.Schema)
	}
	words = append(words, "--table", r.Table)
	adds := false
	for k, column := range i.Columns {
		words, adds = append(words, "--column", column.Source.Name), adds || column.Add
		if len(o.scope.targets) > 0 {
			words = append(words, "--target", r.Columns[k].Target)
		}
	}
	for _, name := range o.key {
		words = append(words, "--key", name)
	}
	if adds {
		words = append(words, "--prepare")
	}
	if r.UserTriggers != "" {
		words = append(words, "--user-triggers", r.UserTriggers)
	}
	for i, word := range words {
		words[i] = standing.Quoted(word)
	}
	command := strings.Join(words, " ")
	if o.manifest != "" {
		command = "CIPHERFLEET_MANIFEST=" + standing.Quoted(o.manifest) + " " + command
	}
	return command
}

// initialised is what init did and what comes next.
type initialised struct {
	V          int    `json:"v"`
	Manifest   string `json:"manifest"`
	Key        string `json:"kek"` // path of the key's file; "" when it is none
	KeyCreated bool   `json:"kek_created"`
	Next       string `json:"next"`

	intention preflight.Intention
}

func (i initialised) print(w io.Writer) error {
	var b strings.Builder
	plan := i.intention.Plan
	fmt.Fprintf(&b, "wrote %s: %s, key %s, about %d rows\n", i.Manifest, plan.Relation.Table(), strings.Join(plan.Key.Names(), ", "), plan.Relation.Rows())
	for _, c := range plan.Columns {
		what := "which is there already"
		if c.Add {
			what = "which is to be added"
		}
		fmt.Fprintf(&b, "  %s (%s, codec %s) into %s, %s\n", c.Source.Name, c.Source.Type, c.Codec, c.Target.Name, what)
	}
	if i.KeyCreated {
		fmt.Fprintf(&b, "created key file %s. Keep a copy of it somewhere else: without it no cell can be decrypted\n", i.Key)
	}
	if i.intention.Asks {
		fmt.Fprintf(&b, "encrypting will fire triggers of your own; look at what they do, then add --user-triggers fire or --user-triggers skip:\n")
		for _, t := range plan.Triggers {
			fmt.Fprintf(&b, "  %s on %s calls %s\n", t.Name, t.Table.Table(), t.Function)
		}
	}
	fmt.Fprintf(&b, "next: %s\n", i.Next)
	_, err := io.WriteString(w, b.String())
	return err
}
