package ddl

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cipherfleet/cipherfleet/pkg/pg"
)

// IsGuard says whether one of a table's triggers is of the column's capture, and as [Column.Capture] makes it now: what
// it calls, what it asks, and of which columns. One that is not was installed by an older version, for another
// expression, or altered. Whether it is enabled is another question. Of the column the key does not count: it is the one
// that the trigger watches. What an expression's capture asks is not compared.
func (c Column) IsGuard(t pg.Trigger) bool {
	body, is := c.Guards()[t.Name]
	if !is || t.Body != body {
		return false
	}
	if c.Expression != nil {
		return true
	}
	if t.Name == EnteringTrigger(c.ID) { // it is the body that says which condition
		return !slices.ContainsFunc(append(c.Where.Names(), c.Target, c.Source), func(name string) bool { return !slices.Contains(t.Reads, name) })
	}
	if t.Name == CaptureTriggers(c.ID)[0] {
		asked := []versioned{{"new", c.Target}, {"new", c.Source}}
		return slices.Equal(argumentsOf(t, missesInsertFunction(c.ID)), asked) && asks(t, missesInsertFunction(c.ID), c.insertBody())
	}
	arguments := argumentsOf(t, missesFunction(c.ID))
	if c.Key = c.watchedKey(arguments); len(c.Key) == 0 {
		return false
	}
	_, misses := c.missesParts()
	c.Types = nil // as it is where types are not known
	_, plain := c.missesParts()
	return slices.Equal(arguments, c.missesArguments()) && asks(t, missesFunction(c.ID), misses, plain)
}

// versioned is a column of a row before or after it was written.
type versioned struct{ version, name string }

// missesArguments are what the condition of an update is asked with.
func (c Column) missesArguments() []versioned {
	list := []versioned{{"new", c.Target}, {"old", c.Target}}
	for _, version := range []string{"new", "old"} {
		for _, name := range c.bound() {
			list = append(list, versioned{version, name})
		}
	}
	return list
}

// watchedKey is the key among such arguments: what stands between the target and what belongs to the source.
func (c Column) watchedKey(arguments []versioned) (key []string) {
	c.Key = nil
	for i := 2; i < len(arguments)/2+1-len(c.bound()); i++ {
		key = append(key, arguments[i].name)
	}
	return key
}

// printedImage is a column in a trigger's condition, as Postgres prints it.
var printedImage = regexp.MustCompile(`^(new|old)\.("(?:[^"]|"")+"|[^\s",.()]+)(?:, |$)`)

// argumentsOf are the columns that a trigger asks this function of, if that is all that it asks.
func argumentsOf(t pg.Trigger, function string) (list []versioned) {
	rest, called := strings.CutPrefix(t.Condition, "cipherfleet."+function+"(")
	rest, closed := strings.CutSuffix(rest, ")")
	if !called || !closed {
		return nil
	}
	for rest != "" {
		found := printedImage.FindStringSubmatch(rest)
		if found == nil {
			return nil
		}
		name := found[2]
		if strings.HasPrefix(name, `"`) {
			name = strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
		}
		list, rest = append(list, versioned{found[1], name}), rest[len(found[0]):]
	}
	return list
}

// asks says that the condition calls this function alone, and that it reads like one of the bodies.
func asks(t pg.Trigger, function string, bodies ...string) bool {
	return len(t.Asks) == 1 && t.Asks[0].Name == "cipherfleet."+function && !t.Asks[0].Strict && slices.Contains(bodies, t.Asks[0].Body)
}
