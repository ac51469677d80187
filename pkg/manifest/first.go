package manifest

import "github.com/cipherfleet/cipherfleet/messages"

// First is what the first scheme of the column is to be, the one that it is to be written under, as a request says it; nil
// where no cells of ours are sealed of its values, or cells move, which bring their own along.
func (c Column) First() *messages.Scheme {
	s, listed := c.Schemes[c.Scheme]
	sealed := c.Transform == messages.TransformEncrypt || c.Transform == messages.TransformReencrypt && !c.From.Own()
	if !listed || !sealed {
		return nil
	}
	return &messages.Scheme{Number: c.Scheme, Suite: s.Suite, Binding: s.Binding, Columns: s.Columns, Padding: &s.Padding, Nulls: s.Nulls, Tenant: s.Tenant, Retain: s.Retain.String()}
}
