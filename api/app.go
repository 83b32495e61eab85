package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// Below a hundredth of a core nothing starts in time; above 64 cores it is a typo.
const (
	minCPUMillis = 10
	maxCPUMillis = 64_000
)

// errSame leaves UpdateApp without a change and without an event.
var errSame = errors.New("nothing changes")

func (s *Server) listApps(c echo.Context) error {
	if err := noQuery(c); err != nil {
		return err
	}
	ctx := c.Request().Context()
	apps, err := s.Store.Apps(ctx)
	if err != nil {
		return err
	}
	instances, unknown := s.observed(ctx, "")
	out := v1.Apps{Apps: make([]v1.App, 0, len(apps))}
	for _, a := range apps {
		v, err := s.viewApp(ctx, a, instances, unknown)
		if err != nil {
			return err
		}
		out.Apps = append(out.Apps, v)
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) createApp(c echo.Context) error {
	var in v1.CreateApp
	if err := errors.Join(noQuery(c), decode(c, &in, false)); err != nil {
		return err
	}
	a := paas.App{Org: paas.DefaultOrg, Name: in.Name, Type: paas.AppType(in.Type), Instances: paas.DefaultInstances,
		MemoryBytes: in.MemoryMiB << 20, CPUMillis: in.CPUMillis}
	if a.Type == "" {
		a.Type = paas.TypeWeb
	}
	if in.Instances != nil {
		a.Instances = *in.Instances
	}
	err := errors.Join(paas.ValidateAppName(in.Name), checkType(a.Type), checkSize(&a.Instances, &in.MemoryMiB, &in.CPUMillis))
	if err != nil {
		return err
	}
	a, err = s.Store.CreateApp(c.Request().Context(), a, userName(c))
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", "/v1/apps/"+a.Name)
	return s.answerApp(c, http.StatusCreated, a)
}

func (s *Server) getApp(c echo.Context) error {
	a, err := s.app(c)
	if err == nil {
		err = noQuery(c)
	}
	if err != nil {
		return err
	}
	return s.answerApp(c, http.StatusOK, a)
}

func (s *Server) changeApp(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	var in v1.ChangeApp
	if err := errors.Join(noQuery(c), decode(c, &in, false)); err != nil {
		return err
	}
	if in == (v1.ChangeApp{}) {
		return paas.Errorf(paas.CodeInvalid, "nothing to change was given").WithHint("give instances, memoryMiB or cpuMillis")
	}
	if err := checkSize(in.Instances, in.MemoryMiB, in.CPUMillis); err != nil {
		return err
	}
	return s.update(c, a.Name, func(a *paas.App) error { return applyChange(a, in) }, "app.scaled", describeChange(in))
}

func applyChange(a *paas.App, in v1.ChangeApp) error {
	before := *a
	if in.Instances != nil {
		a.Instances = *in.Instances
	}
	if in.MemoryMiB != nil {
		a.MemoryBytes = *in.MemoryMiB << 20
	}
	if in.CPUMillis != nil {
		a.CPUMillis = *in.CPUMillis
	}
	if *a == before {
		return errSame
	}
	return nil
}

// describeChange is the sentence of the event.
func describeChange(in v1.ChangeApp) string {
	text := "set"
	if in.Instances != nil {
		text += fmt.Sprintf(" instances to %d", *in.Instances)
	}
	if in.MemoryMiB != nil {
		text += fmt.Sprintf(" memory to %d MiB", *in.MemoryMiB)
	}
	if in.CPUMillis != nil {
		text += fmt.Sprintf(" CPU to %d thousandths of a core", *in.CPUMillis)
	}
	return text
}

// deleteApp asks for the removal; reconcile does it, then the app is 404.
func (s *Server) deleteApp(c echo.Context) error {
	a, err := s.app(c)
	if err == nil {
		err = noQuery(c)
	}
	if err != nil {
		return err
	}
	mark := func(a *paas.App) error {
		if a.Deleting {
			return errSame
		}
		a.Deleting = true
		return nil
	}
	a, err = s.Store.UpdateApp(c.Request().Context(), a.Name, mark, "app.deleting", "removal of "+a.Name+" was asked for", userName(c))
	if errors.Is(err, errSame) {
		a, err = s.app(c)
	}
	if err != nil {
		return err
	}
	s.Runtime.Wake()
	return s.answerApp(c, http.StatusAccepted, a)
}

func (s *Server) stopApp(c echo.Context) error {
	return s.setStopped(c, true, "app.stopped", "stopped")
}
func (s *Server) startApp(c echo.Context) error {
	return s.setStopped(c, false, "app.started", "started")
}

func (s *Server) setStopped(c echo.Context, stopped bool, event, did string) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	if err := noInput(c); err != nil {
		return err
	}
	change := func(a *paas.App) error {
		if a.Stopped == stopped {
			return errSame
		}
		a.Stopped = stopped
		return nil
	}
	return s.update(c, a.Name, change, event, did+" "+a.Name)
}

func (s *Server) restartApp(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	if err := errors.Join(noInput(c), mustStay(a)); err != nil {
		return err
	}
	d, err := s.Store.DeployRelease(c.Request().Context(), a.Name, 0, paas.KindRestart, userName(c))
	if err != nil {
		return err
	}
	s.Runtime.Wake()
	return s.answerAccepted(c, d)
}

// update applies change to an app that is not being removed and answers with it.
func (s *Server) update(c echo.Context, name string, change func(*paas.App) error, event, message string) error {
	guarded := func(a *paas.App) error {
		if err := mustStay(*a); err != nil {
			return err
		}
		return change(a)
	}
	a, err := s.Store.UpdateApp(c.Request().Context(), name, guarded, event, message, userName(c))
	if errors.Is(err, errSame) {
		a, err = s.app(c)
	}
	if err != nil {
		return err
	}
	s.Runtime.Wake()
	return s.answerApp(c, http.StatusOK, a)
}

// app finds the app of the path. A name that no app can have is not looked up.
func (s *Server) app(c echo.Context) (paas.App, error) {
	name := param(c, "app")
	if paas.ValidateAppName(name) != nil {
		return paas.App{}, unknownApp(name)
	}
	a, err := s.Store.App(c.Request().Context(), name)
	if paas.CodeOf(err) == paas.CodeNotFound {
		return paas.App{}, unknownApp(name)
	}
	return a, err
}

func unknownApp(name string) error {
	return paas.Errorf(paas.CodeNotFound, "there is no app %q", clip(name, paas.MaxAppName)).WithHint("`slipway apps` lists what there is")
}

// mustStay refuses changes of an app that is being removed.
func mustStay(a paas.App) error {
	if a.Deleting {
		return paas.Errorf(paas.CodeConflict, "app %s is being removed", a.Name).WithHint("wait until it is gone, then make it anew")
	}
	return nil
}

// noInput refuses a query and takes a body only if it is empty or {}.
func noInput(c echo.Context) error {
	return errors.Join(noQuery(c), decode(c, &struct{}{}, true))
}

func checkType(t paas.AppType) error {
	if t != paas.TypeWeb && t != paas.TypeWorker {
		return paas.Errorf(paas.CodeInvalid, "type %q is not known", clip(string(t), 20)).WithHint("use web or worker")
	}
	return nil
}

// checkSize checks those that are given; 0 MiB and 0 CPU mean the default.
func checkSize(instances *int, memoryMiB *int64, cpuMillis *int) error {
	const minMiB, maxMiB = paas.MinMemoryBytes >> 20, paas.MaxMemoryBytes >> 20
	if instances != nil && (*instances < 0 || *instances > paas.MaxInstances) {
		return paas.Errorf(paas.CodeInvalid, "instances must be from 0 to %d, not %d", paas.MaxInstances, *instances)
	}
	if memoryMiB != nil && *memoryMiB != 0 && (*memoryMiB < minMiB || *memoryMiB > maxMiB) {
		return paas.Errorf(paas.CodeInvalid, "memoryMiB must be from %d to %d, not %d", minMiB, maxMiB, *memoryMiB)
	}
	if cpuMillis != nil && *cpuMillis != 0 && (*cpuMillis < minCPUMillis || *cpuMillis > maxCPUMillis) {
		return paas.Errorf(paas.CodeInvalid, "cpuMillis must be from %d to %d, not %d", minCPUMillis, maxCPUMillis, *cpuMillis)
	}
	return nil
}
