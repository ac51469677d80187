package app

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// Variable is one row of the table of all variables.
type Variable struct {
	Name, Default, Accepted, Meaning string
	Programs                         []string // who reads it
}

type variable struct {
	Variable
	field, rule string
	value       reflect.Value
}

// Variables returns all variables that this package reads, in the order of their declaration.
func Variables() []Variable {
	var all []Variable
	add := func(program string, config any) {
		for _, v := range variablesOf(config) {
			at := slices.IndexFunc(all, func(known Variable) bool { return known.Name == v.Name })
			if at < 0 {
				at = len(all)
				all = append(all, v.Variable)
			}
			all[at].Programs = append(all[at].Programs, program)
		}
	}
	add("cipherfleet", Coordinator{})
	add("cipherfleet-worker", Worker{})
	add("demo", Demo{})
	add("tests", Test{})
	return all
}

// variablesOf reads the tags of a configuration and of those embedded in it.
func variablesOf(config any) []variable {
	var found []variable
	value := reflect.ValueOf(config)
	for i := range value.NumField() {
		field := value.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		if field.Anonymous {
			found = append(found, variablesOf(value.Field(i).Interface())...)
			continue
		}
		v := variable{field: field.Name, rule: field.Tag.Get("accepts"), value: value.Field(i)}
		v.Name, v.Meaning = field.Tag.Get("env"), field.Tag.Get("means")
		v.Default = field.Tag.Get("envDefault") + field.Tag.Get("default")
		v.Accepted = accepted(v.Name, v.rule, field.Type)
		found = append(found, v)
	}
	return found
}

// accepted says in words what a rule means.
func accepted(name, rule string, kind reflect.Type) string {
	least, most, isRange := strings.Cut(rule, "..")
	switch {
	case isRange && kind == reflect.TypeFor[time.Duration]():
		return "a duration from " + least + " to " + most
	case isRange:
		return "a whole number from " + least + " to " + most
	case strings.Contains(rule, "|"):
		return strings.ReplaceAll(rule, "|", " or ")
	case rule != "":
		return rule
	case kind == reflect.TypeFor[URL]() && strings.HasSuffix(name, "NATS_URL"):
		return "nats://host:port, or tls, ws or wss instead of nats"
	case kind == reflect.TypeFor[URL]():
		return "postgres://user@host:port/database, or keywords as in host=… dbname=…"
	}
	return "any text"
}
