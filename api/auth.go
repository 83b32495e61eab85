package api

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/internal/paas"
)

const tokenKey = "slipway.token" // in echo's context

// touches remembers when a token's use was last written, so that it is written
// at most once a minute.
type touches struct {
	mu sync.Mutex
	at map[int64]time.Time
}

// due reports whether use of the token should be written now, and notes it.
func (t *touches) due(id int64, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.at[id]) < time.Minute {
		return false
	}
	t.at[id] = now
	return true
}

// allow is the one place that decides whether a request may reach its handler.
func (s *Server) allow(a access, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if a == forEveryone || a == forLocal && isLocal(c.Request()) {
			return next(c)
		}
		t, err := s.authenticate(c)
		if err != nil {
			return err
		}
		c.Set(tokenKey, t)
		return next(c)
	}
}

// authenticate finds the token of the Authorization header. Tokens are read from
// nowhere else: neither cookies nor URLs.
func (s *Server) authenticate(c echo.Context) (paas.Token, error) {
	scheme, text, _ := strings.Cut(c.Request().Header.Get("Authorization"), " ")
	if text == "" || !strings.EqualFold(scheme, "Bearer") {
		return paas.Token{}, unauthorized("no token was sent")
	}
	text = strings.TrimSpace(text)
	if !wellFormed(text) {
		return paas.Token{}, unauthorized("the token is not valid")
	}
	ctx := c.Request().Context()
	// Looked up by the hash's index: the time it takes says nothing about the token.
	t, err := s.Store.TokenByHash(ctx, HashToken(text))
	if paas.CodeOf(err) == paas.CodeNotFound {
		return paas.Token{}, unauthorized("the token is not valid")
	}
	if err != nil {
		return paas.Token{}, err
	}
	if now := s.now(); s.touched.due(t.ID, now) {
		if err := s.Store.TouchToken(ctx, t.ID, now); err != nil {
			s.Log.Warn("last use of a token was not written", "token", t.ID, "err", err)
		}
	}
	return t, nil
}

func unauthorized(what string) error {
	return paas.Errorf(paas.CodeUnauthorized, "%s", what).
		WithHint("run `slipway login`, or send the header Authorization: Bearer TOKEN")
}

// isLocal reports whether the request came straight from this machine. A proxy
// on it forwards for others and says so.
func isLocal(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// userName is who calls.
func userName(c echo.Context) string {
	t, _ := c.Get(tokenKey).(paas.Token)
	return t.UserName
}
