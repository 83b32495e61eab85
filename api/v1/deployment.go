package v1

import (
	"encoding/json"
	"time"
)

// Deployment is one change of an app and where it stands.
type Deployment struct {
	ID       int64    `json:"id"`
	App      string   `json:"app"`
	Kind     string   `json:"kind"`  // deploy, rollback, env, restart
	State    string   `json:"state"` // pending, rolling, live, succeeded, failed, canceled, superseded
	Final    bool     `json:"final"`
	Build    int64    `json:"build,omitempty"`
	Release  int      `json:"release,omitempty"`
	Previous int64    `json:"previous,omitempty"` // the deployment that was live before
	Origin   string   `json:"origin,omitempty"`
	Message  string   `json:"message,omitempty"`
	By       string   `json:"by"`
	Failure  *Failure `json:"failure,omitempty"`
	Waiting  string   `json:"waiting,omitempty"` // what it waits for, one sentence
	URLs     []string `json:"urls"`
	Phases   []Phase  `json:"phases"` // in order; those not reached are absent

	CreatedAt  time.Time `json:"createdAt"`
	RollingAt  time.Time `json:"rollingAt,omitzero"`
	LiveAt     time.Time `json:"liveAt,omitzero"`
	WatchUntil time.Time `json:"watchUntil,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
}

// Phase is one stretch of a deployment: queue, build, start, watch.
type Phase struct {
	Name       string    `json:"name"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
}

// Failure says for people why something ended badly.
type Failure struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
	Output  []string `json:"output,omitempty"` // last lines
}

// Deployments is a list, newest first.
type Deployments struct {
	Deployments []Deployment `json:"deployments"`
}

// DeploymentEvent is one event of a deployment's stream. ID is the position to
// resume from; Type says which of the other fields is set: "state" and "done"
// Deployment, "log" Log, "waiting" Waiting.
type DeploymentEvent struct {
	ID         string      `json:"-"`
	Type       string      `json:"type"`
	Phase      string      `json:"phase"` // queued, building, rolling, live, or the final state
	Deployment *Deployment `json:"deployment,omitempty"`
	Log        *BuildLine  `json:"log,omitempty"`
	Waiting    string      `json:"waiting,omitempty"`
}

// Build is an archive on its way to an image.
type Build struct {
	ID            int64        `json:"id"`
	App           string       `json:"app"`
	State         string       `json:"state"` // queued, building, succeeded, failed, canceled
	Attempt       int          `json:"attempt"`
	ArchiveDigest string       `json:"archiveDigest"`
	ArchiveBytes  int64        `json:"archiveBytes"`
	Failure       *Failure     `json:"failure,omitempty"`
	Result        *BuildResult `json:"result,omitempty"`
	CreatedAt     time.Time    `json:"createdAt"`
	StartedAt     time.Time    `json:"startedAt,omitzero"`
	FinishedAt    time.Time    `json:"finishedAt,omitzero"`
}

// BuildResult is what a succeeded build made.
type BuildResult struct {
	ImageDigest string          `json:"imageDigest"`
	Reused      bool            `json:"reused"` // same archive and plan: nothing was built
	Type        string          `json:"type"`
	Command     []string        `json:"command"`
	Ledger      []LedgerEntry   `json:"ledger"`
	Plan        json.RawMessage `json:"plan,omitempty"`
}

// LedgerEntry says where one step came from.
type LedgerEntry struct {
	Step           string   `json:"step"`
	Key            string   `json:"key"`
	Hit            bool     `json:"hit"`
	Changed        []string `json:"changed,omitempty"`
	DurationMillis int64    `json:"durationMillis"`
}

// Builds is a list, newest first.
type Builds struct {
	Builds []Build `json:"builds"`
}

// BuildLine is one line of a build's log.
type BuildLine struct {
	At   time.Time `json:"at"`
	Step string    `json:"step"`
	Text string    `json:"text"`
}

// Release is all that is needed to start the same thing again.
type Release struct {
	Number        int         `json:"number"`
	Live          bool        `json:"live"`
	Build         int64       `json:"build"`
	ArchiveDigest string      `json:"archiveDigest"`
	ImageDigest   string      `json:"imageDigest"`
	ConfigVersion int         `json:"configVersion"`
	Type          string      `json:"type"`
	Command       []string    `json:"command"`
	Env           []string    `json:"env"`       // from the image plan, without the user's
	MemoryMiB     int64       `json:"memoryMiB"` // 0 = default
	Health        HealthCheck `json:"health"`
	GraceSeconds  float64     `json:"graceSeconds"`
	Reason        string      `json:"reason"`
	CreatedBy     string      `json:"createdBy"`
	CreatedAt     time.Time   `json:"createdAt"`
}

// HealthCheck says how an instance proves that it serves.
type HealthCheck struct {
	Path           string  `json:"path"`
	Strict         bool    `json:"strict"` // only 200 will do
	StartupSeconds float64 `json:"startupSeconds"`
}

// Releases is a list, newest first.
type Releases struct {
	Releases []Release `json:"releases"`
}

// Rollback is the body of POST /v1/apps/{app}/rollback.
type Rollback struct {
	Release int `json:"release,omitempty"` // 0 = the one before the live one
}
