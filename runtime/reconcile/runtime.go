package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

var _ paas.Runtime = (*Loop)(nil)

// usage is an instance's last sample.
type usage struct {
	at          time.Time
	cpuTime     time.Duration
	memoryBytes int64
	cpuMillis   int64
}

// Instances returns what was observed last, sorted by app, slot and deployment;
// appID "" = all. CodeUnavailable until the runtime has answered once.
func (l *Loop) Instances(_ context.Context, appID string) ([]paas.Instance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.instances == nil {
		return nil, paas.Errorf(paas.CodeUnavailable, "the runtime has not answered yet").WithHint("try again in a second")
	}
	list := []paas.Instance{}
	for _, i := range l.instances {
		if appID == "" || i.AppID == appID {
			u := l.usage[i.ID]
			i.MemoryUsed, i.CPUMillis = u.memoryBytes, u.cpuMillis
			list = append(list, i)
		}
	}
	return list, nil
}

// Exec runs a command inside an instance and blocks until it ends.
func (l *Loop) Exec(ctx context.Context, instanceID string, r paas.ExecRequest) (int, error) {
	code, err := l.opts.Driver.Exec(ctx, instanceID, r)
	switch {
	case errors.Is(err, driver.ErrNotFound):
		return code, paas.Errorf(paas.CodeNotFound, "instance %q does not exist", instanceID).WithCause(err)
	case errors.Is(err, driver.ErrNotRunning):
		return code, paas.Errorf(paas.CodeConflict, "instance %q is not running", instanceID).WithCause(err)
	case errors.Is(err, driver.ErrUnavailable):
		return code, paas.Errorf(paas.CodeUnavailable, "the runtime does not answer").WithHint("try again in a second").WithCause(err)
	}
	return code, err
}

// sample measures every running instance each StatsEvery.
func (l *Loop) sample(ctx context.Context) {
	for sleep(ctx, l.opts.StatsEvery) {
		l.mu.Lock()
		list := slices.Clone(l.instances)
		l.mu.Unlock()
		fresh := make(map[string]usage, len(list))
		for _, i := range list {
			if !i.ExitedAt.IsZero() || ctx.Err() != nil {
				continue
			}
			sctx, cancel := context.WithTimeout(ctx, l.opts.StatsEvery)
			s, err := l.opts.Driver.Stats(sctx, i.ID)
			cancel()
			if err != nil {
				continue // it ended meanwhile, or the runtime is away: no number is the truth
			}
			fresh[i.ID] = l.usageAfter(i.ID, s, time.Now())
		}
		l.mu.Lock()
		l.usage = fresh
		l.mu.Unlock()
	}
}

func (l *Loop) usageAfter(id string, s driver.Stats, now time.Time) usage {
	l.mu.Lock()
	old, ok := l.usage[id]
	l.mu.Unlock()
	u := usage{at: now, cpuTime: s.CPUTime, memoryBytes: s.MemoryBytes}
	if spent := s.CPUTime - old.cpuTime; ok && spent > 0 && now.After(old.at) {
		u.cpuMillis = int64(spent) * 1000 / int64(now.Sub(old.at))
	}
	return u
}
