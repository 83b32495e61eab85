package reconcile

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// roll replaces the live release's instances by those of the active deployment.
func (p *planner) roll() {
	d, r := p.Work.Active, p.Work.ActiveRelease
	fresh := slices.DeleteFunc(p.bySlot(d.ID), func(o Observation) bool { return o.Slot > p.n })
	for _, o := range fresh {
		p.keep(r, o)
	}
	up := p.healthy(d.ID)
	p.serve(up, p.n)
	old := p.keepOld(p.n - len(up))

	if cause := p.rollingFailure(fresh); cause != nil {
		p.move(paas.DeploymentFailed, time.Time{}, cause)
		return
	}
	if len(up) == p.n && p.confirmed(up) {
		until := p.Now.Add(p.Policy.Watch)
		if p.n == 0 {
			until = p.Now // nothing runs that could be watched
		}
		p.move(paas.DeploymentLive, until, nil)
		return
	}
	room := min(p.n+p.surge-old, p.hardLimit()-p.othersAlive(d.ID)) - len(fresh)
	for slot := 1; slot <= p.n && room > 0; slot++ {
		if !slices.ContainsFunc(fresh, func(o Observation) bool { return o.Slot == slot }) {
			p.want(d, r, slot, p.freeAttempt(d.ID, slot), time.Time{})
			room--
		}
	}
	p.plan.Waiting = p.waiting(fresh, len(up))
}

// keepOld keeps as many old instances as are needed beside the newcomers to
// serve, and surge of them in any case: should the new release fail, they are
// back at once. It returns how many it keeps.
func (p *planner) keepOld(needed int) int {
	live := p.Work.Live
	if live == nil {
		return 0
	}
	old := p.alive(live.ID)
	slices.SortStableFunc(old, func(a, b Observation) int {
		return cmp.Or(falseFirst(!a.Traffic.Routed, !b.Traffic.Routed), falseFirst(!a.healthy(p.Now), !b.healthy(p.Now)))
	})
	kept := old[:min(len(old), max(needed, p.surge))]
	var serve []Observation
	for _, o := range kept {
		p.keep(p.Work.LiveRelease, o)
		if p.isHealthy(o) {
			serve = append(serve, o)
		}
	}
	p.serve(serve, needed)

	count := len(kept)
	for _, o := range p.bySlot(live.ID) {
		if o.exited() && o.Slot <= p.n && count < needed {
			p.keepOrRestart(live, p.Work.LiveRelease, o)
			count++
		}
	}
	return count
}

// hardLimit bounds what exists together with what drains, so that deployments in
// quick succession neither wait for each other's last requests nor pile up.
func (p *planner) hardLimit() int { return p.n + 2*p.surge + 2 }

func (p *planner) othersAlive(deployment int64) int {
	n := 0
	for _, o := range p.Observed {
		if o.Deployment != deployment && !o.exited() {
			n++
		}
	}
	return n
}

// confirmed reports whether every live router routes to all of list.
func (p *planner) confirmed(list []Observation) bool {
	for _, o := range list {
		if o.Type != paas.TypeWorker && !o.Traffic.AckedIn {
			return false
		}
	}
	return true
}

// rollingFailure returns why the deployment cannot succeed; nil = it still may.
func (p *planner) rollingFailure(fresh []Observation) *Cause {
	limit := startupTime(p.Work.ActiveRelease)
	for _, o := range fresh {
		deadline := o.StartedAt.Add(limit)
		switch {
		case o.exited():
			return &Cause{Kind: causeExited, Instance: o}
		case !o.Running || p.isHealthy(o):
		case o.sick():
			return &Cause{Kind: causeSick, Instance: o}
		case o.Type == paas.TypeWorker:
		case !p.Now.Before(deadline):
			return &Cause{Kind: causeNotUp, Instance: o}
		default:
			p.plan.lookAt(deadline)
		}
	}
	for slot := 1; slot <= p.n; slot++ {
		id := paas.InstanceID(p.Work.App.Name, p.Work.Active.ID, slot, 0)
		f, ok := p.Unstartable[id]
		switch {
		case !ok || errors.Is(f.Err, driver.ErrUnavailable): // ours; it is tried until it answers
		case errors.Is(f.Err, driver.ErrNoImage):
			return &Cause{Kind: causeNoImage, Err: f.Err}
		case p.Now.Sub(f.Since) >= limit:
			return &Cause{Kind: causeNoStart, Err: f.Err, Tries: f.Tries}
		}
	}
	return nil
}

// watch keeps the new release under watch and the way back open.
func (p *planner) watch() {
	d, r := p.Work.Active, p.Work.ActiveRelease
	cause := p.watchFailure()
	p.keepSlots(d, r, false)
	p.serve(p.healthy(d.ID), p.n)
	if p.Work.Previous != nil && p.n > 0 {
		warm := p.alive(p.Work.Previous.ID)
		for _, o := range warm[:min(len(warm), p.surge)] {
			p.keep(p.Work.PreviousRelease, o)
		}
	}
	switch {
	case cause != nil:
		p.move(paas.DeploymentFailed, time.Time{}, cause)
	case !p.Now.Before(d.WatchUntil):
		p.move(paas.DeploymentSucceeded, time.Time{}, nil)
	default:
		p.plan.lookAt(d.WatchUntil)
	}
}

func (p *planner) watchFailure() *Cause {
	d := p.Work.Active
	for _, o := range p.bySlot(d.ID) {
		switch {
		case o.Slot > p.n:
		case o.exited() && o.ExitedAt.Before(d.WatchUntil):
			return &Cause{Kind: causeCrashed, Instance: o}
		case o.sick() && p.Now.Before(d.WatchUntil):
			return &Cause{Kind: causeTurnedSick, Instance: o}
		}
	}
	return nil
}

func (p *planner) move(to paas.DeploymentState, watchUntil time.Time, c *Cause) {
	p.plan.Moves = append(p.plan.Moves, Move{Deployment: *p.Work.Active, To: to, WatchUntil: watchUntil, Cause: c})
}

func startupTime(r *paas.Release) time.Duration {
	if r != nil && r.Health.StartupTime > 0 {
		return r.Health.StartupTime
	}
	return paas.DefaultStartupTime
}
