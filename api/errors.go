package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// statusGone is what the access log shows when the client left before the
// answer (nginx's number; nobody receives it).
const statusGone = 499

var statuses = map[paas.Code]int{
	paas.CodeInvalid:      http.StatusBadRequest,
	paas.CodeUnauthorized: http.StatusUnauthorized,
	paas.CodeForbidden:    http.StatusForbidden,
	paas.CodeNotFound:     http.StatusNotFound,
	paas.CodeConflict:     http.StatusConflict,
	paas.CodeTooLarge:     http.StatusRequestEntityTooLarge,
	paas.CodeStorageFull:  http.StatusInsufficientStorage,
	paas.CodeUnavailable:  http.StatusServiceUnavailable,
	paas.CodeTooMany:      http.StatusTooManyRequests,
	paas.CodeInternal:     http.StatusInternalServerError,
}

// writeError is the one place where an error becomes an answer and, when it is
// ours, a line in the log.
func (s *Server) writeError(err error, c echo.Context) {
	status, body := s.describe(err, c)
	if status >= 500 {
		s.Log.Error("request failed", "requestId", body.RequestID, "method", c.Request().Method,
			"route", c.Path(), "status", status, "err", err)
	}
	if c.Response().Committed {
		return
	}
	h := c.Response().Header()
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="slipway"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "2")
	}
	if err := c.JSON(status, body); err != nil {
		s.Log.Debug("the answer was not written", "requestId", body.RequestID, "err", err)
	}
}

// describe turns any error into a status and a body without private text.
func (s *Server) describe(err error, c echo.Context) (int, v1.Error) {
	id := c.Response().Header().Get(echo.HeaderXRequestID)
	var pe *paas.Error
	var he *echo.HTTPError
	switch {
	case errors.As(err, &pe) && statuses[pe.Code] != 0 && pe.Code != paas.CodeInternal:
		return statuses[pe.Code], v1.Error{Code: string(pe.Code), Message: pe.Message, Hint: pe.Hint, RequestID: id}
	case errors.As(err, &he) && he.Code < 500:
		return describeEcho(he, c, id)
	case errors.Is(err, context.Canceled) && c.Request().Context().Err() != nil:
		return statusGone, v1.Error{Code: string(paas.CodeInvalid), Message: "the client went away", RequestID: id}
	}
	return http.StatusInternalServerError, v1.Error{
		Code:      string(paas.CodeInternal),
		Message:   "something went wrong on our side",
		Hint:      "the server's log has the cause under this request ID",
		RequestID: id,
	}
}

// describeEcho words what echo itself refuses: unknown paths and methods.
func describeEcho(he *echo.HTTPError, c echo.Context, id string) (int, v1.Error) {
	e := v1.Error{Code: string(paas.CodeInvalid), Message: strings.ToLower(http.StatusText(he.Code)), RequestID: id}
	switch he.Code {
	case http.StatusNotFound:
		e.Code, e.Message, e.Hint = string(paas.CodeNotFound), "there is nothing at this path", "GET /openapi.yaml lists what there is"
	case http.StatusMethodNotAllowed:
		e.Message = "method " + clip(c.Request().Method, 20) + " is not allowed here"
		e.Hint = "allowed: " + c.Response().Header().Get(echo.HeaderAllow)
	}
	return he.Code, e
}

// clip shortens what a user sent before it is quoted back.
func clip(s string, max int) string {
	if len(s) <= max {
		return s
	}
	return strings.ToValidUTF8(s[:max], "") + "…"
}
