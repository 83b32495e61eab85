// Package driver is the contract between reconcile and whatever runs instances:
// containerd on one machine, Pods on many, or memory in tests. Every driver
// passes the suite in drivertest. It imports internal/paas only.
//
// What exists is read by List from labels; nothing is "recovered" from memory.
package driver

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Errors that every driver returns (wrapped); anything else is unexpected.
var (
	ErrNotFound     = errors.New("instance not found")
	ErrUnavailable  = errors.New("runtime does not answer") // retry is safe
	ErrNoImage      = errors.New("image not found")
	ErrNotRunning   = errors.New("instance is not running")
	ErrOutOfAddress = errors.New("no free address")
)

// Spec is all that is needed to start an instance. It is immutable: the same ID
// always means the same Spec.
type Spec struct {
	ID          string // paas.InstanceID
	AppID       string
	AppName     string
	Org         string
	Deployment  int64
	Release     int
	Slot        int
	Attempt     int
	Type        paas.AppType
	ImageRef    string
	Command     []string      // argv, not empty
	Env         []string      // NAME=value in order; later wins; complete but for HOSTNAME
	MemoryBytes int64         // hard limit, swap 0
	CPUMillis   int           // quota; 1000 = one core
	PIDs        int64         // 0 means paas.DefaultPIDs
	Grace       time.Duration // SIGTERM → SIGKILL, used by Stop
}

// Status is one instance as it is now.
type Status struct {
	ID         string
	AppID      string
	AppName    string
	Deployment int64
	Release    int
	Slot       int
	Attempt    int
	Type       paas.AppType
	Running    bool
	Addr       string // ip:port while running; "" for workers without a port is allowed
	PID        int    // of PID 1 of the instance; 0 when not running
	CreatedAt  time.Time
	StartedAt  time.Time // zero if it never ran
	ExitedAt   time.Time // zero while running
	ExitCode   int       // 128+n for signal n
	OOMKilled  bool
	PeakMemory int64 // bytes; 0 = not known
}

// Stats is what an instance uses.
type Stats struct {
	MemoryBytes int64
	CPUTime     time.Duration // since start
	PIDs        int64
}

// Event is a hint that something changed; the truth is in List.
type Event struct{ ID string }

// Driver starts and stops instances. All methods are safe for concurrent use and
// block until done or ctx ends.
type Driver interface {
	// Start makes and starts the instance. If an instance with this ID exists and
	// runs, Start returns its Status; if it exists but never ran (a Start was cut
	// off), it is made again; if it has exited, Start returns its Status unchanged: a
	// restart is a new Attempt and so a new ID. After an error nothing is left
	// that Stop of the same ID would not remove.
	// Errors: ErrNoImage, ErrUnavailable, ErrOutOfAddress.
	Start(ctx context.Context, s Spec) (Status, error)
	// Stop sends SIGTERM to PID 1, waits up to grace, kills the whole cgroup and
	// removes everything of the instance (network, snapshot, labels), but not its
	// logs. grace < 0 means the grace of the Spec. Absent: nil.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// List returns every instance of this installation, running or exited, sorted by
	// ID. An error means unknown, never "none".
	List(ctx context.Context) ([]Status, error)
	// Watch calls hint for each change until ctx ends or the runtime goes away.
	Watch(ctx context.Context, hint func(Event)) error
	// Exec runs a command inside. ErrNotFound, ErrNotRunning.
	Exec(ctx context.Context, id string, r paas.ExecRequest) (exitCode int, err error)
	// Stats of a running instance. ErrNotFound, ErrNotRunning.
	Stats(ctx context.Context, id string) (Stats, error)
	// ListenPorts returns the TCP ports that something inside listens on, with the
	// address each is bound to ("127.0.0.1:3000"), so that a failed start can say
	// "listened on 127.0.0.1:3000, expected 0.0.0.0:8080".
	ListenPorts(ctx context.Context, id string) ([]string, error)
	// RemoveImage forgets an image; its layers go when nothing else uses them. Absent: nil.
	RemoveImage(ctx context.Context, ref string) error
	// Images lists the refs of all images that builds made.
	Images(ctx context.Context) ([]string, error)
	// Sweep removes what belongs to no instance (network namespaces, addresses, firewall
	// entries, cgroups, snapshots, half made containers older than grace) and says
	// what it removed. It never touches what this installation did not make.
	Sweep(ctx context.Context, grace time.Duration) (removed []string, err error)
}
