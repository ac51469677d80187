package ladder_test

import (
	"strings"
	"testing"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// rehearse demands that a rehearsal ends as it began, and leaves nothing.
func (r ripe) rehearse(t *testing.T) ladder.Rehearsal {
	t.Helper()
	before := testenv.Catalog(t, r)
	rehearsal, err := r.ladder().Rehearse(t.Context(), r.name)
	if err != nil {
		t.Fatal(err)
	}
	if testenv.Catalog(t, r) != before {
		t.Error("the database was changed")
	}
	if n := testenv.One[int](t, r, `SELECT count(*) FROM pg_namespace WHERE nspname = 'cipherfleet_rehearsal'`); n != 0 {
		t.Error("the copy is still there")
	}
	if !rehearsal.Same {
		t.Error("the copy did not end as it began")
	}
	var names []string
	for _, stage := range rehearsal.Stages {
		names = append(names, stage.Name)
		if stage.Locked != (stage.Name == "cutover" || stage.Name == "rollback") || stage.Locked && stage.Took <= 0 {
			t.Errorf("%+v", stage)
		}
	}
	if strings.Join(names, ", ") != "cutover, after the cutover, rollback, after the rollback" {
		t.Errorf("the stages are %q", names)
	}
	return rehearsal
}

func TestARehearsalLeavesNothing(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	db.Run(t, `ALTER TABLE users ADD COLUMN no int GENERATED ALWAYS AS IDENTITY, ADD COLUMN twice bigint GENERATED ALWAYS AS (id * 2) STORED,
		ADD CONSTRAINT short CHECK (length(note) < 100); CREATE INDEX ON users (note)`)
	r := ripen(t, db, inPublic("users", "email"), "id")
	rehearsal := r.rehearse(t)
	if !strings.Contains(rehearsal.Stages[0].Statements[0].SQL, "LOCK TABLE") || len(rehearsal.Stages[1].Statements) == 0 || len(rehearsal.Stages[3].Statements) == 0 {
		t.Errorf("%+v", rehearsal)
	}
	r.cut(t)
	r.rehearse(t)
	if _, err := r.rollback(t.Context(), r.ladder()); err != nil {
		t.Fatal(err)
	}
	r.rehearse(t)
}

func TestARehearsalOfAPartitionedTable(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, `CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL) PARTITION BY RANGE (id); CREATE TABLE users_a PARTITION OF users DEFAULT; INSERT INTO users VALUES (1, 'a')`)
	ripen(t, db, inPublic("users", "email"), "id").rehearse(t)
}

func TestARehearsalThatIsRefused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t)
	db.Run(t, richTable)
	r := ripen(t, db, inPublic("users", "email"), "id")
	_, err := r.ladder().Rehearse(t.Context(), inPublic("users", "note"))
	if code, hint := app.Explain(err); code != app.CodeRefused || hint == "" {
		t.Errorf("a column that is not registered: exit code %d, %v", code, err)
	}
	db.Run(t, `ALTER TABLE users DROP COLUMN email_encrypted CASCADE`)
	_, err = r.ladder().Rehearse(t.Context(), r.name)
	if code, _ := app.Explain(err); code != app.CodeRefused {
		t.Errorf("a column without cells: exit code %d, %v", code, err)
	}
}
