package work

import "github.com/cipherfleet/cipherfleet/pkg/pg"

// External is a user's own encrypter, who makes what the target of a column holds: one that is asked, or an encrypting
// proxy. The zero External is nobody.
type External struct {
	Subject string `json:"subject,omitempty"` // where it is asked
	Key     string `json:"key,omitempty"`     // its own name for the column
	Proxy   bool   `json:"proxy,omitempty"`   // plaintext is written through it

	// What payloads may name, by the names of when the target's CHECK was made; the source is the log's.
	Table  pg.Table `json:"table"`
	Target string   `json:"target"`
}

// Foreign says that there is such an encrypter.
func (e External) Foreign() bool { return e.Subject != "" || e.Proxy }

// Name is what a person calls it.
func (e External) Name() string {
	if e.Proxy {
		return "the encrypting proxy"
	}
	return "the encrypter on " + e.Subject
}

// Foreign says that the column's target holds no cells of ours: nobody here can open it.
func (c Column) Foreign() bool { return c.External.Foreign() }
