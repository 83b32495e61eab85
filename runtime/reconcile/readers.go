package reconcile

import (
	"context"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// holdLease keeps this server the one that acts. A store that does not answer
// ends the lease only when its time is over.
func (l *Loop) holdLease(ctx context.Context) {
	var until time.Time
	defer l.leading.Store(false)
	for {
		asked := time.Now()
		rctx, cancel := context.WithTimeout(ctx, leaseEvery)
		ok, err := l.opts.Store.Leader(rctx, leaseName, l.opts.Holder, leaseTTL)
		cancel()
		if ctx.Err() != nil {
			return
		}
		pause := leaseEvery
		switch {
		case err != nil:
			l.opts.Log.Warn("lease not renewed", "lease", leaseName, "err", err)
			pause = time.Second
		case ok:
			until = asked.Add(leaseTTL)
		default:
			until = time.Time{}
		}
		if leads := asked.Before(until); leads != l.leading.Swap(leads) {
			l.opts.Log.Info("lease changed", "lease", leaseName, "holder", l.opts.Holder, "leading", leads)
			poke(l.leased)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// readWorks reads what is stored at each commit, each Wake and each interval.
// What it cannot read is unknown: the last answer stays.
func (l *Loop) readWorks(ctx context.Context) {
	for {
		changed, began := l.opts.Store.Changed(), l.seq.Load()
		rctx, cancel := context.WithTimeout(ctx, readLimit)
		work, err := l.opts.Store.Work(rctx)
		if err == nil {
			r := worksRead{work: work, notes: l.notes(rctx, work), began: began}
			select {
			case l.works <- r:
			case <-ctx.Done():
			}
		} else if ctx.Err() == nil {
			l.opts.Log.Warn("store not read, nothing is changed meanwhile", "err", err)
		}
		cancel()
		if !waitFor(ctx, l.opts.Interval, changed, l.readWork) {
			return
		}
	}
}

// notes looks up why apps that never came up have not.
func (l *Loop) notes(ctx context.Context, work []paas.AppWork) map[string]string {
	notes := map[string]string{}
	for _, w := range work {
		if w.Live != nil || w.Active != nil || w.App.Deleting {
			continue
		}
		list, err := l.opts.Store.Deployments(ctx, w.App.Name, 1)
		if err != nil || len(list) == 0 || list[0].Failure == nil {
			continue // the sentence is a courtesy
		}
		notes[w.App.ID] = "its first deployment failed: " + list[0].Failure.Message
	}
	return notes
}

// readLists lists what runs at each hint, after each step and each interval.
func (l *Loop) readLists(ctx context.Context) {
	for {
		began := l.seq.Load()
		rctx, cancel := context.WithTimeout(ctx, readLimit)
		list, err := l.opts.Driver.List(rctx)
		cancel()
		if err == nil {
			select {
			case l.lists <- listRead{list, began}:
			case <-ctx.Done():
			}
		} else if ctx.Err() == nil {
			l.opts.Log.Warn("instances not listed, nothing is changed meanwhile", "err", err)
		}
		if !waitFor(ctx, l.opts.Interval, nil, l.readList) {
			return
		}
	}
}

// watchDriver turns the driver's hints into readings.
func (l *Loop) watchDriver(ctx context.Context) {
	for {
		err := l.opts.Driver.Watch(ctx, func(driver.Event) { poke(l.readList) })
		if ctx.Err() != nil {
			return
		}
		l.opts.Log.Warn("runtime's events ended, watching again", "err", err)
		poke(l.readList)
		if !sleep(ctx, 500*time.Millisecond) {
			return
		}
	}
}

func waitFor(ctx context.Context, d time.Duration, changed, asked <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-changed:
	case <-asked:
	}
	return true
}
