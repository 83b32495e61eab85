package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func (s *Server) listDeployments(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	limit, err := listLimit(c)
	if err != nil {
		return err
	}
	list, err := s.Store.Deployments(c.Request().Context(), a.Name, limit)
	if err != nil {
		return err
	}
	out := v1.Deployments{Deployments: make([]v1.Deployment, 0, len(list))}
	for _, d := range list {
		out.Deployments = append(out.Deployments, s.viewDeployment(d, nil))
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) getDeployment(c echo.Context) error {
	if err := noQuery(c); err != nil {
		return err
	}
	d, err := s.deployment(c)
	if err != nil {
		return err
	}
	v, _, err := s.wholeDeployment(c.Request().Context(), d)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, v)
}

func (s *Server) cancelDeployment(c echo.Context) error {
	if err := noInput(c); err != nil {
		return err
	}
	d, err := s.deployment(c)
	if err != nil {
		return err
	}
	d, err = s.Store.CancelDeployment(c.Request().Context(), d.ID, userName(c))
	if err != nil {
		return err
	}
	s.Runtime.Wake()
	return s.answerAccepted(c, d)
}

// deployment finds the one of the path; another app's counts as absent.
func (s *Server) deployment(c echo.Context) (paas.Deployment, error) {
	a, err := s.app(c)
	if err != nil {
		return paas.Deployment{}, err
	}
	id, err := pathID(c, "id", "deployment")
	if err != nil {
		return paas.Deployment{}, err
	}
	d, err := s.Store.Deployment(c.Request().Context(), id)
	if paas.CodeOf(err) == paas.CodeNotFound || err == nil && d.AppID != a.ID {
		return d, paas.Errorf(paas.CodeNotFound, "app %s has no deployment %d", a.Name, id)
	}
	return d, err
}

// answerAccepted tells where to watch a deployment that was asked for.
func (s *Server) answerAccepted(c echo.Context, d paas.Deployment) error {
	c.Response().Header().Set("Location", fmt.Sprintf("/v1/apps/%s/deployments/%d", d.AppName, d.ID))
	return c.JSON(http.StatusAccepted, s.viewDeployment(d, nil))
}

// wholeDeployment adds the phases of the build, which lists leave out.
func (s *Server) wholeDeployment(ctx context.Context, d paas.Deployment) (v1.Deployment, *paas.Build, error) {
	if d.BuildID == 0 {
		return s.viewDeployment(d, nil), nil, nil
	}
	b, err := s.Store.Build(ctx, d.BuildID)
	if paas.CodeOf(err) == paas.CodeNotFound { // pruned
		return s.viewDeployment(d, nil), nil, nil
	}
	if err != nil {
		return v1.Deployment{}, nil, err
	}
	return s.viewDeployment(d, &b), &b, nil
}

func (s *Server) viewDeployment(d paas.Deployment, b *paas.Build) v1.Deployment {
	return v1.Deployment{
		ID: d.ID, App: d.AppName, Kind: string(d.Kind), State: string(d.State), Final: d.State.Final(),
		Build: d.BuildID, Release: d.Release, Previous: d.Previous, Origin: string(d.Origin), Message: d.Message, By: d.By,
		Failure: viewFailure(d.Failure), Waiting: d.Waiting, URLs: s.urlsOf(d.AppName), Phases: phases(d, b),
		CreatedAt: utc(d.CreatedAt), RollingAt: utc(d.RollingAt), LiveAt: utc(d.LiveAt), WatchUntil: utc(d.WatchUntil), FinishedAt: utc(d.FinishedAt),
	}
}

// phases lays the stretches of a deployment end to end. Without its build, queue
// and build are not told apart and are left out.
func phases(d paas.Deployment, b *paas.Build) []v1.Phase {
	out := []v1.Phase{}
	if b != nil {
		queued := v1.Phase{Name: "queue", StartedAt: utc(b.CreatedAt), FinishedAt: utc(b.StartedAt)}
		if b.StartedAt.IsZero() {
			queued.FinishedAt = utc(b.FinishedAt)
		}
		out = append(out, queued)
		if !b.StartedAt.IsZero() {
			out = append(out, v1.Phase{Name: "build", StartedAt: utc(b.StartedAt), FinishedAt: utc(b.FinishedAt)})
		}
	}
	if !d.RollingAt.IsZero() {
		p := v1.Phase{Name: "start", StartedAt: utc(d.RollingAt), FinishedAt: utc(d.LiveAt)}
		if d.LiveAt.IsZero() {
			p.FinishedAt = utc(d.FinishedAt)
		}
		out = append(out, p)
	}
	if !d.LiveAt.IsZero() {
		out = append(out, v1.Phase{Name: "watch", StartedAt: utc(d.LiveAt), FinishedAt: utc(d.FinishedAt)})
	}
	return out
}

func viewFailure(f *paas.Failure) *v1.Failure {
	if f == nil {
		return nil
	}
	return &v1.Failure{Code: f.Code, Message: f.Message, Hint: f.Hint, Output: f.Output}
}

// rollbackApp deploys an older release.
func (s *Server) rollbackApp(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	var in v1.Rollback
	if err := errors.Join(noQuery(c), decode(c, &in, true), mustStay(a)); err != nil {
		return err
	}
	if in.Release < 0 {
		return paas.Errorf(paas.CodeInvalid, "release must be a positive number, not %d", in.Release)
	}
	ctx := c.Request().Context()
	if in.Release == 0 {
		if in.Release, err = s.releaseBefore(ctx, a); err != nil {
			return err
		}
	}
	d, err := s.Store.DeployRelease(ctx, a.Name, in.Release, paas.KindRollback, userName(c))
	if err != nil {
		return err
	}
	s.Runtime.Wake()
	return s.answerAccepted(c, d)
}

// releaseBefore is the newest release older than the live one that once served
// and did not fail.
func (s *Server) releaseBefore(ctx context.Context, a paas.App) (int, error) {
	nothing := paas.Errorf(paas.CodeConflict, "app %s has no earlier release that ever served", a.Name).
		WithHint("`slipway releases -a %s` lists what there is; give a number", a.Name)
	if a.LiveDeployment == 0 {
		return 0, nothing
	}
	live, err := s.Store.Deployment(ctx, a.LiveDeployment)
	if err != nil {
		return 0, err
	}
	list, err := s.Store.Deployments(ctx, a.Name, maxLimit)
	if err != nil {
		return 0, err
	}
	best := 0
	for _, d := range list {
		served := !d.LiveAt.IsZero() && d.State != paas.DeploymentFailed
		if served && d.Release < live.Release && d.Release > best {
			best = d.Release
		}
	}
	if best == 0 {
		return 0, nothing
	}
	return best, nil
}
