package messages

import (
	"encoding/json"
	"strings"
	"unicode"
)

// JobRequest asks for one job, or for something to be done to it. RequestID only marks the request in logs.
type JobRequest struct {
	V         int    `json:"v"`
	RequestID string `json:"request_id,omitempty"`
	Job       string `json:"job"` // a UUID
	Actor     string `json:"actor,omitempty"`
}

// RetryRequest asks for a job that has ended to go on with what it left aside. Quarantined says with what: the rows in
// quarantine. It must be true: there is nothing else yet that can be tried again.
type RetryRequest struct {
	V           int    `json:"v"`
	RequestID   string `json:"request_id,omitempty"`
	Job         string `json:"job"` // a UUID
	Quarantined bool   `json:"quarantined"`
	Actor       string `json:"actor,omitempty"`
}

// ListRequest asks for all jobs.
type ListRequest struct {
	V int `json:"v"`
}

// Marshal writes the body in the current version whatever V says.
func (r JobRequest) Marshal() ([]byte, error) {
	r.V = Version
	return json.Marshal(r)
}

// ParseJobRequest reads a request strictly. Every error is a *Problem that names the field.
func ParseJobRequest(body []byte) (JobRequest, error) {
	var r JobRequest
	if err := readStrictly(body, &r); err != nil {
		return JobRequest{}, err
	}
	return r, checkJob(r.Job, r.RequestID, r.Actor)
}

// checkJob checks what every request about one job has.
func checkJob(job, request, actor string) error {
	switch {
	case !isUUID(job):
		return invalid("job", "must be a job's id, a UUID")
	case request != "" && !isRequestID(request):
		return invalid("request_id", "must be at most 128 visible ASCII characters")
	case len(actor) > 128 || !isText(actor):
		return invalid("actor", "must be at most 128 bytes of printable text")
	}
	return nil
}

// Marshal writes the body in the current version whatever V says.
func (r RetryRequest) Marshal() ([]byte, error) {
	r.V = Version
	return json.Marshal(r)
}

// ParseRetryRequest reads a request strictly. Every error is a *Problem that names the field.
func ParseRetryRequest(body []byte) (RetryRequest, error) {
	var r RetryRequest
	if err := readStrictly(body, &r); err != nil {
		return RetryRequest{}, err
	}
	if !r.Quarantined {
		return RetryRequest{}, invalid("quarantined", "must be true: rows in quarantine are what can be tried again")
	}
	return r, checkJob(r.Job, r.RequestID, r.Actor)
}

// Marshal writes the body in the current version whatever V says.
func (r ListRequest) Marshal() ([]byte, error) {
	r.V = Version
	return json.Marshal(r)
}

// ParseListRequest reads a request strictly. Every error is a *Problem that names the field.
func ParseListRequest(body []byte) (ListRequest, error) {
	var r ListRequest
	if err := readStrictly(body, &r); err != nil {
		return ListRequest{}, err
	}
	return r, nil
}

// isUUID reports whether s is a UUID in its usual form, in lower or upper case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", rune(r)) {
			return false
		}
	}
	return true
}

func isText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}
