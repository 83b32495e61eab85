package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func (s *Server) answerApp(c echo.Context, status int, a paas.App) error {
	ctx := c.Request().Context()
	instances, unknown := s.observed(ctx, a.ID)
	v, err := s.viewApp(ctx, a, instances, unknown)
	if err != nil {
		return err
	}
	return c.JSON(status, v)
}

// observed returns instances by app ID, or why they are not known: an app can be
// shown without them.
func (s *Server) observed(ctx context.Context, appID string) (map[string][]paas.Instance, string) {
	list, err := s.Runtime.Instances(ctx, appID)
	if err != nil {
		var e *paas.Error
		if errors.As(err, &e) {
			return nil, e.Message
		}
		s.Log.Error("instances could not be listed", "err", err)
		return nil, "the runtime does not answer"
	}
	m := map[string][]paas.Instance{}
	for _, i := range list {
		m[i.AppID] = append(m[i.AppID], i)
	}
	return m, ""
}

func (s *Server) viewApp(ctx context.Context, a paas.App, instances map[string][]paas.Instance, unknown string) (v1.App, error) {
	v := v1.App{
		ID: a.ID, Name: a.Name, Type: string(a.Type), Stopped: a.Stopped, Instances: a.Instances,
		MemoryMiB: a.MemoryBytes >> 20, CPUMillis: a.CPUMillis, URLs: s.urls(a), ConfigVersion: a.ConfigVersion,
		Observed: sumUp(instances[a.ID]), CreatedAt: utc(a.CreatedAt), UpdatedAt: utc(a.UpdatedAt),
	}
	v.Observed.Unknown = unknown
	if a.LiveDeployment != 0 {
		live, err := s.Store.Deployment(ctx, a.LiveDeployment)
		if err != nil {
			return v, fmt.Errorf("live deployment of %s: %w", a.Name, err)
		}
		v.LiveRelease, v.LiveSince = live.Release, utc(live.LiveAt)
	}
	newest, err := s.Store.Deployments(ctx, a.Name, 1)
	if err != nil && paas.CodeOf(err) != paas.CodeNotFound { // removed meanwhile: show the rest
		return v, err
	}
	if len(newest) > 0 && !newest[0].State.Final() {
		d := s.viewDeployment(newest[0], nil)
		v.Deployment = &d
	}
	v.State = appState(a, v)
	return v, nil
}

func sumUp(list []paas.Instance) v1.Observed {
	var o v1.Observed
	for _, i := range list {
		switch i.State {
		case paas.InstanceHealthy:
			o.Healthy++
		case paas.InstanceStarting:
			o.Starting++
		case paas.InstanceSick:
			o.Unhealthy++
		case paas.InstanceBackoff:
			o.Crashed++
		default: // draining or gone: not part of what is wanted
			continue
		}
		o.Total++
		if at := utc(i.SeenAt); at.After(o.SeenAt) {
			o.SeenAt = at
		}
	}
	return o
}

// appState is one word for the list; the fields say the rest.
func appState(a paas.App, v v1.App) string {
	deploying := v.Deployment != nil && v.Deployment.State != string(paas.DeploymentLive)
	switch {
	case a.Deleting:
		return "deleting"
	case a.Stopped:
		return "stopped"
	case deploying:
		return "deploying"
	case a.LiveDeployment == 0:
		return "empty"
	case v.Observed.Unknown != "":
		return "unknown"
	case v.Observed.Healthy >= a.Instances:
		return "running"
	case v.Observed.Healthy == 0 && v.Observed.Starting > 0:
		return "starting"
	case v.Observed.Healthy == 0:
		return "down"
	}
	return "degraded"
}

// urls lists where the routers answer for the app; a worker has none.
func (s *Server) urls(a paas.App) []string {
	if a.Type == paas.TypeWorker {
		return []string{}
	}
	return s.urlsOf(a.Name)
}

func (s *Server) urlsOf(name string) []string {
	urls := make([]string, 0, len(s.Config.Domains))
	scheme, port := s.Config.RouterScheme, ""
	if p := s.Config.RouterPort; p != 0 && !(scheme == "http" && p == 80) && !(scheme == "https" && p == 443) {
		port = fmt.Sprintf(":%d", p)
	}
	for _, d := range s.Config.Domains {
		urls = append(urls, scheme+"://"+name+"."+d+port)
	}
	return urls
}

// utc keeps the zero time zero, so that omitzero leaves it out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}
