package paas

import (
	"errors"
	"fmt"
)

// Code is the machine-readable kind of an Error. The API maps each to one HTTP
// status; the CLI maps each to an exit code.
type Code string

const (
	CodeInvalid      Code = "invalid"              // 400: the request or the archive is wrong
	CodeUnauthorized Code = "unauthorized"         // 401: no or bad token
	CodeForbidden    Code = "forbidden"            // 403: known, but not allowed
	CodeNotFound     Code = "not_found"            // 404
	CodeConflict     Code = "conflict"             // 409: name taken, state does not allow it
	CodeTooLarge     Code = "too_large"            // 413: over a size limit
	CodeStorageFull  Code = "insufficient_storage" // 507: the platform's disk is full
	CodeUnavailable  Code = "unavailable"          // 503: a component does not answer; retry is safe
	CodeTooMany      Code = "too_many"             // 429: a quota or a queue is full
	CodeInternal     Code = "internal"             // 500: ours; the log has the cause
)

// Error is an error that people and clients see. Anything that is not an Error
// is internal: its text goes to the log and the user gets a request ID.
type Error struct {
	Code    Code   // required
	Message string // what happened, to which thing, with the numbers; one sentence, lower case, no full stop
	Hint    string // the next step; may be empty
	Err     error  // the private cause, for the log only; may be nil
}

// Errorf returns an Error with a formatted message and no hint.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy of e that carries the next step.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithCause returns a copy of e that carries a private cause for the log.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.Err = err
	return &c
}

func (e *Error) Error() string {
	s := e.Message
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first Error in err's chain, CodeInternal when
// there is none and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
