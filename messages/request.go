package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// readStrictly decodes a request. Every failure is a *Problem that names the field.
func readStrictly(body []byte, request any) error {
	if len(body) > MaxBody {
		return invalid("", "the request has %d bytes; the most is %d", len(body), MaxBody)
	}
	if err := checkVersion(body); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		return describe(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return invalid("", "there is something after the request's JSON object")
	}
	return nil
}

// checkVersion comes first: a request of another version may well have fields that this one does not know.
func checkVersion(body []byte) error {
	var head struct {
		V *int `json:"v"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return describe(err)
	}
	if head.V == nil {
		return invalid("v", `is missing; this coordinator speaks "v":%d`, Version)
	}
	if *head.V != Version {
		return fmt.Errorf("%w: %w", invalid("v", "was %d; this coordinator speaks %d", *head.V, Version), ErrVersion)
	}
	return nil
}

func describe(err error) *Problem {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return invalid(wrongType.Field, "was a JSON %s; accepted is %s", wrongType.Value, accepted(wrongType))
	}
	if name, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
		if field, err := strconv.Unquote(name); err == nil {
			return invalid(field, "is not a field of this request")
		}
	}
	return invalid("", "the request is not a JSON object")
}

// accepted says in JSON's words what Go's type stands for.
func accepted(err *json.UnmarshalTypeError) string {
	switch kind := err.Type.Kind().String(); {
	case strings.HasPrefix(kind, "int"):
		return "a whole number"
	case kind == "bool":
		return "true or false"
	case kind == "slice":
		return "a list"
	case kind == "struct":
		return "an object"
	}
	return "a string"
}
