package v1

import "time"

// App is what the user wants of an app and, in Observed, what there is.
type App struct {
	ID            string      `json:"id"`
	Name          string      `json:"name"`
	Type          string      `json:"type"`  // web, worker
	State         string      `json:"state"` // deleting, stopped, empty, deploying, starting, running, degraded, down, unknown
	Stopped       bool        `json:"stopped"`
	Instances     int         `json:"instances"` // wanted
	MemoryMiB     int64       `json:"memoryMiB"` // per instance; 0 = what the release says, else 512
	CPUMillis     int         `json:"cpuMillis"` // per instance, 1000 = one core; 0 = 1000
	URLs          []string    `json:"urls"`
	LiveRelease   int         `json:"liveRelease"` // 0 = none yet
	LiveSince     time.Time   `json:"liveSince,omitzero"`
	Deployment    *Deployment `json:"deployment,omitempty"` // the newest one, if it is not final
	Observed      Observed    `json:"observed"`
	ConfigVersion int         `json:"configVersion"`
	CreatedAt     time.Time   `json:"createdAt"`
	UpdatedAt     time.Time   `json:"updatedAt"`
}

// Observed sums up an app's instances as last seen.
type Observed struct {
	Total     int       `json:"total"`
	Healthy   int       `json:"healthy"`
	Starting  int       `json:"starting"`
	Unhealthy int       `json:"unhealthy"`
	Crashed   int       `json:"crashed"`
	SeenAt    time.Time `json:"seenAt,omitzero"`
	Unknown   string    `json:"unknown,omitempty"` // why nothing is known; counts are 0 then
}

// Apps is the answer of GET /v1/apps, sorted by name.
type Apps struct {
	Apps []App `json:"apps"`
}

// CreateApp is the body of POST /v1/apps.
type CreateApp struct {
	Name      string `json:"name"`
	Type      string `json:"type,omitempty"`      // web (default), worker
	Instances *int   `json:"instances,omitempty"` // default 1
	MemoryMiB int64  `json:"memoryMiB,omitempty"`
	CPUMillis int    `json:"cpuMillis,omitempty"`
}

// ChangeApp is the body of PATCH /v1/apps/{app}; nil fields stay as they are.
type ChangeApp struct {
	Instances *int   `json:"instances,omitempty"`
	MemoryMiB *int64 `json:"memoryMiB,omitempty"` // 0 = back to the default
	CPUMillis *int   `json:"cpuMillis,omitempty"` // 0 = back to the default
}

// Env is the answer of GET /v1/apps/{app}/env, sorted by name.
type Env struct {
	Version   int      `json:"version"`
	Variables []EnvVar `json:"variables"`
}

// EnvVar is one variable. Value is absent unless it was asked for with reveal=true.
type EnvVar struct {
	Name  string  `json:"name"`
	Value *string `json:"value,omitempty"`
}

// ChangeEnv is the body of PATCH /v1/apps/{app}/env.
type ChangeEnv struct {
	Set   map[string]string `json:"set,omitempty"`
	Unset []string          `json:"unset,omitempty"`
}

// EnvChanged is its answer.
type EnvChanged struct {
	Deployment *Deployment `json:"deployment,omitempty"` // absent when nothing has to roll
}
