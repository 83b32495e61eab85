package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// planner collects one app's Plan.
type planner struct {
	Input
	n       int // wanted instances; 0 when the app is stopped
	surge   int
	plan    Plan
	serving []Observation // those that take requests, by preference
}

func newPlanner(in Input) *planner {
	p := &planner{Input: in, n: in.Work.App.Instances}
	if in.Work.App.Stopped || in.Work.App.Deleting {
		p.n = 0
	}
	p.surge = in.Policy.Surge(p.n)
	return p
}

// bySlot returns the instance that stands for each slot of a deployment, sorted
// by slot: the running one, else the one that exited last. Instances that are
// being stopped stand for nothing.
func (p *planner) bySlot(deployment int64) []Observation {
	var list []Observation
	for _, o := range p.Observed {
		if o.Deployment == deployment && !o.Stopping {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Observation) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), falseFirst(a.exited(), b.exited()),
			b.ExitedAt.Compare(a.ExitedAt), cmp.Compare(b.Attempt, a.Attempt))
	})
	return slices.CompactFunc(list, func(a, b Observation) bool { return a.Slot == b.Slot })
}

// alive returns the instances of a deployment that have not exited, by slot.
func (p *planner) alive(deployment int64) []Observation {
	return slices.DeleteFunc(p.bySlot(deployment), Observation.exited)
}

// healthy returns the instances of the wanted slots that may serve.
func (p *planner) healthy(deployment int64) []Observation {
	return slices.DeleteFunc(p.alive(deployment), func(o Observation) bool {
		return o.Slot > p.n || !p.isHealthy(o)
	})
}

// isHealthy also makes sure that somebody looks when a worker has settled.
func (p *planner) isHealthy(o Observation) bool {
	if o.healthy(p.Now) {
		return true
	}
	if o.Type == paas.TypeWorker && o.Running {
		p.plan.lookAt(o.StartedAt.Add(workerSettles))
	}
	return false
}

// keepSlots wants one instance of the release in each slot. restarts says
// whether an exited one is replaced (after its back-off) or only kept.
func (p *planner) keepSlots(d *paas.Deployment, r *paas.Release, restarts bool) {
	current := p.bySlot(d.ID)
	for slot := 1; slot <= p.n; slot++ {
		i := slices.IndexFunc(current, func(o Observation) bool { return o.Slot == slot })
		switch {
		case i < 0:
			p.want(d, r, slot, p.freeAttempt(d.ID, slot), time.Time{})
		case restarts:
			p.keepOrRestart(d, r, current[i])
		default:
			p.keep(r, current[i])
		}
	}
}

func (p *planner) keepOrRestart(d *paas.Deployment, r *paas.Release, o Observation) {
	p.keep(r, o)
	if o.exited() {
		at, attempt := restart(o)
		p.want(d, r, o.Slot, attempt, at)
	}
}

func (p *planner) keep(r *paas.Release, o Observation) {
	p.plan.Want = append(p.plan.Want, Want{
		ID: o.ID, Deployment: o.Deployment, Release: r, Slot: o.Slot, Attempt: o.Attempt,
	})
}

func (p *planner) want(d *paas.Deployment, r *paas.Release, slot, attempt int, at time.Time) {
	if at.After(p.Now) {
		p.plan.lookAt(at)
	}
	p.plan.Want = append(p.plan.Want, Want{
		ID:         paas.InstanceID(p.Work.App.Name, d.ID, slot, attempt),
		Deployment: d.ID, Release: r, Slot: slot, Attempt: attempt, NotBefore: at,
	})
}

// freeAttempt is the attempt for a slot that nothing stands for: 0, or past those
// that are still being stopped, since their IDs are taken.
func (p *planner) freeAttempt(deployment int64, slot int) int {
	attempt := 0
	for _, o := range p.Observed {
		if o.Deployment == deployment && o.Slot == slot {
			attempt = max(attempt, o.Attempt+1)
		}
	}
	return attempt
}

// serve lets up to limit of list take requests.
func (p *planner) serve(list []Observation, limit int) {
	p.serving = append(p.serving, list[:min(len(list), max(0, limit))]...)
}

// publish derives the app's part of the table from what may serve.
func (p *planner) publish() {
	app := p.Work.App
	if app.Type == paas.TypeWorker {
		return
	}
	p.fill()
	t := &paas.RouteTable{AppID: app.ID, App: app.Name, Hosts: p.Policy.hosts(app.Name), Stopped: app.Stopped}
	slices.SortFunc(p.serving, func(a, b Observation) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.ID, b.ID))
	})
	for _, o := range p.serving {
		t.Endpoints = append(t.Endpoints, paas.Endpoint{Instance: o.ID, Addr: o.Addr})
	}
	if len(t.Endpoints) == 0 && !app.Stopped {
		t.NoInstance = p.noInstance()
	}
	p.plan.Table = t
}

// fill keeps up capacity: an instance that serves well, though it is not wanted
// any more, goes on until enough others do. When nothing healthy is left, those
// that served last are kept rather than answering every request with an error.
func (p *planner) fill() {
	if p.n == 0 || p.Work.Live == nil && p.Work.Active == nil {
		return
	}
	var well, sick []Observation
	for _, o := range p.Observed {
		switch {
		case !o.Traffic.Routed || o.Stopping || !o.Running || p.isServing(o.ID):
		case o.healthy(p.Now):
			well = append(well, o)
		default:
			sick = append(sick, o)
		}
	}
	preferred := func(a, b Observation) int {
		return cmp.Or(falseFirst(!p.plan.wants(a.ID), !p.plan.wants(b.ID)),
			cmp.Compare(b.Deployment, a.Deployment), cmp.Compare(a.Slot, b.Slot))
	}
	slices.SortFunc(well, preferred)
	p.serve(well, p.n-len(p.serving))
	if len(p.serving) == 0 {
		slices.SortFunc(sick, preferred)
		p.serve(sick, p.n)
	}
}

func (p *planner) isServing(id string) bool {
	return slices.ContainsFunc(p.serving, func(o Observation) bool { return o.ID == id })
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
