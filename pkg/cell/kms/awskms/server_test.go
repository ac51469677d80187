package awskms_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsapi "github.com/aws/aws-sdk-go-v2/service/kms"
)

const (
	arn     = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	uri     = "aws-kms://" + arn
	keyID   = "AKIAIOSFODNN7EXAMPLE"
	secret  = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
	blobTop = "fake-aws-kms/1"
)

// server answers as AWS KMS does, after its API reference: JSON 1.1, the two operations, the errors by name, encryption
// context as associated data. The SDK in front of it is the real one. misbehave, when set, answers first.
type server struct {
	*httptest.Server
	mu        sync.Mutex
	aead      cipher.AEAD
	refuses   string // an error's code that every request gets
	message   string
	status    int
	noContext bool // it ignores the encryption context
	misbehave http.HandlerFunc
	requests  int
	contexts  []map[string]string // that Encrypt was sent
}

func newServer(t *testing.T) *server {
	t.Helper()
	material := make([]byte, 32)
	_, _ = rand.Read(material) // never fails
	block, err := aes.NewCipher(material)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{}
	if s.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// set changes the server while nobody is served.
func (s *server) set(change func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// client is the SDK's own, that tries again at once.
func (s *server) client() *awsapi.Client {
	return awsapi.New(awsapi.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(s.URL),
		Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, ""),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return time.Millisecond, nil })
		}),
	})
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message}) // the caller sees what is missing
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	misbehave := s.misbehave
	s.mu.Unlock()
	if misbehave != nil {
		misbehave(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var body struct {
		KeyID             string `json:"KeyId"`
		Plaintext         []byte
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	switch err := json.NewDecoder(r.Body).Decode(&body); {
	case err != nil:
		refuse(w, http.StatusBadRequest, "SerializationException", "")
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+keyID+"/"):
		refuse(w, http.StatusBadRequest, "UnrecognizedClientException", "The security token included in the request is invalid.")
	case s.refuses != "":
		refuse(w, s.status, s.refuses, s.message)
	case body.KeyID != arn:
		refuse(w, http.StatusBadRequest, "NotFoundException", "Key '"+body.KeyID+"' does not exist")
	case r.Header.Get("X-Amz-Target") == "TrentService.Encrypt":
		s.contexts = append(s.contexts, body.EncryptionContext)
		s.answer(w, "CiphertextBlob", append([]byte(blobTop), s.aead.Seal(nil, nil, body.Plaintext, s.bound(body.EncryptionContext))...))
	case r.Header.Get("X-Amz-Target") == "TrentService.Decrypt":
		blob, ok := strings.CutPrefix(string(body.CiphertextBlob), blobTop)
		plaintext, err := s.aead.Open(nil, nil, []byte(blob), s.bound(body.EncryptionContext))
		if !ok || err != nil {
			refuse(w, http.StatusBadRequest, "InvalidCiphertextException", "")
			return
		}
		s.answer(w, "Plaintext", plaintext)
	default:
		refuse(w, http.StatusBadRequest, "UnknownOperationException", "")
	}
}

func (s *server) bound(context map[string]string) []byte {
	if s.noContext {
		return nil
	}
	b, err := json.Marshal(context) // sorts
	if err != nil {
		return nil
	}
	return b
}

func (s *server) answer(w http.ResponseWriter, name string, value []byte) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(map[string]string{"KeyId": arn, name: base64.StdEncoding.EncodeToString(value)}) // the caller sees what is missing
}
