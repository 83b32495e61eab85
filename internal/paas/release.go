package paas

import "time"

// HealthCheck says how an instance proves that it serves. It is asked from
// outside, first to let an instance take traffic and then every Interval.
type HealthCheck struct {
	// Path is asked with GET. With Strict it must answer 200 (declared by the user,
	// ACC's rule); without, any answer below 500 will do and Path is "/".
	Path   string `json:"path"`
	Strict bool   `json:"strict"`
	// StartupTime bounds the time from start to the first healthy answer.
	StartupTime time.Duration `json:"startupTime"`
	Interval    time.Duration `json:"interval"` // 0 means 5 s
	Timeout     time.Duration `json:"timeout"`  // of one probe; 0 means 5 s
}

// Release is immutable: all that is needed to start the same thing again.
// Rolling back deploys an older Release; nothing is rebuilt.
type Release struct {
	ID            int64
	AppID         string
	Number        int    // 1, 2, 3 … within the app
	BuildID       int64  // the build that made the image
	ArchiveDigest string // "sha256:<hex>" of the source
	ImageRef      string // name in the runtime's image store, see ImageRef()
	ImageDigest   string // "sha256:<hex>" of the manifest
	ConfigVersion int
	Type          AppType
	Command       []string // argv; run in InstanceHome
	Env           []string // NAME=value from the image plan (e.g. NODE_ENV), before the user's
	MemoryBytes   int64    // 0 means DefaultMemoryBytes; App.MemoryBytes overrides
	Health        HealthCheck
	Grace         time.Duration // SIGTERM → SIGKILL
	Reason        string        // "deploy", "env", …; shown in `slipway releases`
	CreatedBy     string
	CreatedAt     time.Time
}

// EnvVar is one variable of an app's environment. Value is a secret: stored
// encrypted, never logged.
type EnvVar struct {
	Name  string
	Value Secret
}

// Secret is a string that does not print itself. Use string(s) where it is due.
type Secret string

const redacted = "***"

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
