package router

import (
	"os"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// apply makes src the current table unless it is older than that. It reports
// whether anything changed. Requests in flight are not touched.
func (r *Router) apply(src paas.Table) bool {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	if src.Version == 0 {
		return false // nothing was published yet
	}
	old := r.table.Load()
	if old != nil && !old.saved && old.src.Epoch == src.Epoch && src.Version <= old.src.Version {
		return false
	}
	r.swap(src, false)
	r.saver.save(&src)
	r.log.Info("table applied", "epoch", src.Epoch, "version", src.Version, "apps", len(src.Apps))
	return true
}

func (r *Router) swap(src paas.Table, saved bool) {
	t, refused := newTable(src, r.instances)
	t.saved = saved
	r.table.Store(t)
	r.instances.settle(t)
	r.metrics.refused.Store(int64(len(refused)))
	for _, err := range refused {
		r.log.Error("record of the table refused", "version", src.Version, "err", err)
	}
	r.control.gotTable()
}

// report is read after the table: what it says in flight is never older than the
// version that it confirms.
func (r *Router) report() paas.RouterReport {
	rep := paas.RouterReport{
		Router: r.opt.Name, Boot: r.boot, PID: os.Getpid(), Build: r.opt.Build, Addr: r.Addr(),
		Requests: r.metrics.requests(), Errors5xx: r.metrics.ownErrors.Load(),
	}
	if t := r.table.Load(); t != nil {
		rep.Epoch, rep.Version = t.src.Epoch, t.src.Version
	}
	rep.InFlight, rep.Unhealthy = r.instances.report(time.Now())
	return rep
}
