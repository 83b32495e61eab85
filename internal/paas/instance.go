package paas

import (
	"fmt"
	"time"
)

// InstanceState is observed, never stored as truth.
type InstanceState string

const (
	InstanceStarting InstanceState = "starting" // started, not healthy yet
	InstanceHealthy  InstanceState = "healthy"
	InstanceSick     InstanceState = "unhealthy" // was healthy, probes fail now
	InstanceDraining InstanceState = "draining"  // takes no new requests
	InstanceExited   InstanceState = "exited"
	InstanceBackoff  InstanceState = "crashed" // exited, waits for its restart
)

// Instance is one running copy as last observed.
type Instance struct {
	ID         string // InstanceID()
	AppID      string
	AppName    string
	Deployment int64
	Release    int // number
	Slot       int // 1..n; shown as web.1
	Attempt    int // 0, then +1 per restart after a crash
	State      InstanceState
	Addr       string // ip:port; "" if it has none
	StartedAt  time.Time
	ExitCode   int       // valid when exited
	ExitReason string    // "exit code 1", "killed: memory limit 512 MiB", …
	ExitedAt   time.Time // zero while running
	RestartAt  time.Time // when a crashed instance is tried again; zero = not scheduled
	Restarts   int
	Probe      string // last probe's answer, e.g. "GET / answered 200 in 3 ms"
	Restricted string // reserved for the isolation tier in force, e.g. "runc, seccomp, uid 10007"
	MemoryUsed int64
	CPUMillis  int64 // of the last interval; 1000 = one core
	SeenAt     time.Time
}

// InstanceID derives an instance's identity, so that a second attempt to make
// the same instance meets the first. It is a valid host name and container id.
func InstanceID(app string, deployment int64, slot, attempt int) string {
	return fmt.Sprintf("%s-%d-%d-%d", app, deployment, slot, attempt)
}

// ImageRef names a build's image in the runtime's image store.
func ImageRef(appID string, build int64) string {
	return fmt.Sprintf("slipway.local/%s:b%d", appID, build)
}
