package api

import (
	"net/url"
	"regexp"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	defaultTail = 1000
	maxTail     = 1_000_000
)

// instanceRef is an instance's ID or name.
var instanceRef = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,79}$`)

// logs answers with an app's output as text, as lines of JSON or as events. An
// event's ID is its time, after which a lost stream is resumed.
func (s *Server) logs(c echo.Context) error {
	q, err := query(c, "follow", "tail", "instance", "since")
	if err != nil {
		return err
	}
	lq, err := s.logQuery(q)
	if err != nil {
		return err
	}
	form := formText
	switch {
	case accepts(c, string(formEvents)):
		form = formEvents
	case accepts(c, string(formLines)):
		form = formLines
	}
	if id := c.Request().Header.Get("Last-Event-ID"); id != "" {
		at, err := time.Parse(time.RFC3339Nano, id)
		if err != nil {
			return badEventID(id)
		}
		lq.Since, lq.Tail = at.Add(time.Nanosecond), 0
	}
	a, err := s.app(c)
	if err != nil {
		return err
	}
	lq.App = a.Name
	st := s.startStream(c, form)
	defer st.close()
	err = s.Logs.Read(st.ctx, lq, func(l paas.LogLine) error { return sendLine(st, viewLogLine(l, a.Type)) })
	if err == nil && form == formEvents && !lq.Follow {
		err = st.event("", "done", struct{}{})
	}
	return st.end(err)
}

func sendLine(st *stream, l v1.LogLine) error {
	switch st.form {
	case formEvents:
		return st.event(l.At.Format(time.RFC3339Nano), "log", l)
	case formLines:
		return st.line(l)
	}
	return st.text(l.At.Format("2006-01-02T15:04:05.000Z07:00") + " " + l.Instance + " " + l.Text + "\n")
}

func (s *Server) logQuery(q url.Values) (lq paas.LogQuery, err error) {
	if lq.Follow, err = queryBool(q, "follow"); err != nil {
		return lq, err
	}
	if lq.Since, err = queryTime(q, "since", s.now()); err != nil {
		return lq, err
	}
	lq.Instance = q.Get("instance")
	if lq.Instance != "" && !instanceRef.MatchString(lq.Instance) {
		return lq, paas.Errorf(paas.CodeInvalid, "instance %q is neither an ID nor a name like web.1", clip(lq.Instance, 80))
	}
	if q.Get("tail") == "all" {
		return lq, nil
	}
	missing := int64(defaultTail)
	if !lq.Since.IsZero() {
		missing = maxTail // a moment was given: all since then
	}
	tail, err := queryInt(q, "tail", missing, 0, maxTail)
	if tail == 0 {
		tail = -1 // LogQuery's word for none
	}
	lq.Tail = int(tail)
	return lq, err
}

func viewLogLine(l paas.LogLine, t paas.AppType) v1.LogLine {
	return v1.LogLine{At: utc(l.At), InstanceID: l.Instance, Instance: instanceName(t, l.Slot), Release: l.Release, Stream: l.Stream, Text: l.Text}
}
