package reconcile

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

const (
	startLimit    = 60 * time.Second
	stopMargin    = 30 * time.Second // on top of the longest grace
	storeLimit    = 15 * time.Second
	evidenceLimit = time.Second
	maxOutput     = 50 // lines kept with a failure
)

// carryOut does one task and tells the loop how it ended.
func (l *Loop) carryOut(ctx context.Context, t task) {
	d := done{task: t}
	func() {
		defer func() {
			if v := recover(); v != nil {
				d.err = fmt.Errorf("panic: %v", v)
				l.opts.Log.Error("panic", "in", t.key, "value", v)
			}
		}()
		d.status, d.err = l.do(ctx, t)
	}()
	select {
	case l.dones <- d:
	case <-ctx.Done():
	}
}

func (l *Loop) do(ctx context.Context, t task) (driver.Status, error) {
	switch {
	case t.start != nil:
		return l.start(ctx, *t.start)
	case t.stop != "":
		ctx, cancel := context.WithTimeout(ctx, paas.MaxShutdownGrace+stopMargin)
		defer cancel()
		return driver.Status{}, l.opts.Driver.Stop(ctx, t.stop, -1)
	case t.move != nil:
		return driver.Status{}, l.move(ctx, t.app, *t.move)
	case t.crash != nil:
		return driver.Status{}, l.tellCrash(ctx, t.app, *t.crash)
	case t.remove:
		return driver.Status{}, l.removeApp(ctx, t.app)
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	return driver.Status{}, l.opts.Store.SetWaiting(ctx, t.waiting.deployment, t.waiting.text)
}

func (l *Loop) start(ctx context.Context, s driver.Spec) (driver.Status, error) {
	select {
	case l.starts <- struct{}{}:
		defer func() { <-l.starts }()
	case <-ctx.Done():
		return driver.Status{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return l.opts.Driver.Start(ctx, s)
}

// move takes a deployment one state on; a failure is explained from what can
// still be asked.
func (l *Loop) move(ctx context.Context, app paas.App, m moveTask) error {
	var f *paas.Failure
	if m.Cause != nil {
		failure := explain(*m.Cause, m.release, l.evidence(ctx, app, m))
		f = &failure
	}
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	moved, err := l.opts.Store.MoveDeployment(ctx, m.Deployment.ID, m.Deployment.State, m.To, m.WatchUntil, f)
	if err != nil {
		return fmt.Errorf("move deployment %d to %s: %w", m.Deployment.ID, m.To, err)
	}
	if moved {
		attrs := []any{"app", app.Name, "deployment", m.Deployment.ID, "from", m.Deployment.State, "to", m.To}
		if f != nil {
			attrs = append(attrs, "code", f.Code, "why", f.Message)
		}
		l.opts.Log.Info("deployment moved", attrs...)
	}
	return nil
}

func (l *Loop) evidence(ctx context.Context, app paas.App, m moveTask) Evidence {
	e := Evidence{MemoryBytes: m.memoryBytes, Previous: m.previous, Now: time.Now()}
	o := m.Cause.Instance
	if o.ID == "" {
		return e
	}
	ctx, cancel := context.WithTimeout(ctx, evidenceLimit)
	defer cancel()
	if m.Cause.Kind == causeNotUp && !o.Health.Connected {
		if ports, err := l.opts.Driver.ListenPorts(ctx, o.ID); err == nil {
			e.Ports = append([]string{}, ports...) // not nil: it was asked, nothing listens
		}
	}
	e.Output = l.opts.Tail(ctx, app.Name, o.ID, maxOutput)
	return e
}

func (l *Loop) tellCrash(ctx context.Context, app paas.App, c crashTask) error {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	o := c.instance
	message := fmt.Sprintf("%s.%d of release %d ended after %s: %s", kindOf(o.Type), o.Slot, o.Release, seconds(o.upTime(o.ExitedAt)), c.reason)
	if lines := l.opts.Tail(ctx, app.Name, o.ID, 1); len(lines) > 0 {
		message += "; last line: " + strings.TrimSpace(lines[len(lines)-1])
	}
	l.opts.Log.Warn("instance crashed", "app", app.Name, "instance", o.ID, "reason", c.reason, "restarts", o.Attempt)
	return l.opts.Store.AddEvent(ctx, paas.Event{
		At: o.ExitedAt, AppID: app.ID, AppName: app.Name, Kind: "instance.crashed", Deployment: o.Deployment,
		Message: message, By: "slipway",
	})
}

// removeApp erases what is left of an app without instances, the row last: killed
// before that, it is done again.
func (l *Loop) removeApp(ctx context.Context, app paas.App) error {
	ctx, cancel := context.WithTimeout(ctx, 4*storeLimit)
	defer cancel()
	if err := l.opts.Logs.Remove(ctx, app.Name); err != nil {
		return fmt.Errorf("remove logs of %s: %w", app.Name, err)
	}
	images, err := l.opts.Driver.Images(ctx)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, ref := range images {
		if !strings.HasPrefix(ref, imagePrefix(app.ID)) {
			continue
		}
		if err := l.opts.Driver.RemoveImage(ctx, ref); err != nil {
			return fmt.Errorf("remove image %s: %w", ref, err)
		}
	}
	keys, err := l.opts.Store.RemoveApp(ctx, app.ID)
	if err != nil {
		return fmt.Errorf("remove app %s: %w", app.Name, err)
	}
	l.opts.Log.Info("app removed", "app", app.Name, "id", app.ID, "objects", len(keys))
	l.deleteBlobs(ctx, keys)
	return nil
}

// imagePrefix is what all image refs of an app begin with.
func imagePrefix(appID string) string {
	return strings.TrimSuffix(paas.ImageRef(appID, 0), "b0")
}

// deleteBlobs deletes objects that nothing refers to. Its errors only cost space.
func (l *Loop) deleteBlobs(ctx context.Context, keys []string) {
	for _, key := range keys {
		if err := l.opts.Blobs.Delete(ctx, key); err != nil {
			l.opts.Log.Warn("orphan object not deleted", "key", key, "err", err)
		}
	}
}
