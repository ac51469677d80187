package gcpkms_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"hash/crc32"
	"net"
	"sync"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	name   = "projects/acme/locations/europe-west3/keyRings/fleet/cryptoKeys/cipherfleet"
	uri    = "gcp-kms://" + name
	secret = "ya29.a0AfH6SMBexampletoken"
)

// server answers as Cloud KMS does, after its RPC reference: real AES-GCM, associated data, checksums both ways, status
// codes. Google's client in front of it is the real one. Each field that is set makes it misbehave in one way.
type server struct {
	kmspb.UnimplementedKeyManagementServiceServer
	running *grpc.Server
	conn    *grpc.ClientConn
	mu      sync.Mutex
	aead    cipher.AEAD
	refuses error
	stalls  bool
	empty   bool // answers hold nothing
	cuts    bool // answers lose their last byte on the way
	noAAD   bool
}

func newServer(t *testing.T) *server {
	t.Helper()
	material := make([]byte, 32)
	_, _ = rand.Read(material) // never fails
	block, err := aes.NewCipher(material)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{running: grpc.NewServer()}
	if s.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		t.Fatal(err)
	}
	kmspb.RegisterKeyManagementServiceServer(s.running, s)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.running.Serve(listener) }()
	s.conn, err = grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.running.Stop()
		_ = s.conn.Close()                                                         // nothing is on its way any more
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
			t.Error(err)
		}
	})
	return s
}

// set changes the server while nobody is served.
func (s *server) set(change func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *server) options() []option.ClientOption {
	return []option.ClientOption{option.WithGRPCConn(s.conn)}
}

func sum(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

func (s *server) bound(aad []byte) []byte {
	if s.noAAD {
		return nil
	}
	return aad
}

// way is what happens to an answer on its way.
func (s *server) way(b []byte) []byte {
	if s.cuts {
		return b[:len(b)-1]
	}
	return b
}

// enter decides whether a request is served at all.
func (s *server) enter(ctx context.Context, asked string) error {
	s.mu.Lock()
	stalls, refuses := s.stalls, s.refuses
	s.mu.Unlock()
	switch {
	case stalls:
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	case refuses != nil:
		return refuses
	case asked != name:
		return status.Error(codes.NotFound, "CryptoKey "+asked+" not found.")
	}
	return nil
}

// Encrypt is the RPC.
func (s *server) Encrypt(ctx context.Context, r *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	if err := s.enter(ctx, r.GetName()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.empty {
		return &kmspb.EncryptResponse{}, nil
	}
	sealed := s.aead.Seal(nil, nil, r.GetPlaintext(), s.bound(r.GetAdditionalAuthenticatedData()))
	return &kmspb.EncryptResponse{
		Name: name + "/cryptoKeyVersions/1", Ciphertext: s.way(sealed), CiphertextCrc32C: wrapperspb.Int64(sum(sealed)),
		VerifiedPlaintextCrc32C:                   r.GetPlaintextCrc32C().GetValue() == sum(r.GetPlaintext()),
		VerifiedAdditionalAuthenticatedDataCrc32C: r.GetAdditionalAuthenticatedDataCrc32C().GetValue() == sum(r.GetAdditionalAuthenticatedData()),
	}, nil
}

// Decrypt is the RPC.
func (s *server) Decrypt(ctx context.Context, r *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if err := s.enter(ctx, r.GetName()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.empty {
		return &kmspb.DecryptResponse{}, nil
	}
	plaintext, err := s.aead.Open(nil, nil, r.GetCiphertext(), s.bound(r.GetAdditionalAuthenticatedData()))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	return &kmspb.DecryptResponse{Plaintext: s.way(plaintext), PlaintextCrc32C: wrapperspb.Int64(sum(plaintext))}, nil
}
