package paas

import (
	"encoding/json"
	"time"
)

// BuildState: queued → building → succeeded | failed | canceled. A build whose
// worker died goes back to queued (its lease ends) until MaxBuildAttempts.
type BuildState string

const (
	BuildQueued    BuildState = "queued"
	BuildBuilding  BuildState = "building"
	BuildSucceeded BuildState = "succeeded"
	BuildFailed    BuildState = "failed"
	BuildCanceled  BuildState = "canceled"
)

// MaxBuildAttempts bounds retries of failures that are ours (a dead builder).
const MaxBuildAttempts = 5

// Final reports whether the state will not change any more.
func (s BuildState) Final() bool {
	return s == BuildSucceeded || s == BuildFailed || s == BuildCanceled
}

// Build turns an Archive into an image.
type Build struct {
	ID            int64
	AppID         string
	AppName       string
	Org           string
	ArchiveDigest string
	ArchiveKey    string // object key
	ArchiveSize   int64
	// Manifest and Deployment are manifest.json and deployment.json given beside
	// the archive; they win over those inside. Empty = not given.
	Manifest   []byte
	Deployment []byte

	State    BuildState
	Attempt  int  // starts at 1 with the first claim; it is the fencing number
	Canceled bool // cancel was asked for; the worker stops and records BuildCanceled
	Failure  *Failure
	Result   *BuildResult // only when succeeded
	LogKey   string       // object key of the finished log; "" while building

	CreatedAt  time.Time
	StartedAt  time.Time // zero until claimed
	FinishedAt time.Time // zero until final
}

// BuildResult is what a build hands to the release.
type BuildResult struct {
	ImageRef    string          `json:"imageRef"`
	ImageDigest string          `json:"imageDigest"`
	Plan        json.RawMessage `json:"plan"`   // buildpacks/plan.Plan
	Ledger      []LedgerEntry   `json:"ledger"` // one per step, in order
	Reused      bool            `json:"reused"` // same archive and same plan: nothing was built
	Type        AppType         `json:"type"`
	Command     []string        `json:"command"`
	Env         []string        `json:"env"`
	MemoryBytes int64           `json:"memoryBytes"` // from deployment.json; 0 = not said
	Instances   int             `json:"instances"`   // from deployment.json; 0 = not said
	Health      HealthCheck     `json:"health"`
	Grace       time.Duration   `json:"grace"`
	// UserEnv is deployment.json's environment: merged into the app's
	// configuration (a new version when it changes something).
	UserEnv map[string]string `json:"userEnv,omitempty"`
}

// LedgerEntry says for one build step whether it came from the cache and, if
// not, which input changed since the app's previous build.
type LedgerEntry struct {
	Step     string        `json:"step"` // "base", "runtime", "dependencies", "app", "build", "export"
	Key      string        `json:"key"`  // content key of its inputs
	Hit      bool          `json:"hit"`
	Changed  []string      `json:"changed,omitempty"` // e.g. "package-lock.json", "node 20 → 22", "first build"
	Duration time.Duration `json:"duration"`
	// Inputs are the parts of Key by name (a file's checksum, a version), so that the
	// next build can say what changed. Empty for inputs with very many files.
	Inputs map[string]string `json:"inputs,omitempty"`
}

// Failure is why a build or a deployment ended badly, for people.
type Failure struct {
	Code    string   `json:"code"`    // e.g. "no_start_command", "never_listened", "exited", "unhealthy"
	Message string   `json:"message"` // one sentence with the numbers
	Hint    string   `json:"hint,omitempty"`
	Output  []string `json:"output,omitempty"` // last lines of the app or of the step, at most 50
}
