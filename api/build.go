package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func (s *Server) listBuilds(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	limit, err := listLimit(c)
	if err != nil {
		return err
	}
	list, err := s.Store.Builds(c.Request().Context(), a.Name, limit)
	if err != nil {
		return err
	}
	out := v1.Builds{Builds: make([]v1.Build, 0, len(list))}
	for _, b := range list {
		v := viewBuild(b)
		if v.Result != nil {
			v.Result.Plan = nil // large; the single build has it
		}
		out.Builds = append(out.Builds, v)
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) getBuild(c echo.Context) error {
	if err := noQuery(c); err != nil {
		return err
	}
	b, err := s.build(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, viewBuild(b))
}

// build finds the one of the path; another app's counts as absent.
func (s *Server) build(c echo.Context) (paas.Build, error) {
	a, err := s.app(c)
	if err != nil {
		return paas.Build{}, err
	}
	id, err := pathID(c, "id", "build")
	if err != nil {
		return paas.Build{}, err
	}
	b, err := s.Store.Build(c.Request().Context(), id)
	if paas.CodeOf(err) == paas.CodeNotFound || err == nil && b.AppID != a.ID {
		return b, paas.Errorf(paas.CodeNotFound, "app %s has no build %d", a.Name, id)
	}
	return b, err
}

// buildLog answers with text, or with events that can be resumed after the last
// line that was seen.
func (s *Server) buildLog(c echo.Context) error {
	q, err := query(c, "follow")
	if err != nil {
		return err
	}
	follow, err := queryBool(q, "follow")
	if err != nil {
		return err
	}
	b, err := s.build(c)
	if err != nil {
		return err
	}
	form, skip := formText, 0
	if accepts(c, string(formEvents)) {
		form = formEvents
		if skip, err = lastLine(c); err != nil {
			return err
		}
	}
	st := s.startStream(c, form)
	defer st.close()
	n := skip
	err = s.BuildLogs.Read(st.ctx, b, skip, follow, func(l paas.BuildLine) error {
		n++
		if form == formEvents {
			return st.event(strconv.Itoa(n), "log", viewBuildLine(l))
		}
		return st.text(l.At.UTC().Format(time.TimeOnly) + " " + l.Step + ": " + l.Text + "\n")
	})
	if err == nil && form == formEvents {
		err = st.event(strconv.Itoa(n), "done", struct{}{})
	}
	return st.end(err)
}

// lastLine is how many lines the client has, by its Last-Event-ID.
func lastLine(c echo.Context) (int, error) {
	id := c.Request().Header.Get("Last-Event-ID")
	if id == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(id)
	if err != nil || n < 0 {
		return 0, badEventID(id)
	}
	return n, nil
}

func badEventID(id string) error {
	return paas.Errorf(paas.CodeInvalid, "Last-Event-ID %q is not one of this stream", clip(id, 40))
}

func viewBuildLine(l paas.BuildLine) v1.BuildLine {
	return v1.BuildLine{At: utc(l.At), Step: l.Step, Text: l.Text}
}

func viewBuild(b paas.Build) v1.Build {
	v := v1.Build{
		ID: b.ID, App: b.AppName, State: string(b.State), Attempt: b.Attempt, ArchiveDigest: b.ArchiveDigest, ArchiveBytes: b.ArchiveSize,
		Failure: viewFailure(b.Failure), CreatedAt: utc(b.CreatedAt), StartedAt: utc(b.StartedAt), FinishedAt: utc(b.FinishedAt),
	}
	if r := b.Result; r != nil {
		v.Result = &v1.BuildResult{ImageDigest: r.ImageDigest, Reused: r.Reused, Type: string(r.Type),
			Command: noNil(r.Command), Ledger: []v1.LedgerEntry{}, Plan: r.Plan}
		for _, e := range r.Ledger {
			v.Result.Ledger = append(v.Result.Ledger, v1.LedgerEntry{Step: e.Step, Key: e.Key, Hit: e.Hit,
				Changed: e.Changed, DurationMillis: e.Duration.Milliseconds()})
		}
	}
	return v
}

// noNil makes an absent list an empty one, which JSON shows as [].
func noNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
