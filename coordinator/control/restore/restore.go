// Package restore brings the plaintext of a dropped column back, as far as a rollback of its cutover can go on.
//
// Words: a restoration is the plaintext's column added again, without values, beside its cells; the decision to have it
// is a row of cipherfleet.decryptions, without which nobody opens the cells of a dropped column.
package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cipherfleet/cipherfleet/coordinator/control/ladder"
	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// Restoration is a dropped column whose plaintext is to come back, every precondition met when it was looked at.
type Restoration struct {
	standing.Standing
	Already bool   // it has its plaintext column: a rollback does the rest
	Plain   string // what the plaintext is called until it has its own name again
	Steps   []string

	cutover standing.Cutover
}

// Plan looks over whether the plaintext of a column can come back.
func Plan(ctx context.Context, l *ladder.Ladder, n standing.Name) (r Restoration, err error) {
	err = standing.Reading(ctx, l.DB, "30s", func(tx pg.Tx) error {
		if r.Standing, err = standing.Find(ctx, tx, n); err != nil {
			return err
		}
		if r.Origin != nil && r.Standing.Plain.Attnum != 0 {
			return standing.Refuse("column", "the cutover and "+n.Command("drop")+" come first; then this brings the plaintext back",
				"%s is %s: column %q still has its %s", n, standing.PhaseWord(r.State.Phase), r.Standing.Plain.Name, r.Before())
		}
		if err = r.Standing.CheckOpenable(ctx, tx); err != nil {
			return err
		}
		if err = r.Standing.CheckStays(ctx, tx); err != nil {
			return err
		}
		r.cutover, err = standing.LastCutover(ctx, tx, r.Column)
		return err
	})
	if err != nil {
		return r, err
	}
	switch {
	case r.State.Phase == lifecycle.PhaseCutOver && r.Standing.Plain.Attnum != 0:
		r.Already, r.Plain = true, r.Standing.Plain.Name
		return r, nil
	case r.State.Phase != lifecycle.PhaseDropped:
		return r, standing.Refuse("column", n.Command("rollback")+" takes it back", "%s is %s: its plaintext is still there", n, standing.PhaseWord(r.State.Phase))
	case r.Sealed.Attnum == 0:
		return r, standing.Refuse("column", "cipherfleet status says what is missing", "the cells of %s are gone", n)
	case r.cutover.Strategy == "":
		return r, standing.Refuse("column", "add a column yourself, and read the cells through the application", "the log does not say how %s was cut over", n)
	case !r.Relation.Privileges.Owner:
		return r, standing.Deny("table", "run this as the owner of the table", "role %q may not alter %s", r.Relation.Server.User, r.Relation.Table())
	}
	r.Plain = r.cutover.PlainName
	if _, taken := r.Relation.Column(r.Plain); taken {
		return r, standing.Refuse("column", "give that column another name", "%s has a column %q already, which is what the plaintext was called", r.Relation.Table(), r.Plain)
	}
	r.Steps = []string{"record in cipherfleet.decryptions who wants it, and why",
		fmt.Sprintf("add column %s of type %s, and watch for cells that are written from now on (in the same transaction; ACCESS EXCLUSIVE, for a moment)", r.Plain, r.Type)}
	return r, nil
}

// Restore records the decision and adds the plaintext's column, in one transaction: the column is cut over as before its
// drop, without a plaintext yet, and a rollback opens every cell. It takes the right to INSERT into table decryptions.
func Restore(ctx context.Context, l *ladder.Ladder, r Restoration, reason string) error {
	if r.Already {
		return nil
	}
	again, err := json.Marshal(r.cutover)
	if err != nil {
		return fmt.Errorf("write the cutover of %s: %w", r.Source, err)
	}
	return l.Transition(ctx, r.Standing, lifecycle.Event{Kind: lifecycle.KindCutOver, Detail: again}, func(tx pg.Tx) error {
		if err := lifecycle.Decrypt(ctx, tx, r.ID, l.Actor, reason); err != nil {
			return err
		}
		if err := addPlain(ctx, tx, r); err != nil {
			return err
		}
		now, err := lifecycle.ReadInstallation(ctx, tx)
		if err != nil {
			return err
		}
		why, err := json.Marshal(restored{Reason: reason, What: decrypts, Revision: now.Revision})
		if err != nil {
			return fmt.Errorf("write the reason: %w", err)
		}
		_, err = (&lifecycle.Log{}).Append(ctx, tx, lifecycle.Event{Table: r.Column.Table.String(), Column: r.Source, Kind: lifecycle.KindAdvanced,
			Phase: lifecycle.PhaseCutOver, Detail: why, Actor: l.Actor})
		return err
	})
}

// restored is what the log says of a restoration.
type restored struct {
	Reason   string `json:"reason"`
	What     string `json:"what"`
	Revision int64  `json:"revision"` // of the registry, with which it begins
}

const decrypts = "decrypt"

const restoredSQL = `SELECT coalesce((SELECT (e.details ->> 'revision')::pg_catalog.int8 FROM cipherfleet.events e
 WHERE e.table_name = $1 AND e.column_name = $2 AND e.event = $3 AND e.details ->> 'what' = $4 ORDER BY e.id DESC LIMIT 1), 0)`

// Noticed refuses, with a [*lifecycle.NotReadyError], while a program with a live lease has not looked since the plaintext
// of a dropped column came back. It writes cells alone, under the name that is the plaintext's once it is swapped back. Of
// a column that was not dropped nobody has to notice anything.
func Noticed(ctx context.Context, db *pg.DB, s standing.Standing) error {
	return standing.Reading(ctx, db, "30s", func(tx pg.Tx) error {
		var revision int64
		if err := tx.QueryRow(ctx, restoredSQL, s.Column.Table.String(), s.Source, lifecycle.KindAdvanced, decrypts).Scan(&revision); err != nil {
			return fmt.Errorf("read when the plaintext came back: %w", err)
		}
		return lifecycle.Heard(ctx, tx, lifecycle.NotReadyError{Column: s.ID, What: "the plaintext", Act: "swapped back", Revision: revision})
	})
}

// addPlain adds the column and puts reverse capture beside it.
func addPlain(ctx context.Context, tx pg.Tx, r Restoration) error {
	column, err := ladder.Steps(ctx, tx, r.Standing)
	if err != nil {
		return err
	}
	column.Source = r.Plain
	add := ddl.Removal{Column: column, Type: r.Type, Collation: r.Collation}.Add()
	if err := standing.Alone(ctx, tx, column.Table, add); err != nil {
		return fmt.Errorf("add column %s: %w", r.Plain, err)
	}
	const attnumSQL = `SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attname = $2 AND NOT attisdropped`
	var attnum int16
	if err := tx.QueryRow(ctx, attnumSQL, r.Relid, r.Plain).Scan(&attnum); err != nil {
		return fmt.Errorf("find column %s: %w", r.Plain, err)
	}
	if err := lifecycle.MoveSource(ctx, tx, r.ID, attnum); err != nil {
		return err
	}
	if err := giveBack(ctx, tx, r); err != nil {
		return err
	}
	return standing.Each(ctx, tx, column.ReverseCapture().Do)
}

const heldSQL = `SELECT n.nspname::text, c.relname::text, (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('privilege', h.privilege_type, 'grantee', coalesce(r.rolname::text, ''), 'grantable', h.is_grantable)), '[]')
   FROM pg_catalog.pg_attribute a, pg_catalog.aclexplode(a.attacl) h LEFT JOIN pg_catalog.pg_roles r ON r.oid = h.grantee WHERE a.attrelid = c.oid AND a.attname = $2)
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`

// giveBack gives the plaintext what its cutover copied from the one before to the cells: its comment, and the rights on it
// of all who still have them on the cells.
func giveBack(ctx context.Context, tx pg.Tx, r Restoration) error {
	moved := r.cutover
	moved.Places = nil
	for _, place := range r.cutover.Places {
		var held []standing.Grant
		err := tx.QueryRow(ctx, heldSQL, place.OID, r.Sealed.Name).Scan(&place.Schema, &place.Name, &held)
		if errors.Is(err, pgx.ErrNoRows) {
			continue // a partition that is gone
		} else if err != nil {
			return fmt.Errorf("read the rights on %s: %w", r.Sealed.Name, err)
		}
		place.Grants = slices.DeleteFunc(slices.Clone(place.Grants), func(g standing.Grant) bool { return !slices.Contains(held, g) })
		moved.Places = append(moved.Places, place)
	}
	swap := moved.Swap(ddl.Column{})
	swap.Target = r.Plain
	return standing.Each(ctx, tx, swap.Bestow())
}
