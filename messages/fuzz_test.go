package messages_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cipherfleet/cipherfleet/messages"
)

// marshals is any message.
type marshals interface{ Marshal() ([]byte, error) }

func reads[M marshals](parse func([]byte) (M, error)) func([]byte) (marshals, error) {
	return func(body []byte) (marshals, error) {
		m, err := parse(body)
		return m, err
	}
}

// requests are read strictly: what is wrong is a problem for whoever asked. The others are read tolerantly.
func requests() map[string]func([]byte) (marshals, error) {
	return map[string]func([]byte) (marshals, error){
		"start": reads(messages.ParseStartRequest), "job request": reads(messages.ParseJobRequest), "retry": reads(messages.ParseRetryRequest), "list": reads(messages.ParseListRequest),
	}
}

func told() map[string]func([]byte) (marshals, error) {
	return map[string]func([]byte) (marshals, error){
		"task": reads(messages.ParseTask), "progress": reads(messages.ParseProgress), "dead letter": reads(messages.ParseDeadLetter), "job": reads(messages.ParseJob),
		"job list": reads(messages.ParseJobList), "external request": reads(messages.ParseExternalRequest), "external answer": reads(messages.ParseExternalAnswer),
	}
}

// FuzzEveryMessage: no bytes make a reader panic, an error is of the kind that is promised, and what is accepted is
// written to something that reads as the same.
func FuzzEveryMessage(f *testing.F) {
	for _, body := range []string{
		`{"v":1}`, `{"v":2,"job":"j"}`, `{"v":1,"job":"0192f0c4-1111-7222-8333-444455556666","quarantined":true,"actor":"a"}`, `{"v":1,"values":[{"id":0,"value":"x"}]}`,
		`{"v":1,"results":[{"id":0,"value":{"c":1e400}},{"id":1,"refused":true}]}`, `{"v":1,"jobs":[{"id":"a","columns":null,"ranges":{"done":1}}]}`, `{"v":1}{}`, `[]`, "",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, parse := range requests() {
			m, err := parse(body)
			var problem *messages.Problem
			if err != nil && !errors.As(err, &problem) {
				t.Fatalf("%s: error is no problem: %v", name, err)
			}
			sameAgain(t, name, parse, m, err)
		}
		for name, parse := range told() {
			m, err := parse(body)
			if err != nil && errors.Is(err, messages.ErrVersion) == errors.Is(err, messages.ErrMalformed) {
				t.Fatalf("%s: error is neither or both: %v", name, err)
			}
			sameAgain(t, name, parse, m, err)
		}
	})
}

func sameAgain(t *testing.T, name string, parse func([]byte) (marshals, error), m marshals, err error) {
	if err != nil {
		return
	}
	written, err := m.Marshal()
	if errors.Is(err, messages.ErrMalformed) {
		return // it names a subject that nobody may publish to
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	again, err := parse(written)
	if err != nil {
		t.Fatalf("%s: %s is not read: %v", name, written, err)
	}
	if rewritten, err := again.Marshal(); err != nil || !bytes.Equal(rewritten, written) {
		t.Fatalf("%s: %s became %s, %v", name, written, rewritten, err)
	}
}
