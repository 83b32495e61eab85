package api

import "github.com/labstack/echo/v4"

// access says who may call a route. The zero value is the strictest, so that a
// route without a rule is not open.
type access int

const (
	forUsers    access = iota // a valid token
	forLocal                  // a valid token, or a direct call from this machine
	forEveryone               // no token
)

type route struct {
	method string
	path   string
	access access
	handle echo.HandlerFunc
}

// routes is the whole API. openapi.yaml lists the same; a test compares them.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/", forEveryone, s.index},
		{"GET", "/healthz", forEveryone, s.healthz},
		{"GET", "/openapi.yaml", forEveryone, s.openapi},
		{"GET", "/metrics", forLocal, s.serveMetrics},

		{"GET", "/v1/whoami", forUsers, s.whoami},
		{"GET", "/v1/version", forUsers, s.version},
		{"GET", "/v1/status", forUsers, s.status},
		{"GET", "/v1/events", forUsers, s.events},

		{"GET", "/v1/apps", forUsers, s.listApps},
		{"POST", "/v1/apps", forUsers, s.createApp},
		{"GET", "/v1/apps/:app", forUsers, s.getApp},
		{"PATCH", "/v1/apps/:app", forUsers, s.changeApp},
		{"DELETE", "/v1/apps/:app", forUsers, s.deleteApp},
		{"POST", "/v1/apps/:app/stop", forUsers, s.stopApp},
		{"POST", "/v1/apps/:app/start", forUsers, s.startApp},
		{"POST", "/v1/apps/:app/restart", forUsers, s.restartApp},
		{"POST", "/v1/apps/:app/rollback", forUsers, s.rollbackApp},
		{"GET", "/v1/apps/:app/events", forUsers, s.appEvents},

		{"GET", "/v1/apps/:app/env", forUsers, s.getEnv},
		{"PATCH", "/v1/apps/:app/env", forUsers, s.changeEnv},

		{"POST", "/v1/apps/:app/deployments", forUsers, s.createDeployment},
		{"GET", "/v1/apps/:app/deployments", forUsers, s.listDeployments},
		{"GET", "/v1/apps/:app/deployments/:id", forUsers, s.getDeployment},
		{"POST", "/v1/apps/:app/deployments/:id/cancel", forUsers, s.cancelDeployment},
		{"GET", "/v1/apps/:app/deployments/:id/events", forUsers, s.followDeployment},

		{"GET", "/v1/apps/:app/builds", forUsers, s.listBuilds},
		{"GET", "/v1/apps/:app/builds/:id", forUsers, s.getBuild},
		{"GET", "/v1/apps/:app/builds/:id/log", forUsers, s.buildLog},

		{"GET", "/v1/apps/:app/releases", forUsers, s.listReleases},
		{"GET", "/v1/apps/:app/releases/:number", forUsers, s.getRelease},

		{"GET", "/v1/apps/:app/instances", forUsers, s.listInstances},
		{"GET", "/v1/apps/:app/instances/:instance/exec", forUsers, s.exec},
		{"GET", "/v1/apps/:app/logs", forUsers, s.logs},
	}
}
