package app

import (
	"os"
	"slices"
	"strings"
)

// Inherit returns the variables of this process, as NAME=value, whose text begins with one of the prefixes: for a
// program that it starts and that is to see these and no others.
func Inherit(prefixes ...string) []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(variable, prefix) })
	})
}
