package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

const (
	// firstProbes bounds the wait, after a start, for the health of instances that
	// the first table may need.
	firstProbes = time.Second
	// unknownGrace is how long an instance must belong to no app before it goes.
	unknownGrace = 10 * time.Second
	waitingEvery = time.Second // each sentence is a write to the store
)

// core is the state behind the decisions, without goroutines: Loop (or a test)
// tells it what was read and what was done, and step says what to do next. Its
// owner is one goroutine.
type core struct {
	policy         Policy
	confirmUnknown bool
	log            *slog.Logger
	routing        *routing

	work      []paas.AppWork
	workKnown bool
	notes     map[string]string // app ID → NoInstance of apps that never came up

	statuses map[string]driver.Status
	listed   bool
	health   map[string]Health
	checks   map[string]target
	readyAt  time.Time // when both were known first; zero = not yet

	seq         int64            // counts finished tasks
	touched     map[string]int64 // instance → seq of its last finished task
	stored      map[string]int64 // key of a task that changed the store → seq when it ended
	busy        map[string]task  // by key
	stopping    map[string]bool
	unstartable map[string]StartFailure
	retry       map[string]time.Time // task key → not before
	unknown     map[string]time.Time // instance of no app → since
	quarantined time.Time            // last time that was logged
	announced   map[string]bool      // crashes told as events
	waited      map[int64]time.Time  // deployment → last SetWaiting

	instances []paas.Instance // as of the last step
}

func newCore(p Policy, router paas.Router, log *slog.Logger) *core {
	return &core{
		policy: p.withDefaults(), log: log, routing: newRouting(router),
		notes: map[string]string{}, statuses: map[string]driver.Status{}, health: map[string]Health{},
		checks: map[string]target{}, touched: map[string]int64{}, stored: map[string]int64{},
		busy: map[string]task{}, stopping: map[string]bool{}, unstartable: map[string]StartFailure{},
		retry: map[string]time.Time{}, unknown: map[string]time.Time{}, announced: map[string]bool{},
		waited: map[int64]time.Time{},
	}
}

// setWork takes over a read of the store that began when began tasks had ended.
func (c *core) setWork(work []paas.AppWork, began int64) {
	c.work, c.workKnown = work, true
	maps.DeleteFunc(c.stored, func(_ string, seq int64) bool { return began >= seq })
}

// setList takes over a listing that began when began tasks had ended: what a
// later task did is newer than the listing.
func (c *core) setList(list []driver.Status, began int64) {
	next := make(map[string]driver.Status, len(list))
	for _, s := range list {
		next[s.ID] = s
	}
	for id, seq := range c.touched {
		if began >= seq {
			delete(c.touched, id)
			continue
		}
		delete(next, id)
		if s, ok := c.statuses[id]; ok {
			next[id] = s
		}
	}
	for id := range c.statuses {
		if _, ok := next[id]; !ok {
			c.forget(id)
		}
	}
	c.statuses, c.listed = next, true
}

// forget drops what is known of an instance that is gone.
func (c *core) forget(id string) {
	delete(c.statuses, id)
	delete(c.health, id)
	delete(c.checks, id)
	delete(c.unknown, id)
	delete(c.announced, id)
	if _, busy := c.busy[stopKey(id)]; !busy {
		delete(c.stopping, id)
	}
	c.routing.forget(id)
}

// step decides what to do now. next is when to look again; zero = at a change.
func (c *core) step(ctx context.Context, now time.Time) (tasks []task, next time.Time) {
	if !c.workKnown || !c.listed {
		return nil, time.Time{}
	}
	if c.readyAt.IsZero() {
		c.readyAt = now
		c.presume()
	}
	c.aim(now)
	if c.routing.first == 0 && now.Before(c.readyAt.Add(firstProbes)) && c.unprobed() {
		return nil, c.readyAt.Add(firstProbes)
	}
	inputs := c.inputs(now)
	plans := make([]Plan, len(inputs))
	var tables []paas.RouteTable
	for i := range inputs {
		plans[i] = Desired(inputs[i])
		if plans[i].Table != nil {
			tables = append(tables, *plans[i].Table)
		}
	}
	changed, err := c.routing.publish(ctx, tables)
	if err != nil {
		c.log.Error("table not published", "err", err)
		return nil, now.Add(time.Second)
	}
	b := &batch{core: c, now: now}
	if changed {
		b.lookAt(now.Add(time.Millisecond)) // it may count as confirmed already, and then nothing else wakes us
	}
	for i := range inputs {
		b.app(inputs[i], plans[i])
	}
	b.garbage()
	c.prune(plans)
	c.instances = c.show(inputs, plans, now)
	return b.tasks, b.next
}

// presume takes the live instances for healthy that a restarted server finds:
// its restart must not take them out of the table.
func (c *core) presume() {
	for _, w := range c.work {
		for id, s := range c.statuses {
			if w.Live != nil && s.AppID == w.App.ID && s.Deployment == w.Live.ID && s.Running {
				c.health[id] = Health{Healthy: true, Was: true, Connected: true, Answer: "healthy before the server restarted"}
			}
		}
	}
}

// unprobed reports whether the health of some running newcomer is still unknown.
func (c *core) unprobed() bool {
	for id := range c.checks {
		if h := c.health[id]; h.Answer == "" {
			return true
		}
	}
	return false
}

// inputs joins what is stored and what is observed, per app in the store's order.
func (c *core) inputs(now time.Time) []Input {
	observed := map[string][]Observation{}
	for _, id := range slices.Sorted(maps.Keys(c.statuses)) {
		s := c.statuses[id]
		observed[s.AppID] = append(observed[s.AppID], Observation{
			Status: s, Health: c.health[id], Traffic: c.routing.traffic(id, now), Stopping: c.stopping[id],
		})
	}
	inputs := make([]Input, 0, len(c.work))
	for _, w := range c.work {
		inputs = append(inputs, Input{
			Work: w, Observed: observed[w.App.ID], Unstartable: c.unstartable,
			Now: now, Policy: c.policy, NoInstance: c.notes[w.App.ID],
		})
	}
	return inputs
}

// prune drops what is remembered of wishes that are no more.
func (c *core) prune(plans []Plan) {
	maps.DeleteFunc(c.unstartable, func(id string, _ StartFailure) bool {
		return !slices.ContainsFunc(plans, func(p Plan) bool { return p.wants(id) })
	})
	maps.DeleteFunc(c.retry, func(key string, _ time.Time) bool {
		id, isStop := strings.CutPrefix(key, stopPrefix)
		_, exists := c.statuses[id]
		return isStop && !exists
	})
	maps.DeleteFunc(c.waited, func(id int64, _ time.Time) bool {
		return !slices.ContainsFunc(c.work, func(w paas.AppWork) bool { return w.Active != nil && w.Active.ID == id })
	})
}
