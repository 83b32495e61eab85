package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// answerError is an error that the server told, or that there was none to tell.
type answerError struct {
	err       *paas.Error
	requestID string        // "" when no answer came
	after     time.Duration // the server's Retry-After
	transient bool          // trying again may help
	unsent    bool          // the server never had the request
}

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// RequestID returns the ID under which the server's log has the request that
// err is the answer to; "" if it had none.
func RequestID(err error) string {
	var e *answerError
	if errors.As(err, &e) {
		return e.requestID
	}
	return ""
}

// readError turns an answer of 400 or above into an error. An answer that is not
// the API's, e.g. a proxy's page, is told by its status.
func readError(resp *http.Response) error {
	e := &answerError{requestID: resp.Header.Get("X-Request-Id")}
	var body v1.Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&body); err != nil || body.Code == "" {
		e.err = paas.Errorf(codeOfStatus(resp.StatusCode), "the server answered %s", resp.Status).
			WithHint("is %s the address of a Slipway server?", resp.Request.URL.Host)
	} else {
		e.err = toError(body)
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.after = time.Duration(s) * time.Second
	}
	e.transient = resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout
	return e
}

func toError(b v1.Error) *paas.Error {
	return &paas.Error{Code: paas.Code(b.Code), Message: b.Message, Hint: b.Hint}
}

func codeOfStatus(status int) paas.Code {
	switch {
	case status == http.StatusUnauthorized:
		return paas.CodeUnauthorized
	case status == http.StatusForbidden:
		return paas.CodeForbidden
	case status == http.StatusNotFound:
		return paas.CodeNotFound
	case status == http.StatusRequestEntityTooLarge:
		return paas.CodeTooLarge
	case status >= 502 && status <= 504:
		return paas.CodeUnavailable
	case status >= 500:
		return paas.CodeInternal
	}
	return paas.CodeInvalid
}

// unreachable is the error when no (whole) answer came.
func (c *Client) unreachable(cause error, unsent bool) error {
	e := paas.Errorf(paas.CodeUnavailable, "the server at %s does not answer", c.base).
		WithHint("is it running? `make run` starts one, `slipway login URL` chooses another").WithCause(cause)
	return &answerError{err: e, transient: true, unsent: unsent}
}

// isDialError reports whether no connection was made at all.
func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// retry calls try until it succeeds, fails for good or the patience is used up.
func (c *Client) retry(ctx context.Context, repeatable bool, try func() error) error {
	deadline := time.Now().Add(c.patience)
	for n := 0; ; n++ {
		err := try()
		var e *answerError
		if err == nil || !errors.As(err, &e) || !e.transient || !repeatable && !e.unsent {
			return err
		}
		wait := max(pause(n), e.after)
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		if sleep(ctx, wait) != nil {
			return fmt.Errorf("%w, while %w", context.Cause(ctx), err)
		}
	}
}

// pause grows from 100 ms to 2 s, with jitter so that clients do not come back
// all at once.
func pause(n int) time.Duration {
	d := min(100*time.Millisecond<<min(n, 5), 2*time.Second)
	return d/2 + rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
