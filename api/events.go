package api

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func (s *Server) events(c echo.Context) error { return s.serveEvents(c, "") }

func (s *Server) appEvents(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	return s.serveEvents(c, a.Name)
}

// serveEvents answers with a list, or with a stream that begins after
// Last-Event-ID or after=, else now.
func (s *Server) serveEvents(c echo.Context, app string) error {
	q, err := query(c, "after", "limit")
	if err != nil {
		return err
	}
	after, err := queryInt(q, "after", 0, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	limit, err := queryInt(q, "limit", defaultLimit, 1, maxLimit)
	if err != nil {
		return err
	}
	if !accepts(c, string(formEvents)) {
		list, err := s.Store.Events(c.Request().Context(), app, after, int(limit))
		if err != nil {
			return err
		}
		out := v1.Events{Events: make([]v1.Event, 0, len(list)), Next: after}
		for _, e := range list {
			out.Events, out.Next = append(out.Events, viewEvent(e)), e.ID
		}
		return c.JSON(http.StatusOK, out)
	}
	if id := c.Request().Header.Get("Last-Event-ID"); id != "" {
		if after, err = strconv.ParseInt(id, 10, 64); err != nil || after < 0 {
			return badEventID(id)
		}
	} else if !q.Has("after") {
		if after, err = s.Store.LastEventID(c.Request().Context()); err != nil {
			return err
		}
	}
	st := s.startStream(c, formEvents)
	defer st.close()
	return st.end(s.streamEvents(st, app, after))
}

// streamEvents sends events as they come; an app's stream ends with the app.
func (s *Server) streamEvents(st *stream, app string, after int64) error {
	for {
		changed := s.Store.Changed()
		list, err := s.Store.Events(st.ctx, app, after, maxLimit)
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := st.event(strconv.FormatInt(e.ID, 10), "event", viewEvent(e)); err != nil {
				return err
			}
			after = e.ID
		}
		if len(list) == maxLimit {
			continue
		}
		if app != "" {
			if _, err := s.Store.App(st.ctx, app); paas.CodeOf(err) == paas.CodeNotFound {
				return st.event("", "gone", struct{}{})
			}
		}
		if err := waitFor(st.ctx, changed, lookAgain); err != nil {
			return err
		}
	}
}

// waitFor returns at a change or after some time, or with why ctx ended.
func waitFor(ctx context.Context, changed <-chan struct{}, atMost time.Duration) error {
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func viewEvent(e paas.Event) v1.Event {
	return v1.Event{ID: e.ID, At: utc(e.At), App: e.AppName, Kind: e.Kind, Deployment: e.Deployment, Message: e.Message, By: e.By}
}
