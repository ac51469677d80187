package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sethvargo/go-retry"
	"go.opentelemetry.io/otel/trace"

	"github.com/cipherfleet/cipherfleet/messages"
)

const (
	externalTime  = 10 * time.Second // of one answer of a user's encrypter
	externalTries = 4
	externalPause = 200 * time.Millisecond
)

// ErrEncrypter says that a user's encrypter does not answer, or says itself that it cannot work now.
var ErrEncrypter = errors.New("the encrypter does not answer")

// External asks a user's encrypter on its subject, several times if it does not answer: whoever encrypts must be able
// to do it twice. It returns [ErrEncrypter] if that did not help.
func (b *Bus) External(ctx context.Context, subject string, request messages.ExternalRequest) (answer messages.ExternalAnswer, err error) {
	body, err := request.Marshal()
	if err != nil {
		return answer, err
	}
	ctx, span := b.tracer.Start(ctx, "external", trace.WithSpanKind(trace.SpanKindClient))
	defer func() { finish(span, err) }()
	backoff := retry.WithMaxRetries(externalTries-1, retry.WithJitterPercent(30, retry.NewExponential(externalPause)))
	err = retry.Do(ctx, backoff, func(ctx context.Context) error {
		answer, err = b.askEncrypter(ctx, subject, body)
		if errors.Is(err, ErrEncrypter) {
			return retry.RetryableError(err)
		}
		return err
	})
	return answer, err
}

func (b *Bus) askEncrypter(ctx context.Context, subject string, body []byte) (messages.ExternalAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, externalTime)
	defer cancel()
	message := nats.NewMsg(subject)
	message.Data = body
	message.Header[messages.HeaderType] = []string{messages.TypeExternal}
	inject(ctx, message.Header)
	reply, err := b.nc.RequestMsgWithContext(ctx, message)
	if err != nil {
		return messages.ExternalAnswer{}, fmt.Errorf("ask %s: %w: %w", subject, ErrEncrypter, err)
	}
	answer, err := messages.ParseExternalAnswer(reply.Data)
	switch {
	case err != nil:
		return messages.ExternalAnswer{}, fmt.Errorf("ask %s: %w", subject, err)
	case answer.Error != "":
		return messages.ExternalAnswer{}, fmt.Errorf("ask %s: %w", subject, ErrEncrypter) // its words are its own; they may quote a value
	}
	return answer, nil
}
