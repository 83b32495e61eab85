package reconcile

import (
	"context"
	"sync"
	"time"
)

const (
	startingFirst = 20 * time.Millisecond
	startingMax   = 250 * time.Millisecond
	// watchedInterval is the pace while something is in doubt: after a bad answer
	// and while a new release is under watch.
	watchedInterval = time.Second
)

// prober asks each target over and over, one goroutine per instance, and reports
// every answer.
type prober struct {
	report func(id string, a answer)
	ask    func(ctx context.Context, t target) answer

	wg sync.WaitGroup
	mu sync.Mutex
	by map[string]*probing
}

// probing is one instance's goroutine; mu of the prober guards target.
type probing struct {
	target target
	cancel context.CancelFunc
	hurry  chan struct{} // the target changed: the pace may have
}

func newProber(report func(id string, a answer)) *prober {
	return &prober{report: report, ask: probe, by: map[string]*probing{}}
}

// set makes targets the ones that are probed; known ones keep their history.
func (p *prober) set(ctx context.Context, targets map[string]target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, g := range p.by {
		t, ok := targets[id]
		if !ok || t.addr != g.target.addr || !t.started.Equal(g.target.started) {
			g.cancel()
			delete(p.by, id)
		}
	}
	for id, t := range targets {
		g, ok := p.by[id]
		if !ok {
			gctx, cancel := context.WithCancel(ctx)
			g = &probing{target: t, cancel: cancel, hurry: make(chan struct{}, 1)}
			p.by[id] = g
			p.wg.Go(func() { p.run(gctx, id, g) })
			continue
		}
		if t != g.target {
			g.target = t
			select {
			case g.hurry <- struct{}{}:
			default:
			}
		}
	}
}

// wait blocks until every goroutine has ended; the context given to set must be
// over.
func (p *prober) wait() { p.wg.Wait() }

func (p *prober) run(ctx context.Context, id string, g *probing) {
	starting, healthy := startingFirst, false
	for {
		p.mu.Lock()
		t := g.target
		p.mu.Unlock()
		asked := time.Now()
		a := p.ask(ctx, t)
		if ctx.Err() != nil {
			return
		}
		p.report(id, a)
		healthy = healthy || a.ok
		var pause time.Duration
		switch {
		case !healthy:
			pause = starting
			starting = min(starting*5/4, startingMax)
		default:
			pause = p.pace(g, a.ok)
		}
		if !p.pause(ctx, g, asked, pause, a.ok) {
			return
		}
	}
}

// pace is the time between probes of an instance that has been healthy.
func (p *prober) pace(g *probing, ok bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	interval := g.target.check.Interval
	if interval == 0 {
		interval = defaultInterval
	}
	if !ok || g.target.eager {
		return min(interval, watchedInterval)
	}
	return interval
}

// pause waits, or less if the target changed to a quicker pace meanwhile.
func (p *prober) pause(ctx context.Context, g *probing, asked time.Time, d time.Duration, ok bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-g.hurry:
			if quicker := p.pace(g, ok); quicker < d {
				timer.Reset(max(0, quicker-time.Since(asked)))
			}
		}
	}
}
