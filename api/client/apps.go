package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// get fetches one document.
func get[T any](ctx context.Context, c *Client, path string, q url.Values) (out T, err error) {
	err = c.do(ctx, call{method: http.MethodGet, path: path, query: q, out: &out})
	return out, err
}

// send sends one change and returns its answer.
func send[T any](ctx context.Context, c *Client, method, path string, in any) (out T, err error) {
	err = c.do(ctx, call{method: method, path: path, in: in, out: &out})
	return out, err
}

// limited is the query of a list; 0 leaves the number to the server.
func limited(n int) url.Values {
	if n == 0 {
		return nil
	}
	return url.Values{"limit": {strconv.Itoa(n)}}
}

// Healthy asks whether the server can do its work; it needs no token.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := get[v1.Health](ctx, c, "/healthz", nil)
	return err
}

// Whoami says whose token the client has.
func (c *Client) Whoami(ctx context.Context) (v1.Whoami, error) {
	return get[v1.Whoami](ctx, c, "/v1/whoami", nil)
}

// Version returns the server's versions.
func (c *Client) Version(ctx context.Context) (v1.Version, error) {
	return get[v1.Version](ctx, c, "/v1/version", nil)
}

// Status returns the state of every component.
func (c *Client) Status(ctx context.Context) (v1.Status, error) {
	return get[v1.Status](ctx, c, "/v1/status", nil)
}

// Apps lists all apps by name.
func (c *Client) Apps(ctx context.Context) ([]v1.App, error) {
	l, err := get[v1.Apps](ctx, c, "/v1/apps", nil)
	return l.Apps, err
}

// App returns one app.
func (c *Client) App(ctx context.Context, app string) (v1.App, error) {
	return get[v1.App](ctx, c, appPath(app), nil)
}

// CreateApp makes an app.
func (c *Client) CreateApp(ctx context.Context, in v1.CreateApp) (v1.App, error) {
	return send[v1.App](ctx, c, http.MethodPost, "/v1/apps", in)
}

// ChangeApp scales an app or changes the limits of its instances.
func (c *Client) ChangeApp(ctx context.Context, app string, in v1.ChangeApp) (v1.App, error) {
	return send[v1.App](ctx, c, http.MethodPatch, appPath(app), in)
}

// Scale sets the number of instances.
func (c *Client) Scale(ctx context.Context, app string, instances int) (v1.App, error) {
	return c.ChangeApp(ctx, app, v1.ChangeApp{Instances: &instances})
}

// DeleteApp asks for the removal of an app; see WaitGone.
func (c *Client) DeleteApp(ctx context.Context, app string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: appPath(app)})
}

// WaitGone blocks until the app is removed or ctx ends.
func (c *Client) WaitGone(ctx context.Context, app string) error {
	for {
		_, err := c.App(ctx, app)
		if paas.CodeOf(err) == paas.CodeNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("app %s is still being removed: %w", app, err)
		}
	}
}

// Stop ends all instances of an app; Start brings them back.
func (c *Client) Stop(ctx context.Context, app string) (v1.App, error) {
	return send[v1.App](ctx, c, http.MethodPost, appPath(app, "stop"), nil)
}

// Start starts a stopped app.
func (c *Client) Start(ctx context.Context, app string) (v1.App, error) {
	return send[v1.App](ctx, c, http.MethodPost, appPath(app, "start"), nil)
}

// Restart replaces all instances by new ones of the same release.
func (c *Client) Restart(ctx context.Context, app string) (v1.Deployment, error) {
	return send[v1.Deployment](ctx, c, http.MethodPost, appPath(app, "restart"), nil)
}

// Rollback deploys an older release; 0 = the one before the live one.
func (c *Client) Rollback(ctx context.Context, app string, release int) (v1.Deployment, error) {
	return send[v1.Deployment](ctx, c, http.MethodPost, appPath(app, "rollback"), v1.Rollback{Release: release})
}

// Env returns the environment; values only with reveal.
func (c *Client) Env(ctx context.Context, app string, reveal bool) (v1.Env, error) {
	var q url.Values
	if reveal {
		q = url.Values{"reveal": {"true"}}
	}
	return get[v1.Env](ctx, c, appPath(app, "env"), q)
}

// ChangeEnv sets and removes variables; the deployment is nil when nothing rolls.
func (c *Client) ChangeEnv(ctx context.Context, app string, in v1.ChangeEnv) (*v1.Deployment, error) {
	out, err := send[v1.EnvChanged](ctx, c, http.MethodPatch, appPath(app, "env"), in)
	return out.Deployment, err
}

// Deployments lists the newest; limit 0 = 50.
func (c *Client) Deployments(ctx context.Context, app string, limit int) ([]v1.Deployment, error) {
	l, err := get[v1.Deployments](ctx, c, appPath(app, "deployments"), limited(limit))
	return l.Deployments, err
}

// Deployment returns one with its phases.
func (c *Client) Deployment(ctx context.Context, app string, id int64) (v1.Deployment, error) {
	return get[v1.Deployment](ctx, c, appPath(app, "deployments", id), nil)
}

// CancelDeployment stops a deployment that is not live yet.
func (c *Client) CancelDeployment(ctx context.Context, app string, id int64) (v1.Deployment, error) {
	return send[v1.Deployment](ctx, c, http.MethodPost, appPath(app, "deployments", id, "cancel"), nil)
}

// Builds lists the newest; limit 0 = 50.
func (c *Client) Builds(ctx context.Context, app string, limit int) ([]v1.Build, error) {
	l, err := get[v1.Builds](ctx, c, appPath(app, "builds"), limited(limit))
	return l.Builds, err
}

// Build returns one with its plan and ledger.
func (c *Client) Build(ctx context.Context, app string, id int64) (v1.Build, error) {
	return get[v1.Build](ctx, c, appPath(app, "builds", id), nil)
}

// Releases lists the newest; limit 0 = 50.
func (c *Client) Releases(ctx context.Context, app string, limit int) ([]v1.Release, error) {
	l, err := get[v1.Releases](ctx, c, appPath(app, "releases"), limited(limit))
	return l.Releases, err
}

// Release returns one.
func (c *Client) Release(ctx context.Context, app string, number int) (v1.Release, error) {
	return get[v1.Release](ctx, c, appPath(app, "releases", number), nil)
}

// Instances lists what was observed last.
func (c *Client) Instances(ctx context.Context, app string) ([]v1.Instance, error) {
	l, err := get[v1.Instances](ctx, c, appPath(app, "instances"), nil)
	return l.Instances, err
}

// Events lists what happened after an ID, oldest first; app "" = everywhere.
func (c *Client) Events(ctx context.Context, app string, after int64, limit int) (v1.Events, error) {
	q := url.Values{"after": {strconv.FormatInt(after, 10)}}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return get[v1.Events](ctx, c, eventsPath(app), q)
}

func eventsPath(app string) string {
	if app == "" {
		return "/v1/events"
	}
	return appPath(app, "events")
}
