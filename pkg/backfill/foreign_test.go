package backfill_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/backfill"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/proof"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/shape"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/work"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	readers "github.com/cipherfleet/cipherfleet/pkg/cell/foreign"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
	"github.com/cipherfleet/cipherfleet/pkg/testenv/engine"
)

// from makes the kit's sources those of somebody else, who keeps his keys under these names.
func from(o messages.Origin, keys map[string]string) option {
	return func(k *engine.Kit) { k.Origin, k.Secrets = &o, secrets(k.T, keys) }
}

func secrets(t testing.TB, keys map[string]string) *readers.Keys {
	t.Helper()
	entries := map[string]map[string]string{}
	for name, key := range keys {
		notation, text, _ := strings.Cut(key, " ")
		entries[name] = map[string]string{notation: text}
	}
	text := must(json.Marshal(map[string]any{"version": 1, "keys": entries}))(t)
	all := must(readers.ParseKeys(text))(t)
	all.Dial = func(_ context.Context, uri string) (readers.Unwrapper, error) {
		if uri != "vault://here/transit/pins" {
			return nil, errors.New("there is no such server")
		}
		return transit{}, nil
	}
	return all
}

// transit is a server that opens what it never really sealed.
type transit struct{}

func (transit) Unwrap(_ context.Context, wrapped, _ []byte) ([]byte, error) {
	plain, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(wrapped), "vault:v1:"))
	if err != nil {
		return nil, &cell.KEKError{Class: cell.KEKCorrupt, Err: errors.New("the server answered 400")}
	}
	return plain, nil
}

// ofFormat is a table whose column secret somebody else encrypted.
type ofFormat struct {
	columns string // of secret, and what stands beside it
	rows    string // of VALUES, in their order
	origin  messages.Origin
	keys    map[string]string
	want    map[int64]string // by row
}

const passphrase = "a passphrase of any length"

// formats has one of each family, and of those with several ways to keep a value more. Values are the known answers of
// package foreign, or what pgcrypto on this server makes.
func formats() map[string]ofFormat {
	return map[string]ofFormat{
		"attr_encrypted": {"secret text, iv text", `(1, E'CTuyCReOM+weFD6ErwBG3TGtJn7jDYdS9aTOMdvB1y31gjPgOHr+JJGaFlrd\nLazveTrrghZ+YUmchcmkz/LM8nz1+22+Kklk6BuIMWKwEYEWu6P3OKCjdjUj\nXFX4gEnG5lacaOZKDQ==\n', E'ZGVmZ2hpamtsbW5v\n'), (2, NULL, NULL), (3, '', NULL)`,
			messages.Origin{Format: "attr_encrypted", Key: "pins", IV: "iv"}, map[string]string{"pins": "hex 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
			map[int64]string{1: "A longer value, so that Ruby breaks the line of base64 after sixty characters: grüße."}},
		"attr_encrypted with salt": {"secret varchar(100), iv bytea, salt text", `(1, 'OHMBywWa97d9w1zOdX6CxEHrEHz3jw==', 'ZGVmZ2hpamtsbW5v', E'_MjM0NTY3ODk6Ozw9Pj9AQQ==\n'), (2, NULL, 'x', NULL)`,
			messages.Origin{Format: "attr_encrypted", Mode: "per_attribute_iv_and_salt", Key: "pins", IV: "iv", Salt: "salt"}, map[string]string{"pins": "text " + passphrase}, map[int64]string{1: "salted"}},
		"attr_encrypted alone": {"secret text", `(1, '9EH0mHjSsRxbBQLEEH8HjW3HHiLvNA=='), (2, '')`,
			messages.Origin{Format: "attr_encrypted", Mode: "single_iv_and_salt", Key: "pins"}, map[string]string{"pins": "text " + passphrase}, map[int64]string{1: "single", 2: ""}},
		"lockbox": {"secret text", `(1, 'AAECAwQFBgcICQoL2R/k55S4wQD8+Deko1fctRgWmHyisFjMeA=='), (2, ''), (3, NULL)`,
			messages.Origin{Format: "lockbox", MasterKey: "master", Table: "accounts", Field: "iban"}, map[string]string{"master": "hex " + strings.Repeat("0f", 32)}, map[int64]string{2: ""}},
		"rails": {"secret jsonb", `(1, '{"p":"fjxURSEiO774DAKq7CTZ","h":{"iv":"ZGVmZ2hpamtsbW5v","at":"v6X3zff+x3xHAO8pa5GQjw=="}}'), (2, '{"p":"9riXNBby1/GOp/k1zw==","h":{"iv":"syjYWSf1n9VCyDDt","at":"MY11LjOgT79bwFr4kkM/gg=="}}')`,
			messages.Origin{Format: "rails", Key: "new", Previous: []string{"old"}, Salting: "salt"},
			map[string]string{"new": "text aPA5XyALhf75NNnMzaspW7akTfZp0lPY", "old": "text EGY8WhulUOXixybod7ZWwMIL68R9o5kC", "salt": "text xEY0dt6TZcAMg52K7O84wYzkjvbA62Hz"},
			map[int64]string{1: "Encrypt it all!", 2: "deterministic"}},
		"pgp": {"secret bytea", `(1, public.pgp_sym_encrypt('grüße', '` + passphrase + `')), (2, public.pgp_sym_encrypt('', '` + passphrase + `', 'compress-algo=1')), (3, NULL)`,
			messages.Origin{Format: "pgp", Key: "pins"}, map[string]string{"pins": "text " + passphrase}, map[int64]string{1: "grüße", 2: ""}},
		"pgcrypto": {"secret bytea, iv bytea", `(1, public.encrypt_iv('one', '0123456789abcdef', '\x00112233445566778899aabbccddeeff', 'aes'), '\x00112233445566778899aabbccddeeff'), (2, public.encrypt_iv('two', '0123456789abcdef', '\xff', 'aes'), '\xff')`,
			messages.Origin{Format: "pgcrypto", Key: "pins", IV: "iv", Plaintext: "bytea"}, map[string]string{"pins": "text 0123456789abcdef"}, map[int64]string{1: "one", 2: "two"}},
		"pgcrypto without vector": {"secret bytea", `(1, public.encrypt('-42', '0123456789abcdef', 'aes')), (2, public.encrypt('9223372036854775807', '0123456789abcdef', 'aes'))`,
			messages.Origin{Format: "pgcrypto", Key: "pins", Plaintext: "bigint"}, map[string]string{"pins": "hex 30313233343536373839616263646566"},
			map[int64]string{1: "\xff\xff\xff\xff\xff\xff\xff\xd6", 2: "\x7f\xff\xff\xff\xff\xff\xff\xff"}},
		"transit": {"secret text", `(1, 'vault:v1:b25l'), (2, NULL)`,
			messages.Origin{Format: "transit", Key: "pins"}, map[string]string{"pins": "uri vault://here/transit/pins"}, map[int64]string{1: "one"}},
		"ciphersweet": {"secret text", `(1, 'brng:Cxj4xLq-zuLG9AxVmLoZ4ZXTp8PN8XTSrdmY-hHCBSRf76jJhOwutEFytnveEIQLVh7e7B3XBwTl9wuahQ=='), (2, 'brng:KSGX8kUjNdujmm_oo2DYEidUzsm2mPyn7qRszyD92noEQE3YuIupmMLRXEos4n4pgXDhlDOqoPRpzAc=')`,
			messages.Origin{Format: "ciphersweet", Key: "pins", Table: "example", Field: "name"}, map[string]string{"pins": "hex 603c15697765d660cef8fb13cc1847882f77cdac13f702c3863d57410b2d1dfa"}, map[int64]string{1: "alice", 2: "Bob"}},
		"ciphersweet of numbers": {"secret text", `(1, 'brng:mDMdMKpeTAdbjbw-ka9vicIPL6tP-RfP2O-tOoF3-KH_Bjvg5Pcd3wZwRKMKFloTC4H21yfs5oaPhqUfZAXr9Q==')`,
			messages.Origin{Format: "ciphersweet", Key: "pins", Table: "example", Field: "age", Plaintext: "bigint"}, map[string]string{"pins": "hex 603c15697765d660cef8fb13cc1847882f77cdac13f702c3863d57410b2d1dfa"}, map[int64]string{1: "\x00\x00\x00\x00\x00\x00\x05\x39"}},
	}
}

// What every format's reader opens is sealed, is compared, and is the value that was encrypted.
func TestEncryptedValuesOfOthersAreSealed(t *testing.T) {
	t.Parallel()
	for name, f := range formats() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, f.origin.Validate("from"))
			k := prepare(t, t.Context(), "CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public; CREATE TABLE public.items (id bigint PRIMARY KEY, "+f.columns+
				"); INSERT INTO public.items VALUES "+f.rows, from(f.origin, f.keys))
			k.Start(t.Context(), 10)
			if job := k.Finish(t.Context()); job.State != work.Done {
				t.Fatalf("the job ended %s: %s", job.State, job.StoppedBy)
			}
			k.Proven(t.Context(), testenv.One[int64](t, k.DB, `SELECT count(*) FROM public.items`))
			values, _ := k.holds(t.Context())
			if have := testenv.One[int](t, k.DB, `SELECT count(secret) FROM public.items`); len(values) != have {
				t.Errorf("%d rows have a cell, want %d", len(values), have)
			}
			for id, want := range f.want {
				if values[id] != want {
					t.Errorf("row %d holds %q, want %q", id, values[id], want)
				}
			}
		})
	}
}

const pgPins = `CREATE EXTENSION pgcrypto SCHEMA public; CREATE TABLE public.items (id bigint PRIMARY KEY, secret bytea, iv bytea);
CREATE FUNCTION public.pin(plain text, iv bytea) RETURNS bytea LANGUAGE sql AS $$SELECT public.encrypt_iv(convert_to(plain, 'UTF8'), '0123456789abcdef', iv, 'aes')$$;
INSERT INTO public.items SELECT i, public.pin('secret ' || i, iv), iv FROM (SELECT i, public.gen_random_bytes(16) iv FROM generate_series(1, 50) i) x; ANALYZE public.items`

func pins() option {
	return from(messages.Origin{Format: "pgcrypto", Key: "pins", IV: "iv"}, map[string]string{"pins": "text 0123456789abcdef"})
}

// A value that does not open is set aside, the rest goes on, and the row is named nowhere but in Postgres. Mended, the job
// ends.
func TestAForeignValueThatDoesNotOpenIsSetAside(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, pgPins, pins())
	k.DB.Run(t, `UPDATE public.items SET secret = 'plaintext after all' WHERE id = 7`)
	k.DB.Run(t, `UPDATE public.items SET iv = NULL WHERE id = 9`)
	k.DB.Run(t, `UPDATE public.items SET secret = decode(repeat('00', 16), 'hex'), iv = decode(repeat('00', 16), 'hex') WHERE id = 11`)
	k.Start(ctx, 20)
	if job := k.Finish(ctx); job.State != work.Failed || k.Quarantined(t) != 3 {
		t.Fatalf("the job ended %s with %d rows in quarantine", job.State, k.Quarantined(t))
	}
	for key, want := range map[string]string{"{7}": "none of the format that is read", "{11}": "damaged, or of another key"} {
		if reason := testenv.One[string](t, k.DB, "SELECT reason FROM cipherfleet.quarantine WHERE key = '"+key+"'"); !strings.Contains(reason, want) {
			t.Errorf("row %s is set aside because %q, want %q", key, reason, want)
		}
	}
	if r := k.Verify(ctx)[0]; r.Covered != 47 || r.Uncovered != 3 {
		t.Errorf("verification found %+v", r)
	}
	if n := testenv.One[int](t, k.DB, `SELECT count(*) FROM cipherfleet.events WHERE details::text LIKE '%plaintext after all%' OR details::text LIKE '%0123456789abcdef%'`); n != 0 {
		t.Error("an event shows a value or a key")
	}
	k.DB.Run(t, `UPDATE public.items SET secret = public.pin('secret ' || id, 'sixteen bytes iv'), iv = 'sixteen bytes iv' WHERE id IN (7, 9, 11)`)
	k.Start(ctx, 20)
	if job := k.Finish(ctx); job.State != work.Done {
		t.Fatalf("mended, the job ended %s: %s", job.State, job.StoppedBy)
	}
	k.Proven(ctx, 50)
	k.rotated(ctx, 1, nil)
}

// Capture watches every column that a value is opened with: whichever changes without a cell, the row is uncovered.
func TestAForeignValueIsWatchedWithItsVector(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, pgPins, pins())
	k.Start(ctx, 20)
	k.Finish(ctx)
	for what, sql := range map[string]string{
		"the vector": `UPDATE public.items SET iv = iv || '\x00' WHERE id = 1`,
		"the value":  `UPDATE public.items SET secret = public.pin('secret 2', iv) || '' , iv = iv WHERE id = 2`,
		"both":       `UPDATE public.items SET secret = public.pin('another', 'sixteen bytes iv'), iv = 'sixteen bytes iv' WHERE id = 3`,
		"a note":     `ALTER TABLE public.items ADD note text; UPDATE public.items SET note = 'x' WHERE id = 4`,
	} {
		k.DB.Run(t, sql)
		t.Log(what)
	}
	uncovered := testenv.Column[int64](t, k.DB, `SELECT id FROM public.items WHERE sealed IS NULL ORDER BY id`)
	if fmt.Sprint(uncovered) != "[1 3]" { // the second is, byte for byte, what it was
		t.Fatalf("uncovered are %v", uncovered)
	}
	k.Start(ctx, 20)
	k.Finish(ctx)
	k.Proven(ctx, 50)
	k.rotated(ctx, 1, map[int64]string{3: "another"})
}

// A verification opens both sides: a cell of another value is stale, whoever wrote it, and so is one whose source does not
// open any more.
func TestVerifyOpensForeignValues(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, pgPins, pins())
	k.Start(ctx, 20)
	k.Finish(ctx)
	k.DB.Run(t, `ALTER TABLE public.items DISABLE TRIGGER USER`)
	k.DB.Run(t, `UPDATE public.items SET secret = public.pin('another', iv) WHERE id = 3`)
	k.DB.Run(t, `UPDATE public.items SET secret = 'no value' WHERE id = 4`)
	k.DB.Run(t, `UPDATE public.items SET secret = NULL WHERE id = 5`)
	k.DB.Run(t, `UPDATE public.items SET sealed = NULL WHERE id = 6`)
	r := must(reportOf(ctx, k))(t)
	if r.Rows != 50 || r.Covered != 46 || r.Stale != 2 || r.Uncovered != 2 || r.Proven() {
		t.Errorf("verification found %+v", r)
	}
}

// reportOf verifies although triggers were switched off.
func reportOf(ctx context.Context, k *kit) (proof.Report, error) {
	reports := make([]proof.Report, 1)
	job, err := k.Job.Reading(ctx, k.Secrets)
	if err != nil {
		return reports[0], err
	}
	shape, err := shape.OpenProof(ctx, k.DB.DB, job, k.Inspect(ctx).Leaves[0].OID, k.Keyring)
	if err != nil {
		return reports[0], err
	}
	err = (&proof.Verifier{DB: k.DB.DB, Shape: shape, Keyring: k.Keyring}).Verify(ctx, reports, func(int) {})
	return reports[0], err
}

// A few values are read as they are when they are sealed, whatever way the database is reached: under the right key they
// open, under another one none does.
func TestAFewForeignValuesAreTriedThroughAPoolerToo(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, columns := range map[string]string{"with a vector": "iv", "alone": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := messages.Origin{Format: "pgcrypto", Key: "pins", IV: columns}
			k := prepare(t, ctx, pgPins, from(origin, map[string]string{"pins": "text 0123456789abcdef"}))
			if columns == "" {
				k.DB.Run(t, `UPDATE public.items SET secret = public.encrypt(convert_to('secret ' || id, 'UTF8'), '0123456789abcdef', 'aes')`)
			}
			k.Start(ctx, 20)
			pooled := must(pg.Open(ctx, testenv.Pooler(t, k.DB.URL, 2), pg.Options{}))(t)
			t.Cleanup(pooled.Close)
			job, another := must(k.Job.Reading(ctx, k.Secrets))(t), must(k.Job.Reading(ctx, secrets(t, map[string]string{"pins": "text fedcba9876543210"})))(t)
			for _, db := range []*pg.DB{k.DB.DB, pooled} {
				if err := shape.Readable(ctx, db, job); err != nil {
					t.Errorf("pooled %t: %v", db.Pooled(), err)
				}
				var unread *work.NoForeignKeyError
				if err := shape.Readable(ctx, db, another); !errors.As(err, &unread) {
					t.Errorf("pooled %t, under another key: %v", db.Pooled(), err)
				}
			}
		})
	}
}

// dialled is a server that does something before it opens.
type dialled struct {
	transit
	before func(context.Context) error
}

func (d dialled) Unwrap(ctx context.Context, wrapped, context []byte) ([]byte, error) {
	if err := d.before(ctx); err != nil {
		return nil, err
	}
	return d.transit.Unwrap(ctx, wrapped, context)
}

// While a server opens a few values, which may take its time, nobody waits for the table.
func TestNobodyWaitsForATableWhoseForeignValuesAreTried(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := formats()["transit"]
	k := prepare(t, ctx, "CREATE TABLE public.items (id bigint PRIMARY KEY, "+f.columns+"); INSERT INTO public.items SELECT i, 'vault:v1:' || CASE WHEN i < 10 THEN repeat('-', 300000) ELSE repeat('b25l', 100000) END FROM generate_series(1, 200) i", from(f.origin, f.keys))
	k.Start(ctx, 20) // values that are too much for what lies between the server and us
	asked := 0
	k.Secrets.Dial = func(context.Context, string) (readers.Unwrapper, error) {
		return dialled{before: func(ctx context.Context) error {
			asked++
			return k.DB.InTx(ctx, func(tx pg.Tx) error {
				_, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('lock_timeout', '5s', true)`)
				if err == nil {
					_, err = tx.Exec(ctx, `LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE`)
				}
				return err
			})
		}}, nil
	}
	if err := shape.Readable(ctx, k.DB.DB, must(k.Job.Reading(ctx, k.Secrets))(t)); err != nil || asked != 10 {
		t.Errorf("%d values were asked for: %v", asked, err)
	}
}

// Without the key nothing is read: the job is handed back for somebody who has it.
func TestAJobWithoutItsForeignKeyIsHandedBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := prepare(t, ctx, pgPins, pins())
	k.Start(ctx, 20)
	for name, keys := range map[string]*readers.Keys{"none at all": nil, "another": secrets(t, map[string]string{"other": "text x"}), "on a server": secrets(t, map[string]string{"pins": "uri vault://x/y/z"})} {
		_, err := k.Job.Reading(ctx, keys)
		var missing *work.NoForeignKeyError
		if !errors.As(err, &missing) || !backfill.Retryable(err) || backfill.ErrorClass(err) != "foreign_key" || !strings.Contains(err.Error(), "pins") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := shape.Open(ctx, k.DB.DB, k.Job, k.Inspect(ctx).Leaves[0].OID, k.Keyring); err == nil || errors.Is(err, keyspace.ErrChanged) {
		t.Errorf("without a reader: %v", err)
	}
	if _, err := k.Job.Reading(ctx, secrets(t, map[string]string{"pins": "text a key of more than thirty-two bytes"})); err == nil || strings.Contains(err.Error(), "thirty") {
		t.Errorf("with a key of no right length: %v", err)
	}
	job := k.Job
	job.Spec.Columns[0].Origin.Beside[0].Attnum++
	reading := must(job.Reading(ctx, k.Secrets))(t)
	if _, err := shape.Open(ctx, k.DB.DB, reading, k.Inspect(ctx).Leaves[0].OID, k.Keyring); !errors.Is(err, keyspace.ErrChanged) {
		t.Errorf("with another column for the vector: %v", err)
	}
}
