package paas

import "time"

// DeploymentState is where a change stands.
//
//	pending ─→ rolling ─→ live ─→ succeeded
//	   │          │         │
//	   └──────────┴─────────┴──→ failed | canceled | superseded
//
// pending: its build runs. rolling: instances are being replaced. live: the new
// release takes all traffic and is watched until WatchUntil; if an instance of
// it crashes meanwhile, the old release comes back and the deployment failed.
type DeploymentState string

const (
	DeploymentPending    DeploymentState = "pending"
	DeploymentRolling    DeploymentState = "rolling"
	DeploymentLive       DeploymentState = "live"
	DeploymentSucceeded  DeploymentState = "succeeded"
	DeploymentFailed     DeploymentState = "failed"
	DeploymentCanceled   DeploymentState = "canceled"
	DeploymentSuperseded DeploymentState = "superseded" // a newer deployment took over
)

// Final reports whether the state will not change any more.
func (s DeploymentState) Final() bool {
	switch s {
	case DeploymentSucceeded, DeploymentFailed, DeploymentCanceled, DeploymentSuperseded:
		return true
	}
	return false
}

// Kind is what the user did.
type Kind string

const (
	KindDeploy   Kind = "deploy"
	KindRollback Kind = "rollback"
	KindEnv      Kind = "env"
	KindRestart  Kind = "restart"
)

// Deployment moves an app from one release to another. Its ID orders all
// deployments of the installation: the newest wins.
type Deployment struct {
	ID        int64
	AppID     string
	AppName   string
	Kind      Kind
	State     DeploymentState
	BuildID   int64 // 0 for rollback, env and restart
	ReleaseID int64 // 0 while pending
	Release   int   // its number; 0 while pending
	// Previous is the deployment that was live when this one began to roll; 0 = none.
	Previous int64
	Origin   Origin
	Message  string // free text of the user, at most 500 bytes
	By       string // user name
	Failure  *Failure
	// Waiting says what a deployment that is not final waits for, in one sentence
	// with numbers; rewritten by reconcile as it observes.
	Waiting string

	CreatedAt  time.Time
	RollingAt  time.Time // zero until rolling
	LiveAt     time.Time // zero until live
	WatchUntil time.Time // zero until live
	FinishedAt time.Time // zero until final
}
