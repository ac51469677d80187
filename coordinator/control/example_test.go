package control_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/cipherfleet/cipherfleet/coordinator/control"
	"github.com/cipherfleet/cipherfleet/coordinator/control/verify"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
	"github.com/cipherfleet/cipherfleet/pkg/transform"
)

// encryptEmails encrypts users.email into users.email_encrypted and proves it. Killed at any moment, the same call goes
// on where it stood.
func encryptEmails(ctx context.Context, databaseURL, keyURI string, out io.Writer) error {
	db, err := pg.Open(ctx, databaseURL, pg.Options{AppName: "my-worker", MaxConns: 8})
	if err != nil {
		return err
	}
	defer db.Close()
	kek, err := kms.Open(ctx, keyURI, "")
	if err != nil {
		return err
	}
	if err := lifecycle.Install(ctx, db); err != nil { // changes nothing if it is there
		return err
	}

	lower := func(wire []byte) ([]byte, error) { return bytes.ToLower(wire), nil }
	hooks := map[string]transform.Hook{"email": lower}
	rows := int64(0)
	solo := &control.Solo{DB: db, KEK: kek, Before: hooks, Progress: func(p control.Progress) {
		rows += p.Rows
		fmt.Fprintf(out, "%d of about %d rows\n", rows, p.Total)
	}}
	job, err := solo.Backfill(ctx, messages.StartRequest{Schema: "public", Table: "users", Prepare: true,
		Columns: []messages.ColumnRequest{{Source: "email", Target: "email_encrypted"}}})
	if err != nil {
		return err
	}
	if job.State != "done" {
		return fmt.Errorf("the job is %s: %s", job.State, job.StoppedBy)
	}

	verifier := &verify.Verifier{DB: db, KEK: kek, Before: hooks, Seen: func(_, _ int64) {}}
	proof, err := verifier.Verify(ctx, verify.Request{Schema: "public", Table: "users"})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "proven: %t\n", proof.Proven)
	return nil
}

// A backfill in one's own program needs neither the coordinator nor a worker, nor NATS.
func ExampleSolo() {
	if err := encryptEmails(context.Background(), "postgres://localhost/shop", "file:cipherfleet.kek.json", os.Stdout); err != nil {
		log.Fatal(err)
	}
}
