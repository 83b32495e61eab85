package reconcile

import (
	"errors"
	"time"

	"github.com/slipway-paas/slipway/runtime/driver"
)

const (
	retryFirst = 200 * time.Millisecond
	retryMax   = time.Minute
	retryAway  = 2 * time.Second // the runtime does not answer: asking is cheap, and everybody waits
	retryOther = time.Second
)

// done is the outcome of a task.
type done struct {
	task   task
	status driver.Status // of a start
	err    error
}

// finish takes over the outcome of a task.
func (c *core) finish(d done, now time.Time) {
	delete(c.busy, d.task.key)
	c.seq++
	switch {
	case d.task.start != nil:
		c.started(d, now)
	case d.task.stop != "" && d.err == nil:
		delete(c.retry, d.task.key)
		c.forget(d.task.stop)
		delete(c.stopping, d.task.stop)
		c.touched[d.task.stop] = c.seq
		c.log.Info("instance stopped", "app", d.task.app.Name, "instance", d.task.stop)
	case d.err != nil:
		c.retry[d.task.key] = now.Add(retryOther)
		c.log.Warn("step failed, it is tried again", "step", d.task.key, "app", d.task.app.Name, "err", d.err)
	default:
		delete(c.retry, d.task.key)
		c.stored[d.task.key] = c.seq
	}
}

func (c *core) started(d done, now time.Time) {
	spec := d.task.start
	if d.err == nil {
		delete(c.unstartable, spec.ID)
		c.statuses[spec.ID] = d.status
		c.touched[spec.ID] = c.seq
		c.routing.own[spec.ID] = true
		c.log.Info("instance started", "app", spec.AppName, "instance", spec.ID, "deployment", spec.Deployment,
			"release", spec.Release, "addr", d.status.Addr)
		return
	}
	f, again := c.unstartable[spec.ID]
	if !again {
		f.Since = now
	}
	f.Err = d.err
	limit := retryMax
	if errors.Is(d.err, driver.ErrUnavailable) {
		limit = retryAway
	}
	f.Retry = now.Add(min(retryFirst<<min(f.Tries, 10), limit))
	f.Tries++
	c.unstartable[spec.ID] = f
	if !errors.Is(d.err, driver.ErrUnavailable) || f.Tries == 1 {
		c.log.Warn("instance not started, it is tried again", "app", spec.AppName, "instance", spec.ID, "tries", f.Tries, "err", d.err)
	}
}
