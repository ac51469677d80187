package messages

import (
	"fmt"
	"slices"
	"strings"
)

// TransformReencrypt opens values that somebody else encrypted, and seals what they hold into cells.
const TransformReencrypt = "reencrypt"

// The formats of such values.
const (
	FormatAttrEncrypted = "attr_encrypted" // Ruby, with its gem encryptor
	FormatLockbox       = "lockbox"        // Ruby
	FormatRails         = "rails"          // Active Record Encryption
	FormatPGP           = "pgp"            // pgcrypto's pgp_sym_encrypt
	FormatPGCrypto      = "pgcrypto"       // pgcrypto's encrypt and encrypt_iv
	FormatTransit       = "transit"        // of a Vault or OpenBao server
	FormatCipherSweet   = "ciphersweet"    // PHP
)

// FormatOwn is cells of ours, which move into a column of another type: the registry knows what opens them.
const FormatOwn = "cipherfleet"

// Formats are all of them.
func Formats() []string {
	return []string{FormatAttrEncrypted, FormatLockbox, FormatRails, FormatPGP, FormatPGCrypto, FormatTransit, FormatCipherSweet, FormatOwn}
}

// PlaintextTypes are the types that an opened value may be taken for.
func PlaintextTypes() []string {
	return []string{"text", "bytea", "json", "bigint", "double precision", "boolean"}
}

// Origin says in which format somebody else encrypted a source's values, and by which keys: names in a file that only
// those programs have that open them. It holds no key.
type Origin struct {
	Format    string   `json:"format"`
	Plaintext string   `json:"plaintext,omitempty"` // type of what is opened, one of [PlaintextTypes]; empty: text
	Key       string   `json:"key,omitempty"`
	Previous  []string `json:"previous,omitempty"`            // of lockbox and rails: names of earlier keys
	MasterKey string   `json:"master_key,omitempty"`          // of lockbox: the key from which, with table and field, the key is derived
	Salting   string   `json:"key_derivation_salt,omitempty"` // of rails: the name of that secret

	IV   string `json:"iv,omitempty"`   // column of initialization vectors
	Salt string `json:"salt,omitempty"` // column of salts

	Mode      string `json:"mode,omitempty"`      // of attr_encrypted
	Algorithm string `json:"algorithm,omitempty"` // of attr_encrypted, lockbox and pgcrypto
	Digest    string `json:"digest,omitempty"`    // of rails
	Table     string `json:"table,omitempty"`     // of lockbox's master key and ciphersweet: as it was named when values were written
	Field     string `json:"field,omitempty"`     // likewise
	Padding   int    `json:"padding,omitempty"`   // of lockbox
	Data      string `json:"associated_data,omitempty"`
	Raw       bool   `json:"raw,omitempty"`       // encode: false: the value is no base64
	RawIV     bool   `json:"raw_iv,omitempty"`    // encode_iv: false
	Marshal   bool   `json:"marshal,omitempty"`   // of attr_encrypted; refused
	ZeroIV    bool   `json:"v2_gcm_iv,omitempty"` // of attr_encrypted
}

// Own says that the values are cells of ours, of another column than they are to be cells of.
func (o *Origin) Own() bool { return o != nil && o.Format == FormatOwn }

// takes are the options beside format, plaintext and key that a format has.
func (o Origin) takes() map[string]bool {
	options := map[string]string{
		FormatAttrEncrypted: "key iv salt mode algorithm raw raw_iv marshal v2_gcm_iv",
		FormatLockbox:       "key previous master_key table field algorithm padding associated_data raw",
		FormatRails:         "key previous key_derivation_salt digest",
		FormatPGP:           "key",
		FormatPGCrypto:      "key iv algorithm",
		FormatTransit:       "key",
		FormatCipherSweet:   "key table field",
	}
	all := map[string]bool{}
	for option := range strings.FieldsSeq(options[o.Format]) {
		all[option] = true
	}
	return all
}

// given are the options that are set, in their order.
func (o Origin) given() (names []string) {
	for _, option := range []struct {
		name  string
		isSet bool
	}{
		{"key", o.Key != ""}, {"previous", len(o.Previous) > 0}, {"master_key", o.MasterKey != ""}, {"key_derivation_salt", o.Salting != ""},
		{"iv", o.IV != ""}, {"salt", o.Salt != ""}, {"mode", o.Mode != ""}, {"algorithm", o.Algorithm != ""}, {"digest", o.Digest != ""},
		{"table", o.Table != ""}, {"field", o.Field != ""}, {"padding", o.Padding != 0}, {"associated_data", o.Data != ""},
		{"raw", o.Raw}, {"raw_iv", o.RawIV}, {"marshal", o.Marshal}, {"v2_gcm_iv", o.ZeroIV},
	} {
		if option.isSet {
			names = append(names, option.name)
		}
	}
	return names
}

// Names are the names of the keys that its values are opened with.
func (o Origin) Names() (names []string) {
	for _, name := range append([]string{o.Key, o.MasterKey, o.Salting}, o.Previous...) {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Columns are the columns that stand beside the source's, in the order iv, salt.
func (o Origin) Columns() (names []string) {
	for _, name := range []string{o.IV, o.Salt} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// PlaintextType is the type of what is opened.
func (o Origin) PlaintextType() string {
	if o.Plaintext == "" {
		return "text"
	}
	return o.Plaintext
}

// Validate checks what can be said without keys and database; field is the origin's own name in problems.
func (o Origin) Validate(field string) error {
	takes := o.takes()
	if !slices.Contains(Formats(), o.Format) {
		return hinted(field+".format", "docs/foreign.md lists what each of them reads", "was %.40q; accepted is %s", o.Format, strings.Join(Formats(), ", "))
	}
	for _, name := range o.given() {
		if !takes[name] {
			return invalid(field+"."+name, "is no option of format %s", o.Format)
		}
	}
	switch {
	case o.Own() && o.Plaintext != "":
		return invalid(field+".plaintext", "is no option of format %s: the registry knows the type", o.Format)
	case o.Own():
		return nil
	}
	if !slices.Contains(PlaintextTypes(), o.PlaintextType()) {
		return invalid(field+".plaintext", "was %.40q; accepted is %s", o.Plaintext, strings.Join(PlaintextTypes(), ", "))
	}
	if err := o.validateKeys(field); err != nil {
		return err
	}
	switch {
	case o.IV != "" && !isName(o.IV):
		return badName(field + ".iv")
	case o.Salt != "" && !isName(o.Salt):
		return badName(field + ".salt")
	case o.IV != "" && o.IV == o.Salt:
		return invalid(field+".salt", "names the same column as iv")
	case o.Padding < 0 || o.Padding > 4096:
		return invalid(field+".padding", "was %d; accepted is 1 to 4096, or 0 for none", o.Padding)
	case o.Marshal:
		return hinted(field+".marshal", "have the application write such values anew without it first", "is Ruby Marshal, which nothing but Ruby reads safely: not supported")
	}
	return o.validateParts(field)
}

func (o Origin) validateKeys(field string) error {
	missing := "is missing; name a key of the file that CIPHERFLEET_FOREIGN_KEYS names"
	switch {
	case o.Format == FormatLockbox && (o.Key == "") == (o.MasterKey == ""):
		return invalid(field+".key", "is missing, or stands beside master_key; lockbox takes one of them, by its name in the file that CIPHERFLEET_FOREIGN_KEYS names")
	case o.Format != FormatLockbox && o.Key == "":
		return invalid(field+".key", "%s", missing)
	case o.Format == FormatRails && o.Salting == "":
		return invalid(field+".key_derivation_salt", "%s", missing)
	case len(o.Previous) > 100:
		return invalid(field+".previous", "has %d elements; accepted is at most 100", len(o.Previous))
	}
	for _, name := range o.Names() {
		if !IsKeyName(name) {
			return invalid(field+".key", "must be the name of a key, never a key: at most %d letters, digits, '.', '_' and '-'", MaxKeyName)
		}
	}
	return nil
}

// MaxKeyName is the most bytes of a key's name: fewer than any key of 256 bits has.
const MaxKeyName = 30

// IsKeyName says whether a text may be the name of a foreign key.
func IsKeyName(name string) bool {
	return name != "" && len(name) <= MaxKeyName && !strings.ContainsFunc(name, func(r rune) bool { return !isKeyRune(r) })
}

func isKeyRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// validateParts says which columns and names a format cannot do without.
func (o Origin) validateParts(field string) error {
	switch {
	case o.Format == FormatAttrEncrypted && o.Mode != "single_iv_and_salt" && o.IV == "":
		return invalid(field+".iv", "is missing; in this mode of attr_encrypted each value has its vector in a column of its own")
	case o.Format == FormatAttrEncrypted && o.Mode == "per_attribute_iv_and_salt" && o.Salt == "":
		return invalid(field+".salt", "is missing; in this mode of attr_encrypted each value has its salt in a column of its own")
	case o.Salt != "" && o.Mode != "per_attribute_iv_and_salt":
		return invalid(field+".salt", "is read in mode per_attribute_iv_and_salt alone")
	case o.IV != "" && o.Mode == "single_iv_and_salt":
		return invalid(field+".iv", "is not read in mode single_iv_and_salt")
	case (o.Format == FormatCipherSweet || o.MasterKey != "") && (o.Table == "" || o.Field == ""):
		return invalid(field+".table", "and field must be named: the key is derived from them")
	}
	return nil
}

// validateFrom checks the origin of a column's values.
func (c ColumnRequest) validateFrom(field string) error {
	switch {
	case c.Transform != TransformReencrypt && c.From != nil:
		return invalid(field+".from", "is only for transform reencrypt")
	case c.Transform != TransformReencrypt:
		return nil
	case c.From == nil:
		return invalid(field+".from", "is missing; transform reencrypt needs to know in which format the values are encrypted")
	}
	if c.From.Own() && c.Target == "" {
		return invalid(field+".target", "is missing; the name of the new column of cells is the one that the move goes by")
	}
	for _, name := range c.From.Columns() {
		if name == c.Source || name == c.Target {
			return invalid(field+".from", "names column %.63q, which is source or target itself", name)
		}
	}
	return c.From.Validate(field + ".from")
}

func hinted(field, hint, format string, args ...any) *Problem {
	return &Problem{Code: CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...), Hint: hint}
}
