package reconcile

import (
	"fmt"

	"github.com/slipway-paas/slipway/internal/paas"
)

// waiting says what a rolling deployment waits for.
func (p *planner) waiting(fresh []Observation, up int) string {
	if up == p.n {
		return fmt.Sprintf("%d of %d new instances are healthy; waiting for the routers to confirm the new table", up, p.n)
	}
	s := fmt.Sprintf("%d of %d new instances are healthy", up, p.n)
	limit := startupTime(p.Work.ActiveRelease)
	for _, o := range fresh {
		if !o.Running || o.healthy(p.Now) {
			continue
		}
		answer := o.Health.Bad // has no duration in it, so the sentence is rewritten only when it says something new
		if answer == "" {
			answer = "started"
		}
		return fmt.Sprintf("%s; %s.%d: %s (limit %s)", s, kindOf(p.Work.App.Type), o.Slot, answer, seconds(limit))
	}
	for slot := 1; slot <= p.n; slot++ {
		id := paas.InstanceID(p.Work.App.Name, p.Work.Active.ID, slot, 0)
		if f, ok := p.Unstartable[id]; ok {
			return fmt.Sprintf("%s; %s.%d could not be started, %d tries: %s", s, kindOf(p.Work.App.Type), slot, f.Tries, startReason(f.Err))
		}
	}
	if len(p.plan.Want) == 0 || len(fresh) == 0 && p.othersAlive(p.Work.Active.ID) >= p.hardLimit() {
		return fmt.Sprintf("%s; %d instances of earlier deployments have yet to end", s, p.othersAlive(p.Work.Active.ID))
	}
	return s + "; starting"
}

// noInstance is what visitors read while nothing serves. It must not change with
// the time, each change being a new table.
func (p *planner) noInstance() string {
	d := p.Work.Live
	if p.Work.Active != nil {
		d = p.Work.Active
	}
	if d == nil {
		return p.NoInstance
	}
	if p.n == 0 {
		return "the app is scaled to 0 instances"
	}
	if p.Work.Live == nil && p.Work.ActiveRelease != nil {
		return fmt.Sprintf("release %d is starting", p.Work.ActiveRelease.Number)
	}
	exited, total := 0, 0
	var last Observation
	for _, o := range p.bySlot(d.ID) {
		total++
		if o.exited() {
			exited++
			last = o
		}
	}
	if total > 0 && exited == total {
		return fmt.Sprintf("every instance has crashed (%s) and will be started again", exitReason(last.Status, memoryLimit(p.Work.App, p.release(d.ID))))
	}
	return ""
}

func (p *planner) release(deployment int64) *paas.Release { return releaseOf(p.Work, deployment) }

// releaseOf returns the release that a deployment's instances run; nil if unknown.
func releaseOf(w paas.AppWork, deployment int64) *paas.Release {
	switch {
	case w.Active != nil && w.Active.ID == deployment:
		return w.ActiveRelease
	case w.Live != nil && w.Live.ID == deployment:
		return w.LiveRelease
	case w.Previous != nil && w.Previous.ID == deployment:
		return w.PreviousRelease
	}
	return nil
}

func kindOf(t paas.AppType) paas.AppType {
	if t == "" {
		return paas.TypeWeb
	}
	return t
}
