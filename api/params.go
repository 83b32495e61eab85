package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	defaultLimit = 50
	maxLimit     = 500
)

// query returns the query after refusing names that the route does not know and,
// but for those that end in "*", names given twice.
func query(c echo.Context, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		return nil, paas.Errorf(paas.CodeInvalid, "the query is malformed")
	}
	for name, values := range q {
		if slices.Contains(known, name+"*") {
			continue
		}
		if !slices.Contains(known, name) {
			e := paas.Errorf(paas.CodeInvalid, "unknown query parameter %q", clip(name, 60))
			if len(known) == 0 {
				return nil, e.WithHint("this path takes none")
			}
			return nil, e.WithHint("known: %s", strings.ReplaceAll(strings.Join(known, ", "), "*", ""))
		}
		if len(values) > 1 {
			return nil, paas.Errorf(paas.CodeInvalid, "query parameter %q is given %d times", name, len(values))
		}
	}
	return q, nil
}

// queryInt returns a number of the query, or missing if it is not there.
func queryInt(q url.Values, name string, missing, min, max int64) (int64, error) {
	if !q.Has(name) {
		return missing, nil
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil || n < min || n > max {
		return 0, paas.Errorf(paas.CodeInvalid, "query parameter %q must be a whole number from %d to %d", name, min, max)
	}
	return n, nil
}

func queryBool(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	case "":
		return q.Has(name), nil // "?follow" alone means yes
	}
	return false, paas.Errorf(paas.CodeInvalid, "query parameter %q must be true or false", name)
}

// queryTime takes a moment (RFC 3339) or how long ago it was ("10m").
func queryTime(q url.Values, name string, now time.Time) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, paas.Errorf(paas.CodeInvalid, "query parameter %q must be a time like 2026-01-31T12:00:00Z or an age like 10m", name)
	}
	return t, nil
}

// param returns a path parameter; echo leaves it escaped when the path has
// escapes that Go would not write itself.
func param(c echo.Context, name string) string {
	p := c.Param(name)
	if c.Request().URL.RawPath == "" {
		return p
	}
	if u, err := url.PathUnescape(p); err == nil {
		return u
	}
	return p
}

// pathID returns a positive number of the path.
func pathID(c echo.Context, name, what string) (int64, error) {
	n, err := strconv.ParseInt(param(c, name), 10, 64)
	if err != nil || n < 1 {
		return 0, paas.Errorf(paas.CodeInvalid, "%s %q is not a positive number", what, clip(param(c, name), 40))
	}
	return n, nil
}

// listLimit reads ?limit=.
func listLimit(c echo.Context) (int, error) {
	q, err := query(c, "limit")
	if err != nil {
		return 0, err
	}
	n, err := queryInt(q, "limit", defaultLimit, 1, maxLimit)
	return int(n), err
}

// noQuery refuses any query.
func noQuery(c echo.Context) error {
	_, err := query(c)
	return err
}

// accepts reports whether the client asks for a media type by name.
func accepts(c echo.Context, mediaType string) bool {
	return strings.Contains(c.Request().Header.Get("Accept"), mediaType)
}
