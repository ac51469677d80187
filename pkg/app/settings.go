package app

import (
	"fmt"
	"slices"
	"strings"
)

// Setting is one effective value of a configuration, and where it comes from. It holds no secret.
type Setting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`  // "": it is not set
	Origin  string `json:"origin"` // default, or environment variable NAME
	Meaning string `json:"meaning"`
}

// OriginDefault is where a value comes from that nobody gave.
const OriginDefault = "default"

// Settings are all values of a configuration, in the order of the table of variables. Passwords and tokens in URLs are
// hidden; of credentials it has names of files only.
func (c Coordinator) Settings() []Setting {
	var all []Setting
	for _, v := range variablesOf(c) {
		s := Setting{Name: v.Name, Value: fmt.Sprint(v.value.Interface()), Origin: OriginDefault, Meaning: v.Meaning}
		if strings.HasSuffix(v.Name, "_ENDPOINT") && s.Value != "" {
			s.Value = redact(s.Value)
		}
		switch {
		case slices.Contains(c.given, v.Name):
			s.Origin = "environment variable " + v.Name
		case v.Name == "CIPHERFLEET_STATE_DIR" && slices.Contains(c.given, "XDG_STATE_HOME"):
			s.Origin = "environment variable XDG_STATE_HOME"
		case v.Name == "CIPHERFLEET_STATE_DIR":
			s.Origin = "environment variable HOME"
		}
		all = append(all, s)
	}
	return all
}
