package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"github.com/cipherfleet/cipherfleet/coordinator/control/preflight"
	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/app"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/lifecycle"
	"github.com/cipherfleet/cipherfleet/pkg/manifest"
)

// maker is who makes the values of a command's columns, as flags say it, or else the manifest.
type maker struct{ transform, subject, key, kind string }

func (m *maker) flags(f *pflag.FlagSet) {
	f.StringVar(&m.transform, "transform", "", "encrypt, external or proxy: who makes the values of all these columns (default: as the last job, else the manifest, else encrypt)")
	f.StringVar(&m.subject, "subject", "", "with --transform external: the NATS subject on which your own encrypter is asked")
	f.StringVar(&m.key, "external-key", "", "with --transform external: what that encrypter calls the column")
	f.StringVar(&m.kind, "type", "", "with --prepare: bytea, text or jsonb, with --transform external or proxy also eql_v2_encrypted: the type of a target that is added (default bytea)")
}

// fill puts the flags into every column of a request.
func (m *maker) fill(r *messages.StartRequest) {
	for i := range r.Columns {
		c := &r.Columns[i]
		c.Transform, c.Type, c.External = m.transform, m.kind, messages.Encrypter{Subject: m.subject, Key: m.key}
	}
}

// fromManifest completes the columns that the manifest gives to an encrypter, unless flags say who makes them. Targets
// are those that flags name. Without a manifest nothing happens.
func (m *maker) fromManifest(r *messages.StartRequest, path string, targets []string) error {
	if m.transform != "" {
		return nil
	}
	file, err := loadManifest(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	at := slices.IndexFunc(file.Tables, func(t manifest.Table) bool { return t.Schema == r.Schema && t.Name == r.Table })
	if at < 0 {
		return nil
	}
	for i := range r.Columns {
		c := &r.Columns[i]
		in := slices.IndexFunc(file.Tables[at].Columns, func(o manifest.Column) bool { return o.Source == c.Source })
		if in < 0 {
			continue
		}
		wanted := file.Tables[at].Columns[in]
		switch wanted.Transform {
		case messages.TransformExternal, messages.TransformProxy:
			c.Transform, c.External = wanted.Transform, messages.Encrypter{Subject: wanted.External.Subject, Key: wanted.External.Key}
			if c.Type = wanted.Type; i >= len(targets) {
				c.Target = wanted.Target
			}
		case messages.TransformEncrypt:
			if c.Type == "" && wanted.Type != "bytea" {
				c.Type = wanted.Type
			}
		}
	}
	if err := r.Validate(); err != nil {
		return &app.Fail{Code: app.CodeUsage, Err: fmt.Errorf("%s: %w", path, err), Hint: "mend the manifest, or name another one with CIPHERFLEET_MANIFEST"}
	}
	return nil
}

// withoutFleet refuses what one process cannot do by itself, or not in this environment.
func withoutFleet(ctx context.Context, plan preflight.Plan, s *station) error {
	if err := preflight.Unproxied(plan); err != nil {
		proxy, failed := app.OpenProxy(ctx, s.config.Proxy, "cipherfleet", 1, s.traces)
		if proxy == nil {
			_, hint := app.Explain(err)
			return &app.Fail{Code: app.CodeUsage, Err: cmp.Or(failed, err), Hint: hint}
		}
		defer proxy.Close()
		if err := proxy.Ping(ctx); err != nil {
			code, _ := app.Explain(err)
			return &app.Fail{Code: code, Err: fmt.Errorf("reach the proxy: %w", err), Hint: "is the proxy running, and is CIPHERFLEET_PROXY_URL right?"}
		}
	}
	return preflight.Unreachable(plan)
}

// addedAs and letIn describe a target in a rung.
func addedAs(c preflight.Column) string {
	if c.Foreign() {
		return fmt.Sprintf("%s, nullable", c.Payload())
	}
	return c.Form().String() + ", nullable, STORAGE EXTERNAL"
}

func letIn(c preflight.Column) string {
	switch c.Payload() {
	case ddl.PayloadCell:
		return "cells"
	case ddl.PayloadJSON, ddl.PayloadEQL:
		return "payloads of this column"
	}
	return "what is not its source's text"
}

// schemeWords says how cells are made, where any are.
func schemeWords(p preflight.Plan) string {
	if !slices.ContainsFunc(p.Columns, func(c preflight.Column) bool { return !c.Foreign() }) {
		return ""
	}
	return "; scheme 1, XAES-256-GCM, bound to the row"
}

// byBackfillAlone refuses to climb single rungs of a column whose values are not cells: they would be those of cells.
func byBackfillAlone(wanted manifest.Column, to lifecycle.Phase) error {
	if wanted.Transform == messages.TransformEncrypt || to == lifecycle.PhaseCutOver || to == lifecycle.PhaseDropped {
		return nil
	}
	return &app.Fail{Code: app.CodeRefused, Err: fmt.Errorf("the manifest wants transform %s for column %q, whose rungs are climbed by its backfill alone", wanted.Transform, wanted.Source),
		Hint: "cipherfleet backfill --prepare does all of them"}
}
