package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/coordinator/control/standing"
	"github.com/cipherfleet/cipherfleet/pkg/backfill/keyspace"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// checkKey chooses the key to walk by, or refuses the one that was asked for.
func (p *look) checkKey(context.Context) (err error) {
	if len(p.request.Key) == 0 {
		p.plan.Key, err = p.ownKey()
	} else {
		p.plan.Key, err = p.givenKey()
	}
	if err != nil {
		return err
	}
	return p.checkKeyTypes()
}

// KeyHint is what to do about a table without a usable key.
const KeyHint = "add a primary key, or a unique index on columns that are all NOT NULL: CREATE UNIQUE INDEX CONCURRENTLY"

func (p *look) ownKey() (pg.Key, error) {
	r := p.plan.Relation
	if key, ok := r.UsableKey(); ok {
		return key, nil
	}
	if len(r.Keys) == 0 {
		return pg.Key{}, standing.Refuse("key", KeyHint, "%s has no primary key and no unique index to find each row by", r.Table())
	}
	return pg.Key{}, standing.Refuse("key", KeyHint, "%s has no unique index that finds every row: %s", r.Table(), listUnusable(r.Keys))
}

func (p *look) givenKey() (pg.Key, error) {
	r := p.plan.Relation
	for i, name := range p.request.Key {
		if _, found := r.Column(name); !found {
			return pg.Key{}, NoColumn(r, fmt.Sprintf("key[%d]", i), name)
		}
	}
	key, found := r.KeyOf(p.request.Key)
	switch {
	case !found:
		return pg.Key{}, standing.Refuse("key", usableHint(r), "no unique index of %s has just the columns %s: two rows could share a key", r.Table(), strings.Join(p.request.Key, ", "))
	case !key.Usable():
		return pg.Key{}, standing.Refuse("key", usableHint(r), "unique index %s of %s does not find every row: %s", key, r.Table(), strings.Join(key.Unusable, ", "))
	}
	return key, nil
}

// checkKeyTypes refuses keys that cannot enter an address, or be sent as a list.
func (p *look) checkKeyTypes() error {
	r := p.plan.Relation
	var types []cell.TypeInfo
	for _, k := range p.plan.Key.Columns {
		column, _ := r.Column(k.Name)
		if column.Base.ArrayOID == 0 {
			return standing.Refuse("key", KeyHint, "key column %q has type %s, which cannot be listed", k.Name, column.Type)
		}
		types = append(types, keyspace.TypeInfo(column.Base))
	}
	encoder, err := cell.NewKeyEncoder(types)
	if err != nil {
		return standing.Refuse("key", KeyHint, "the key of %s cannot be used: %s", r.Table(), reason(err))
	}
	for i, k := range p.plan.Key.Columns {
		if encoder.Wire(i) == cell.Text {
			if err := p.needUTF8("key", k.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// needUTF8 refuses text of a database whose text has another encoding: a cell holds UTF-8.
func (p *look) needUTF8(field, column string) error {
	s := p.plan.Relation.Server
	if s.Encoding == "UTF8" {
		return nil
	}
	return standing.Refuse(field, "only columns of type bytea, uuid, number, date and time can be done here; else move the data to a UTF8 database",
		"column %q is text, and the encoding of database %q is %s, not UTF8", column, s.Database, s.Encoding)
}

// NoColumn is the refusal of a name that no column has.
func NoColumn(r pg.Relation, field, name string) error {
	var names []string
	for _, c := range r.Columns {
		names = append(names, c.Name)
	}
	hint := "its columns are " + strings.Join(names, ", ")
	if near := pg.Near(name, names); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %q?", near[0])
	}
	return standing.Lack(field, hint, "%s has no column %q", r.Table(), name)
}

func usableHint(r pg.Relation) string {
	var usable []string
	for _, k := range r.Keys {
		if k.Usable() {
			usable = append(usable, "("+strings.Join(k.Names(), ", ")+")")
		}
	}
	if len(usable) == 0 {
		return KeyHint
	}
	return "keys that can be used: " + strings.Join(usable, ", ")
}

func listUnusable(keys []pg.Key) string {
	words := make([]string, len(keys))
	for i, k := range keys {
		words[i] = k.String() + " cannot be used: " + strings.Join(k.Unusable, ", ")
	}
	return strings.Join(words, "; ")
}
