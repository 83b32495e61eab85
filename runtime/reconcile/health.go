package reconcile

import (
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// FailuresToSick is how many bad probes in a row take an instance out.
const FailuresToSick = 3

// target is what the prober asks of one instance.
type target struct {
	addr    string
	host    string // Host header: a visitor's
	check   paas.HealthCheck
	started time.Time
	eager   bool // its deployment is under watch: ask each second
}

// answer is the outcome of one probe.
type answer struct {
	ok        bool
	connected bool
	text      string // with the duration
	bad       string // without; "" when ok
}

// aim says which instances are to be probed, and how.
func (c *core) aim(now time.Time) {
	for _, w := range c.work {
		for id, s := range c.statuses {
			if s.AppID != w.App.ID {
				continue
			}
			t := c.checks[id]
			if r := releaseOf(w, s.Deployment); r != nil {
				t.check = r.Health
			}
			t.addr, t.started, t.host = s.Addr, s.StartedAt, c.policy.hosts(w.App.Name)[0]
			t.eager = w.Active != nil && w.Active.ID == s.Deployment && (w.Active.WatchUntil.IsZero() || now.Before(w.Active.WatchUntil))
			c.checks[id] = t
		}
	}
	for id := range c.checks {
		s, ok := c.statuses[id]
		if !ok || !s.Running || s.Addr == "" || s.Type == paas.TypeWorker || c.stopping[id] {
			delete(c.checks, id)
		}
	}
}

// probed takes over the outcome of a probe and reports whether it changes what
// the instance counts as.
func (c *core) probed(id string, a answer) (changed bool) {
	s, ok := c.statuses[id]
	if !ok || !s.Running {
		return false
	}
	h := c.health[id]
	before, first := h.Healthy, h.Answer == ""
	h = h.after(a)
	c.health[id] = h
	if h.Healthy != before {
		c.log.Info("instance health changed", "app", s.AppName, "instance", id,
			"from", healthWord(before), "to", healthWord(h.Healthy), "probe", a.text)
	}
	return h.Healthy != before || first
}

// after returns the health with one more answer counted.
func (h Health) after(a answer) Health {
	h.Answer = a.text
	h.Connected = h.Connected || a.connected
	if a.ok {
		h.Healthy, h.Was, h.Failures, h.BadCount = true, true, 0, 0
		return h
	}
	h.Failures++
	if a.bad != h.Bad {
		h.Bad, h.BadCount = a.bad, 0
	}
	h.BadCount++
	if h.Failures >= FailuresToSick {
		h.Healthy = false
	}
	return h
}

func healthWord(healthy bool) string {
	if healthy {
		return "healthy"
	}
	return "unhealthy"
}
