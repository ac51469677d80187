package messages

import (
	"encoding/json"
	"fmt"
)

// The codes of a problem. Each has a number like that of HTTP, which travels in the header Nats-Service-Error-Code.
const (
	CodeInvalid     = "INVALID"     // 400: the request itself is wrong; Field says where
	CodeDenied      = "DENIED"      // 401: privileges are missing
	CodeNotFound    = "NOT_FOUND"   // 404: no such job, table or column
	CodeConflict    = "CONFLICT"    // 409: another job or another state stands in the way
	CodeRefused     = "REFUSED"     // 422: a precondition does not hold; nothing was changed
	CodeWaiting     = "WAITING"     // 425: a gate waits for a person or for time; nothing was changed
	CodeBusy        = "BUSY"        // 429: not now; ask again later
	CodeInternal    = "INTERNAL"    // 500: look into the coordinator's log
	CodeUnavailable = "UNAVAILABLE" // 503: Postgres, the queue or the key service does not answer
)

// Problem is the answer to a request that is not carried out. Message and Hint are written for a person and hold
// names of tables and columns at most.
type Problem struct {
	Code    string `json:"code"`
	Field   string `json:"field,omitempty"` // the request's field, as in "columns[0].source"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Job     string `json:"job,omitempty"` // what stands in the way is this job, which the fleet began by itself: worth waiting for
}

// Error is the field, if any, and the message; the hint is for whoever prints it.
func (p *Problem) Error() string {
	if p.Field == "" {
		return p.Message
	}
	return p.Field + ": " + p.Message
}

// Status is the number of the problem's code: 500 when it is unknown.
func (p *Problem) Status() int {
	for _, known := range statuses() {
		if known.code == p.Code {
			return known.status
		}
	}
	return 500
}

// CodeOf is the code with this number: CodeInternal when there is none.
func CodeOf(status int) string {
	for _, known := range statuses() {
		if known.status == status {
			return known.code
		}
	}
	return CodeInternal
}

type codeStatus struct {
	code   string
	status int
}

func statuses() []codeStatus {
	return []codeStatus{
		{CodeInvalid, 400}, {CodeDenied, 401}, {CodeNotFound, 404}, {CodeConflict, 409},
		{CodeRefused, 422}, {CodeWaiting, 425}, {CodeBusy, 429}, {CodeInternal, 500}, {CodeUnavailable, 503},
	}
}

// Marshal writes the body.
func (p *Problem) Marshal() []byte {
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // four strings always marshal
	}
	return body
}

// ParseProblem reads a problem, ignoring fields it does not know. What is no problem is ErrMalformed.
func ParseProblem(body []byte) (*Problem, error) {
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return nil, fmt.Errorf("read problem: %w", ErrMalformed)
	}
	return &p, nil
}

func invalid(field, format string, args ...any) *Problem {
	return &Problem{Code: CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}
