package messages

import (
	"slices"
	"time"
)

// Scheme says what the first scheme of a column is to be. What is left out is as in a manifest that leaves it out.
type Scheme struct {
	Number  int    `json:"number,omitempty"`  // 1 to 65535; 0: 1
	Suite   string `json:"suite,omitempty"`   // xaes-256-gcm or aes-256-siv; empty: the first
	Binding string `json:"binding,omitempty"` // pk, none or columns; empty: pk where the suite can be bound

	Columns []string `json:"columns,omitempty"` // that binding columns binds cells to, in this order

	Padding *int   `json:"padding,omitempty"` // block in bytes: 0, 16, 32 or 64; nil: as the type of the source wants it
	Nulls   string `json:"nulls,omitempty"`   // keep or seal; empty: keep
	Tenant  string `json:"tenant,omitempty"`  // the column whose value chooses the key; empty: one key for all rows
	Retain  string `json:"retain,omitempty"`  // a duration as in 720h: how long its keys are kept behind its retirement; empty: 720h
}

// Retained is how long keys are kept; 0 where nothing is said of it.
func (s Scheme) Retained() time.Duration {
	d, _ := time.ParseDuration(s.Retain) // what cannot be read was refused
	return d
}

// validateFirst checks what a column's first scheme is to be.
func (c ColumnRequest) validateFirst(field string) error {
	s := c.First
	if s == nil {
		return nil
	}
	field += ".first_scheme"
	retain, err := time.ParseDuration(s.Retain)
	switch {
	case c.Transform != "" && c.Transform != TransformEncrypt && c.Transform != TransformReencrypt || c.From.Own():
		return invalid(field, "is only for cells that are sealed of other values: transform encrypt, or reencrypt from what others have encrypted")
	case s.Number < 0 || s.Number > MaxScheme:
		return invalid(field+".number", "was %d; accepted is 1 to %d", s.Number, MaxScheme)
	case s.Suite != "" && s.Suite != "xaes-256-gcm" && s.Suite != "aes-256-siv":
		return invalid(field+".suite", "was %.40q; accepted is xaes-256-gcm or aes-256-siv", s.Suite)
	case s.Binding != "" && s.Binding != "pk" && s.Binding != "none" && s.Binding != "columns":
		return invalid(field+".binding", "was %.40q; accepted is pk, none or columns", s.Binding)
	case s.Suite == "aes-256-siv" && s.Binding != "" && s.Binding != "none":
		return invalid(field+".binding", "was %s; suite aes-256-siv cannot be bound to rows", s.Binding)
	case (s.Binding == "columns") != (len(s.Columns) > 0):
		return invalid(field+".columns", "has %d elements; binding columns needs some, and no other has any", len(s.Columns))
	case slices.ContainsFunc(s.Columns, func(name string) bool { return !isName(name) }):
		return badName(field + ".columns")
	case s.Padding != nil && !slices.Contains([]int{0, 16, 32, 64}, *s.Padding):
		return invalid(field+".padding", "was %d; accepted is 0, 16, 32 or 64", *s.Padding)
	case s.Nulls != "" && s.Nulls != "keep" && s.Nulls != "seal":
		return invalid(field+".nulls", "was %.40q; accepted is keep or seal", s.Nulls)
	case s.Tenant != "" && !isName(s.Tenant):
		return badName(field + ".tenant")
	case s.Retain != "" && (err != nil || retain <= 0):
		return invalid(field+".retain", "was %.40q; accepted is a duration above zero, as in 720h", s.Retain)
	}
	return nil
}
