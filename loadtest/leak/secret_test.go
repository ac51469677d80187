package leak

import (
	"context"
	"encoding/base64"
	"os"
	"regexp"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/testenv"
)

// keysIn lists the byte strings of 32 or 64 bytes in a serialized message of any kind: in a keyset, the keys.
func keysIn(message []byte) (keys [][]byte) {
	for len(message) > 0 {
		_, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return keys
		}
		message = message[n:]
		size := protowire.ConsumeFieldValue(1, kind, message)
		if size < 0 {
			return keys
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if len(value) == cell.KeySize || len(value) == cell.SIVKeySize {
				keys = append(keys, value)
			}
			keys = append(keys, keysIn(value)...)
		}
		message = message[size:]
	}
	return keys
}

// spy is the key-encryption key, and keeps the keys that it unwraps.
type spy struct {
	cell.KEK
	seen [][]byte
}

// Unwrap is the key's own.
func (s *spy) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	keyset, err := s.KEK.Unwrap(ctx, wrapped, aad)
	s.seen = append(s.seen, keysIn(keyset)...)
	return keyset, err
}

// keyMaterial is the KEK's own key, which stands in its file, and every key of the registry, those of blind indexes among them.
func (w *world) keyMaterial() (keys [][]byte) {
	w.t.Helper()
	content, err := os.ReadFile(w.kekFile)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, value := range regexp.MustCompile(`"value":\s*"([^"]+)"`).FindAllSubmatch(content, -1) {
		message, err := base64.StdEncoding.DecodeString(string(value[1]))
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, keysIn(message)...)
	}
	kek, err := kms.Open(w.t.Context(), "file:"+w.kekFile, "")
	if err != nil {
		w.t.Fatal(err)
	}
	eye := &spy{KEK: kek}
	registry := testenv.One[uuid.UUID](w.t, w.db, `SELECT id FROM cipherfleet.installation`)
	rows, err := w.db.Query(w.t.Context(), `SELECT d.column_id, d.id, coalesce(s.suite, $1), d.wrapped FROM cipherfleet.deks d
 LEFT JOIN cipherfleet.schemes s ON (s.column_id, s.number) = (d.column_id, d.scheme) WHERE d.wrapped IS NOT NULL`, int16(cell.SuiteBlindIndex))
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var column, key int64
		var suite int16
		var wrapped []byte
		if err := rows.Scan(&column, &key, &suite, &wrapped); err != nil {
			w.t.Fatal(err)
		}
		id := cell.DEKID{Registry: registry, Column: uint32(column), KeyID: uint32(key), Suite: cell.Suite(suite)}
		if _, err := cell.UnwrapDEK(w.t.Context(), eye, id, wrapped); err != nil {
			w.t.Fatal(err)
		}
	}
	return append(keys, eye.seen...)
}
