package reconcile

import (
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// Observation is one instance as it is now: the driver's view, its health and
// what the routers do with it.
type Observation struct {
	driver.Status
	Health  Health
	Traffic Traffic
	// Stopping: a Stop was begun; the instance never serves or counts again.
	Stopping bool
}

// Health is what the prober knows of an instance.
type Health struct {
	// Healthy turns true with the first good answer and false after
	// FailuresToSick bad ones in a row.
	Healthy bool
	// Was: it has been healthy before, so that "not healthy" means sick, not starting.
	Was       bool
	Connected bool   // some probe could open the port
	Answer    string // the last probe as a sentence: "GET / answered 200 in 3 ms"
	Bad       string // the last failed probe without its duration: "GET / answered 500"
	BadCount  int    // how often Bad was the outcome, in a row
	Failures  int    // failed probes in a row, whatever their outcome
}

// Traffic is what the routers do with an instance.
type Traffic struct {
	Routed     bool // in the newest published table
	AckedIn    bool // every live router applied a table with it
	Released   bool // every live router applied a table without it
	ReleasedAt time.Time
	InFlight   int
}

// exited reports whether it ran and ended. Something that never ran is a Start
// that was cut off, which Start repeats.
func (o Observation) exited() bool { return !o.Running && !o.ExitedAt.IsZero() }

// upTime is how long it ran, or has been running.
func (o Observation) upTime(now time.Time) time.Duration {
	switch {
	case o.StartedAt.IsZero():
		return 0
	case o.exited():
		return o.ExitedAt.Sub(o.StartedAt)
	}
	return now.Sub(o.StartedAt)
}

// workerSettles is how long a worker must run to count as healthy; it has no
// port to ask.
const workerSettles = 2 * time.Second

// healthy reports whether it may serve, or for a worker, counts as up.
func (o Observation) healthy(now time.Time) bool {
	if !o.Running || o.Stopping {
		return false
	}
	if o.Type == paas.TypeWorker {
		return now.Sub(o.StartedAt) >= workerSettles
	}
	return o.Health.Healthy
}

// sick reports whether it runs, was healthy and is not any more.
func (o Observation) sick() bool {
	return o.Running && o.Type != paas.TypeWorker && o.Health.Was && !o.Health.Healthy
}
