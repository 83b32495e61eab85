package api

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/internal/paas"
)

// observe gives each request its ID, counts it and logs it: changes at Info,
// reads at Debug. It is outermost, so it also sees what the others refuse.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := s.now()
		id := rand.Text()[:16]
		c.Response().Header().Set(echo.HeaderXRequestID, id)
		if err := next(c); err != nil {
			c.Error(err)
		}
		took := s.now().Sub(start)
		r, status := c.Request(), c.Response().Status
		s.metrics.observe(r.Method, c.Path(), status, took)
		level := slog.LevelDebug
		if !isSafe(r.Method) {
			level = slog.LevelInfo
		}
		s.Log.Log(r.Context(), level, "request", "requestId", id, "method", clip(r.Method, 20), "route", c.Path(),
			"app", clip(c.Param("app"), paas.MaxAppName), "status", status, "duration", took, "by", userName(c))
		return nil
	}
}

// recover turns a panic into an internal error; the stack goes to the log with it.
func (s *Server) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v) // net/http's own way to cut a connection
			default:
				err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		return next(c)
	}
}

// protect sets the headers that every answer carries, refuses changes that a
// browser sends from another site, and bounds the request in time. Uploads and
// streams set their own deadlines later.
func (s *Server) protect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		if err := s.origin.Check(c.Request()); err != nil {
			return paas.Errorf(paas.CodeForbidden, "a page of another site may not change anything here")
		}
		now := time.Now()
		setDeadlines(c, now.Add(requestTime), now.Add(requestTime))
		return next(c)
	}
}

// setDeadlines bounds reading and writing of the connection; the zero time means
// no bound. A recorder in a test has no connection: that is no error.
func setDeadlines(c echo.Context, read, write time.Time) {
	rc := http.NewResponseController(c.Response().Writer)
	_ = rc.SetReadDeadline(read)
	_ = rc.SetWriteDeadline(write)
}

func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}
