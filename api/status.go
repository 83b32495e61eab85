package api

import (
	"context"
	"net/http"
	"runtime"
	"syscall"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// recentBuilds bounds how far back unfinished builds are looked for: the queue
// is at the new end.
const recentBuilds = 20

func (s *Server) healthz(c echo.Context) error {
	if err := s.Store.Ping(c.Request().Context()); err != nil {
		return paas.Errorf(paas.CodeUnavailable, "the database does not answer").WithCause(err)
	}
	return c.JSON(http.StatusOK, v1.Health{Status: "ok"})
}

func (s *Server) whoami(c echo.Context) error {
	if err := noQuery(c); err != nil {
		return err
	}
	t, _ := c.Get(tokenKey).(paas.Token)
	return c.JSON(http.StatusOK, v1.Whoami{User: t.UserName, Org: paas.DefaultOrg, TokenLabel: t.Label, TokenCreatedAt: utc(t.CreatedAt)})
}

func (s *Server) version(c echo.Context) error {
	if err := noQuery(c); err != nil {
		return err
	}
	store, err := s.Store.Version(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, v1.Version{Version: s.Version, API: "v1", Go: runtime.Version(), Store: store})
}

func (s *Server) status(c echo.Context) error {
	if err := noQuery(c); err != nil {
		return err
	}
	ctx := c.Request().Context()
	apps, err := s.Store.Apps(ctx)
	if err != nil {
		return err
	}
	out := v1.Status{Version: s.Version, Ready: true, Components: []v1.Component{}, Routers: s.routers(),
		Disk: s.disk(), Apps: len(apps), PublicURL: s.Config.PublicURL, At: utc(s.now())}
	for _, p := range s.Components.Components(ctx) {
		out.Ready = out.Ready && p.State == "ready"
		out.Components = append(out.Components, v1.Component{Name: p.Name, State: p.State, Version: p.Version, PID: p.PID,
			Since: utc(p.Since), Restarts: p.Restarts, Why: p.Why, LastLines: p.LastLines})
	}
	if out.Builds, err = s.buildQueue(ctx, apps); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) buildQueue(ctx context.Context, apps []paas.App) (q v1.BuildQueue, err error) {
	for _, a := range apps {
		builds, err := s.Store.Builds(ctx, a.Name, recentBuilds)
		if err != nil && paas.CodeOf(err) != paas.CodeNotFound {
			return q, err
		}
		for _, b := range builds {
			switch b.State {
			case paas.BuildQueued:
				q.Queued++
			case paas.BuildBuilding:
				q.Building++
			}
		}
	}
	return q, nil
}

func (s *Server) routers() []v1.Router {
	out := []v1.Router{}
	for _, r := range s.Router.Reports() {
		v := v1.Router{Name: r.Router, PID: r.PID, Version: r.Build, Addr: r.Addr, Live: r.Live, Table: r.Version,
			Unhealthy: r.Unhealthy, Requests: r.Requests, Errors5xx: r.Errors5xx, SeenAt: utc(r.SeenAt)}
		for _, n := range r.InFlight {
			v.InFlight += n
		}
		out = append(out, v)
	}
	return out
}

// disk shows the file system of the data folder; zeros when there is none.
func (s *Server) disk() v1.Disk {
	d := v1.Disk{Path: s.Config.DataDir}
	var st syscall.Statfs_t
	if d.Path == "" || syscall.Statfs(d.Path, &st) != nil {
		return d
	}
	size := uint64(st.Bsize)
	d.TotalBytes, d.FreeBytes = st.Blocks*size, st.Bavail*size
	d.UsedBytes = (st.Blocks - st.Bfree) * size
	return d
}
