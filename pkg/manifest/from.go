package manifest

import (
	"errors"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cipherfleet/cipherfleet/messages"
)

// from reads who encrypted a source. What its parts mean together is for [reader.origin].
func (r *reader) from(n *yaml.Node, path string) *messages.Origin {
	o := &messages.Origin{}
	seen := r.mapping(n, path,
		field{"format", r.choice(&o.Format, messages.Formats()...)},
		field{"plaintext", r.choice(&o.Plaintext, messages.PlaintextTypes()...)},
		field{"key", r.text(&o.Key)},
		field{"previous", func(n *yaml.Node, path string) {
			r.sequence(n, path, func(n *yaml.Node, path string) {
				name := ""
				r.text(&name)(n, path)
				o.Previous = append(o.Previous, name)
			})
		}},
		field{"master_key", r.text(&o.MasterKey)},
		field{"key_derivation_salt", r.text(&o.Salting)},
		field{"iv", r.name(&o.IV)},
		field{"salt", r.name(&o.Salt)},
		field{"mode", r.text(&o.Mode)},
		field{"algorithm", r.text(&o.Algorithm)},
		field{"digest", r.text(&o.Digest)},
		field{"table", r.text(&o.Table)},
		field{"field", r.text(&o.Field)},
		field{"padding", r.integer(&o.Padding, 0, 4096)},
		field{"associated_data", r.text(&o.Data)},
		field{"raw", r.flag(&o.Raw)},
		field{"raw_iv", r.flag(&o.RawIV)},
		field{"marshal", r.flag(&o.Marshal)},
		field{"v2_gcm_iv", r.flag(&o.ZeroIV)})
	r.require(n, path, seen, "format")
	return o
}

// origin checks it by the rules of the request that it becomes.
func (r *reader) origin(n *yaml.Node, path string, c Column) {
	if c.From.Format == "" || c.Source == "" || c.Target == "" { // said already
		return
	}
	request := messages.ColumnRequest{Source: c.Source, Target: c.Target, Transform: c.Transform, From: c.From}
	var problem *messages.Problem
	if !errors.As(request.Validate(strings.TrimSuffix(path, ".from")), &problem) {
		return
	}
	at := n
	for i := 0; i+1 < len(n.Content); i += 2 {
		if path+"."+n.Content[i].Value == problem.Field {
			at = n.Content[i+1]
		}
	}
	r.fail(at, problem.Field, problem.Hint, "%s", problem.Message)
}

func fromBlock(o messages.Origin) block {
	b := newBlock()
	text := func(name, value string) {
		if value != "" {
			b.text(name, value, "")
		}
	}
	flag := func(name string, is bool) {
		if is {
			b.add(name, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(is)}, "")
		}
	}
	text("format", o.Format)
	text("plaintext", o.Plaintext)
	text("key", o.Key)
	if len(o.Previous) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, name := range o.Previous {
			node := &yaml.Node{}
			node.SetString(name)
			list.Content = append(list.Content, node)
		}
		b.add("previous", list, "")
	}
	text("master_key", o.MasterKey)
	text("key_derivation_salt", o.Salting)
	text("iv", o.IV)
	text("salt", o.Salt)
	text("mode", o.Mode)
	text("algorithm", o.Algorithm)
	text("digest", o.Digest)
	text("table", o.Table)
	text("field", o.Field)
	if o.Padding > 0 {
		b.number("padding", o.Padding, "")
	}
	text("associated_data", o.Data)
	flag("raw", o.Raw)
	flag("raw_iv", o.RawIV)
	flag("marshal", o.Marshal)
	flag("v2_gcm_iv", o.ZeroIV)
	return b
}
