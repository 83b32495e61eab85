package paas

import (
	"regexp"
	"time"
)

// DefaultOrg is the one tenant that exists until organisations are added.
const DefaultOrg = "default"

// AppType says whether an app takes HTTP requests.
type AppType string

const (
	TypeWeb    AppType = "web"
	TypeWorker AppType = "worker" // no port, no route; healthy = running
)

// Limits and defaults of an app.
const (
	MaxAppName           = 40 // leaves room for "-<deployment>-<slot>-<attempt>" in a 63-byte host name
	MaxInstances         = 64 // ACC's limit (acc-api.md §3)
	DefaultInstances     = 1
	DefaultMemoryBytes   = 512 << 20
	MinMemoryBytes       = 64 << 20
	MaxMemoryBytes       = 20 << 30
	DefaultCPUMillis     = 1000
	DefaultPIDs          = 512
	InstancePort         = 8080       // PORT inside every instance
	InstanceHome         = "/u01/app" // APP_HOME and working directory
	DefaultStartupTime   = 30 * time.Second
	MaxStartupTime       = 600 * time.Second
	DefaultShutdownGrace = 10 * time.Second
	MaxShutdownGrace     = 600 * time.Second
	DefaultWatch         = 15 * time.Second
)

// App is what the user wants. Changing it (or adding a Deployment) is all that a
// user does; reconcile makes the machine follow.
type App struct {
	ID          string  // "a" + 12 lower-case base32 characters, never reused
	Org         string  // DefaultOrg
	Name        string  // DNS label, unique in the org, at most MaxAppName
	Type        AppType // fixed by the first release
	Stopped     bool    // wanted: no instances, routes answer "stopped"
	Instances   int     // wanted count, 0..MaxInstances
	MemoryBytes int64   // per instance; 0 means what the release says, else DefaultMemoryBytes
	CPUMillis   int     // per instance, 1000 = one core; 0 means DefaultCPUMillis

	// LiveDeployment is the deployment whose instances serve now; 0 = none yet.
	LiveDeployment int64
	// ConfigVersion is the newest environment; a Release pins one.
	ConfigVersion int

	Deleting  bool // destroy was asked for; reconcile removes everything, then the row
	CreatedAt time.Time
	UpdatedAt time.Time
}

var appName = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)

// reservedNames would shadow hosts of the platform itself.
var reservedNames = map[string]bool{"slipway": true, "api": true, "www": true, "localhost": true}

// ValidateAppName returns nil or an Error with CodeInvalid that says what a name
// may look like.
func ValidateAppName(name string) error {
	switch {
	case name == "":
		return Errorf(CodeInvalid, "app name is empty").WithHint("use a-z, 0-9 and -, starting with a letter")
	case len(name) > MaxAppName:
		return Errorf(CodeInvalid, "app name has %d characters, the limit is %d", len(name), MaxAppName)
	case !appName.MatchString(name):
		return Errorf(CodeInvalid, "app name %q is not allowed", name).WithHint("use a-z, 0-9 and -, starting with a letter and not ending in -")
	case reservedNames[name]:
		return Errorf(CodeInvalid, "app name %q is reserved", name).WithHint("choose another name")
	}
	return nil
}
