package reconcile

import (
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Input is all that a decision about one app depends on.
type Input struct {
	Work     paas.AppWork
	Observed []Observation // of this app only
	// Unstartable holds the failed starts of instances that do not exist, by ID.
	Unstartable map[string]StartFailure
	Now         time.Time
	Policy      Policy
	// NoInstance is what visitors read while the app has neither a live nor an
	// active deployment; "" = the router's own sentence.
	NoInstance string
}

// StartFailure is why Start did not work so far.
type StartFailure struct {
	Err   error
	Since time.Time // of the first failed try
	Tries int
	Retry time.Time // not tried again before
}

// Plan is what should be, for one app.
type Plan struct {
	Want  []Want           // every instance that should exist; the others go once drained
	Table *paas.RouteTable // nil: the app is in no table
	Moves []Move
	// Waiting says what the rolling deployment waits for; "" = no deployment rolls.
	Waiting string
	Remove  bool      // nothing is left of a deleted app: its row may go
	Next    time.Time // look again then even if nothing happens; zero = no need
}

// Want is one instance that should exist.
type Want struct {
	ID         string
	Deployment int64
	Release    *paas.Release
	Slot       int
	Attempt    int
	NotBefore  time.Time // a restart's back-off; zero = at once
}

// Move is a step of a deployment.
type Move struct {
	Deployment paas.Deployment
	To         paas.DeploymentState
	WatchUntil time.Time // for DeploymentLive
	Cause      *Cause    // for DeploymentFailed
}

// Desired says what should exist and what should take requests. It is pure.
//
// While a deployment rolls, at most instances+surge exist that are not draining;
// a newcomer serves once healthy and an old instance leaves only for one that
// serves in its stead. Whatever changes, an instance that serves well goes on
// serving until the wanted count of others does.
func Desired(in Input) Plan {
	p := newPlanner(in)
	w := in.Work
	if w.Live != nil && w.Live.State == paas.DeploymentLive && (w.Active == nil || w.Active.ID != w.Live.ID) {
		// A newer deployment began to roll: nobody watches this one any more, and it did take over.
		p.plan.Moves = append(p.plan.Moves, Move{Deployment: *w.Live, To: paas.DeploymentSucceeded})
	}
	switch {
	case w.App.Deleting:
		p.plan.Remove = len(in.Observed) == 0
		return p.plan
	case w.Active != nil && w.Active.State == paas.DeploymentRolling:
		p.roll()
	case w.Active != nil && w.Active.State == paas.DeploymentLive:
		p.watch()
	case w.Live != nil:
		p.keepSlots(w.Live, w.LiveRelease, true)
		p.serve(p.healthy(w.Live.ID), p.n)
	}
	p.publish()
	return p.plan
}

// wants reports whether the instance should exist.
func (p *Plan) wants(id string) bool {
	for i := range p.Want {
		if p.Want[i].ID == id {
			return true
		}
	}
	return false
}

// routes reports whether the instance should take requests.
func (p *Plan) routes(id string) bool {
	if p.Table == nil {
		return false
	}
	for i := range p.Table.Endpoints {
		if p.Table.Endpoints[i].Instance == id {
			return true
		}
	}
	return false
}

func (p *Plan) lookAt(t time.Time) {
	if p.Next.IsZero() || t.Before(p.Next) {
		p.Next = t
	}
}
