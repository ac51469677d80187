package gcpkms_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cipherfleet/cipherfleet/pkg/cell"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/gcpkms"
	"github.com/cipherfleet/cipherfleet/pkg/cell/kms/kmstest"
)

func TestCloudKMSConforms(t *testing.T) {
	t.Parallel()
	kmstest.Conform(t, func(t *testing.T) kmstest.Subject {
		t.Helper()
		s := newServer(t)
		const usual = time.Minute
		patience := usual
		well := func() {
			patience = usual
			s.set(func(s *server) { s.refuses, s.stalls, s.empty, s.cuts, s.noAAD = nil, false, false, false, false })
		}
		answers := func(class cell.KEKClass, code codes.Code, message string) kmstest.Fault {
			return kmstest.Fault{Class: class, Heal: well, Anew: class == cell.KEKUnavailable, Cause: func() {
				if class == cell.KEKUnavailable {
					patience = time.Second // the client tries such codes until then
				}
				s.set(func(s *server) { s.refuses = status.Error(code, message+" "+secret) })
			}}
		}
		does := func(class cell.KEKClass, change func(*server)) kmstest.Fault {
			return kmstest.Fault{Class: class, Heal: well, Cause: func() { s.set(change) }}
		}
		return kmstest.Subject{
			Open: func() (cell.KEK, error) {
				return gcpkms.OpenWith(t.Context(), uri, gcpkms.Config{Options: s.options(), Patience: patience})
			},
			Secrets: []string{secret},
			Faults: map[string]kmstest.Fault{
				"unavailable":       answers(cell.KEKUnavailable, codes.Unavailable, "The service is currently unavailable."),
				"internal error":    answers(cell.KEKUnavailable, codes.Internal, ""),
				"unknown error":     answers(cell.KEKUnavailable, codes.Unknown, ""),
				"throttled":         answers(cell.KEKUnavailable, codes.ResourceExhausted, "Quota exceeded for quota metric"),
				"denied":            answers(cell.KEKDenied, codes.PermissionDenied, "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied"),
				"no credentials":    answers(cell.KEKDenied, codes.Unauthenticated, ""),
				"disabled":          answers(cell.KEKDisabled, codes.FailedPrecondition, name+"/cryptoKeyVersions/1 is not enabled, current state is: DISABLED."),
				"to be destroyed":   answers(cell.KEKDisabled, codes.FailedPrecondition, name+"/cryptoKeyVersions/1 is not enabled, current state is: DESTROY_SCHEDULED."),
				"billing is off":    answers(cell.KEKDisabled, codes.FailedPrecondition, "Billing is disabled for project 1."),
				"destroyed":         answers(cell.KEKDestroyed, codes.FailedPrecondition, name+"/cryptoKeyVersions/1 is not enabled, current state is: DESTROYED."),
				"no such key":       answers(cell.KEKDestroyed, codes.NotFound, "CryptoKey not found."),
				"wrong kind of key": answers(cell.KEKCorrupt, codes.InvalidArgument, ""),
				"empty answer":      does(cell.KEKCorrupt, func(s *server) { s.empty = true }),
				"truncated answer":  does(cell.KEKCorrupt, func(s *server) { s.cuts = true }),
				"slow answer": {Class: cell.KEKUnavailable, Heal: well, Anew: true, Cause: func() {
					patience = 50 * time.Millisecond
					s.set(func(s *server) { s.stalls = true })
				}},
				"ignores associated data": does(cell.KEKCorrupt, func(s *server) { s.noAAD = true }),
				"gone":                    {Class: cell.KEKUnavailable, Anew: true, Cause: func() { patience = time.Second; s.running.Stop() }},
			},
		}
	})
}

// TestAServerThatIgnoresAssociatedDataIsRefusedAtRegistration: nothing is wrapped that could be swapped.
func TestAServerThatIgnoresAssociatedDataIsRefusedAtRegistration(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.noAAD = true
	kek, err := gcpkms.OpenWith(t.Context(), uri, gcpkms.Config{Options: s.options()})
	if err != nil {
		t.Fatal(err)
	}
	dek, err := cell.NewDEK()
	if err != nil {
		t.Fatal(err)
	}
	_, err = cell.WrapDEK(t.Context(), kek, kmstest.Identity(), dek)
	if cell.KEKClassOf(err) != cell.KEKCorrupt || !strings.Contains(err.Error(), "ignores associated data") {
		t.Error(err)
	}
}

func TestURIs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, good := range []string{uri, "gcp-kms://projects/example.com:acme/locations/global/keyRings/a/cryptoKeys/b_2"} {
		if kek, err := gcpkms.OpenWith(t.Context(), good, gcpkms.Config{Options: s.options()}); err != nil || kek.URI() != good {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"gcp-kms://", "gcp-kms://" + secret, uri + "/cryptoKeyVersions/1", uri + "?x=y", uri + "\n", "gcp-kms://user:" + secret + "@" + name,
		"gcp-kms://projects/acme/locations/x/keyRings/../cryptoKeys/k",
	} {
		_, err := kms.OpenWith(t.Context(), bad, kms.Config{Kinds: []kms.Kind{gcpkms.Kind()}})
		if cell.KEKClassOf(err) != cell.KEKUnknown || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if gcpkms.Kind().Scheme != "gcp-kms" || !kms.Known(uri) {
		t.Error("the programs do not know the scheme")
	}
}
