package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// show makes the list that the API shows, sorted by app, slot and deployment.
func (c *core) show(inputs []Input, plans []Plan, now time.Time) []paas.Instance {
	list := make([]paas.Instance, 0, len(c.statuses))
	for i, in := range inputs {
		for _, o := range in.Observed {
			list = append(list, showOne(o, in, &plans[i]))
		}
	}
	for id := range c.unknown {
		if s, ok := c.statuses[id]; ok {
			o := Observation{Status: s, Stopping: c.stopping[id]}
			list = append(list, showOne(o, Input{Now: now}, &Plan{}))
		}
	}
	slices.SortFunc(list, func(a, b paas.Instance) int {
		return cmp.Or(cmp.Compare(a.AppName, b.AppName), cmp.Compare(a.Slot, b.Slot),
			cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Attempt, b.Attempt))
	})
	return list
}

func showOne(o Observation, in Input, p *Plan) paas.Instance {
	i := paas.Instance{
		ID: o.ID, AppID: o.AppID, AppName: o.AppName, Deployment: o.Deployment, Release: o.Release,
		Slot: o.Slot, Attempt: o.Attempt, Restarts: o.Attempt, Addr: o.Addr, StartedAt: o.StartedAt,
		Probe: o.Health.Answer, SeenAt: in.Now, State: stateOf(o, in.Now, p),
	}
	if !o.exited() {
		return i
	}
	i.ExitCode, i.ExitedAt = o.ExitCode, o.ExitedAt
	i.ExitReason = exitReason(o.Status, memoryLimit(in.Work.App, releaseOf(in.Work, o.Deployment)))
	for _, w := range p.Want {
		if w.Deployment == o.Deployment && w.Slot == o.Slot && w.ID != o.ID {
			i.State, i.RestartAt = paas.InstanceBackoff, w.NotBefore
		}
	}
	return i
}

func stateOf(o Observation, now time.Time, p *Plan) paas.InstanceState {
	switch {
	case o.exited():
		return paas.InstanceExited
	case o.Stopping, !p.wants(o.ID):
		return paas.InstanceDraining
	case o.healthy(now) && (p.routes(o.ID) || o.Type == paas.TypeWorker):
		return paas.InstanceHealthy
	case o.healthy(now):
		return paas.InstanceDraining // kept warm: takes no new requests
	case o.sick():
		return paas.InstanceSick
	}
	return paas.InstanceStarting
}
