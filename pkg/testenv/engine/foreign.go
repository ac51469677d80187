package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cipherfleet/cipherfleet/messages"
	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/ddl"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// Made lets a user's own encrypter make the columns of a kit: one that hides a value well enough for a test, and whose
// answers say where they belong.
func Made(payload ddl.Payload, targetType string) Option {
	return func(k *Kit) {
		k.Foreign = ddl.Column{Payload: payload, TargetType: targetType}
		k.Ask = func(_ context.Context, r messages.ExternalRequest) (a messages.ExternalAnswer, err error) {
			for _, v := range r.Values {
				a.Results = append(a.Results, messages.ExternalResult{ID: v.ID, Value: Disguised(payload, r, v.Value)})
			}
			return a, nil
		}
	}
}

// EQL is that for the payloads of EQL.
func EQL(k *Kit) { Made(ddl.PayloadEQL, "public.eql_v2_encrypted")(k) }

// Disguised is a value as such an encrypter hides it.
func Disguised(payload ddl.Payload, r messages.ExternalRequest, value string) json.RawMessage {
	hidden := []byte(value)
	for i := range hidden {
		hidden[i] ^= 0x5a
	}
	var result any = "sealed:" + base64.StdEncoding.EncodeToString(hidden)
	switch payload {
	case ddl.PayloadBytea:
		result = fmt.Sprintf(`\x%x`, append([]byte{7}, hidden...))
	case ddl.PayloadJSON, ddl.PayloadEQL:
		_, table, _ := strings.Cut(r.Table, ".")
		result = map[string]any{"v": 2, "i": map[string]string{"t": table, "c": r.Column}, "c": result}
	}
	body, _ := json.Marshal(result)
	return body
}

// Proxied lets an encrypting proxy make the column of a kit.
func Proxied(payload ddl.Payload, targetType string) Option {
	as := map[ddl.Payload]string{ddl.PayloadJSON: "%s::jsonb", ddl.PayloadEQL: "ROW(%s::jsonb)::public.eql_v2_encrypted", ddl.PayloadText: "%s::text", ddl.PayloadBytea: "%s::bytea"}
	return func(k *Kit) {
		k.Foreign = ddl.Column{Payload: payload, TargetType: targetType}
		k.Proxy = &testenv.EncryptingProxy{Target: "sealed", As: as[payload], Payload: func(plain string) string {
			body := string(Disguised(payload, messages.ExternalRequest{Table: "public.items", Column: "secret"}, plain))
			if payload == ddl.PayloadText || payload == ddl.PayloadBytea {
				body = strings.ReplaceAll(strings.Trim(body, `"`), `\\`, `\`)
			}
			return body
		}}
	}
}

// In lets targets hold cells in another form than bytes.
func In(form cell.Form) Option {
	return func(k *Kit) { k.Foreign = ddl.Column{Form: form, TargetType: form.String()} }
}
