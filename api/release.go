package api

import (
	"context"
	"math"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

func (s *Server) listReleases(c echo.Context) error {
	a, err := s.app(c)
	if err != nil {
		return err
	}
	limit, err := listLimit(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	live, err := s.liveRelease(ctx, a)
	if err != nil {
		return err
	}
	list, err := s.Store.Releases(ctx, a.Name, limit)
	if err != nil {
		return err
	}
	out := v1.Releases{Releases: make([]v1.Release, 0, len(list))}
	for _, r := range list {
		out.Releases = append(out.Releases, viewRelease(r, live))
	}
	return c.JSON(http.StatusOK, out)
}

func (s *Server) getRelease(c echo.Context) error {
	a, err := s.app(c)
	if err == nil {
		err = noQuery(c)
	}
	if err != nil {
		return err
	}
	n, err := pathID(c, "number", "release")
	if err != nil {
		return err
	}
	missing := paas.Errorf(paas.CodeNotFound, "app %s has no release %d", a.Name, n)
	if n > math.MaxInt32 {
		return missing
	}
	ctx := c.Request().Context()
	live, err := s.liveRelease(ctx, a)
	if err != nil {
		return err
	}
	r, err := s.Store.Release(ctx, a.Name, int(n))
	if paas.CodeOf(err) == paas.CodeNotFound {
		return missing
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, viewRelease(r, live))
}

// liveRelease is the number of the release that serves; 0 = none.
func (s *Server) liveRelease(ctx context.Context, a paas.App) (int, error) {
	if a.LiveDeployment == 0 {
		return 0, nil
	}
	d, err := s.Store.Deployment(ctx, a.LiveDeployment)
	return d.Release, err
}

func viewRelease(r paas.Release, live int) v1.Release {
	return v1.Release{
		Number: r.Number, Live: r.Number == live, Build: r.BuildID, ArchiveDigest: r.ArchiveDigest, ImageDigest: r.ImageDigest,
		ConfigVersion: r.ConfigVersion, Type: string(r.Type), Command: noNil(r.Command), Env: noNil(r.Env), MemoryMiB: r.MemoryBytes >> 20,
		Health:       v1.HealthCheck{Path: r.Health.Path, Strict: r.Health.Strict, StartupSeconds: r.Health.StartupTime.Seconds()},
		GraceSeconds: r.Grace.Seconds(), Reason: r.Reason, CreatedBy: r.CreatedBy, CreatedAt: utc(r.CreatedAt),
	}
}
