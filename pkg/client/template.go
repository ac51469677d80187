package client

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cipherfleet/cipherfleet/pkg/client/template"
)

// templates keeps statements that were parsed, up to so many: an application that makes its statements up has no end of
// them.
type templates struct {
	kept  sync.Map // of templateKey to template
	count atomic.Int64
}

type templateKey struct{ columns, sql string }

const mostTemplates = 1024

func (t *templates) parse(cs Columns, sql string) (template.Template, error) {
	at := templateKey{cs.names(), sql}
	if kept, ok := t.kept.Load(at); ok {
		return kept.(template.Template), nil
	}
	names := make([]string, len(cs))
	for i, c := range cs {
		names[i] = c.name
	}
	parsed, err := template.Parse(sql, names)
	if err == nil && t.count.Load() < mostTemplates {
		t.kept.Store(at, parsed)
		t.count.Add(1)
	}
	return parsed, err
}

// names tells sets of columns apart.
func (cs Columns) names() string {
	if len(cs) == 1 {
		return cs[0].name
	}
	var b strings.Builder
	for _, c := range cs {
		b.WriteString(strconv.Quote(c.name))
	}
	return b.String()
}

// named is the column of that name: the first, if columns of several tables are called so.
func (cs Columns) named(name string) *Column {
	for _, c := range cs {
		if c.name == name {
			return c
		}
	}
	return nil
}
