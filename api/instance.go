package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func (s *Server) listInstances(c echo.Context) error {
	a, err := s.app(c)
	if err == nil {
		err = noQuery(c)
	}
	if err != nil {
		return err
	}
	list, err := s.Runtime.Instances(c.Request().Context(), a.ID)
	if err != nil {
		return err
	}
	out := v1.Instances{Instances: make([]v1.Instance, 0, len(list))}
	for _, i := range list {
		out.Instances = append(out.Instances, viewInstance(i, a.Type))
	}
	return c.JSON(http.StatusOK, out)
}

// runningInstance finds an instance of the app by ID or by name (web.1): during
// a deployment a slot may have two, then the healthy and newer one is meant.
func (s *Server) runningInstance(ctx context.Context, a paas.App, name string) (paas.Instance, error) {
	list, err := s.Runtime.Instances(ctx, a.ID)
	if err != nil {
		return paas.Instance{}, err
	}
	var best *paas.Instance
	for n := range list {
		i := &list[n]
		running := i.State != paas.InstanceExited && i.State != paas.InstanceBackoff
		if !running || i.ID != name && instanceName(a.Type, i.Slot) != name {
			continue
		}
		if best == nil || better(i, best) {
			best = i
		}
	}
	if best == nil {
		return paas.Instance{}, paas.Errorf(paas.CodeNotFound, "app %s has no running instance %q", a.Name, clip(name, 80)).
			WithHint("`slipway ps -a %s` lists what there is", a.Name)
	}
	return *best, nil
}

func better(i, than *paas.Instance) bool {
	if a, b := i.State == paas.InstanceHealthy, than.State == paas.InstanceHealthy; a != b {
		return a
	}
	return i.Deployment > than.Deployment
}

// instanceName is what people call an instance.
func instanceName(t paas.AppType, slot int) string {
	if t == "" {
		t = paas.TypeWeb
	}
	return fmt.Sprintf("%s.%d", t, slot)
}

func viewInstance(i paas.Instance, t paas.AppType) v1.Instance {
	v := v1.Instance{
		ID: i.ID, Name: instanceName(t, i.Slot), App: i.AppName, Deployment: i.Deployment, Release: i.Release, Slot: i.Slot,
		State: string(i.State), Addr: i.Addr, StartedAt: utc(i.StartedAt), ExitReason: i.ExitReason, ExitedAt: utc(i.ExitedAt),
		RestartAt: utc(i.RestartAt), Restarts: i.Restarts, Probe: i.Probe, Restricted: i.Restricted,
		MemoryMiB: float64(i.MemoryUsed) / (1 << 20), CPUMillis: i.CPUMillis, SeenAt: utc(i.SeenAt),
	}
	if !i.ExitedAt.IsZero() {
		code := i.ExitCode
		v.ExitCode = &code
	}
	return v
}
