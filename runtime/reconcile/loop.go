package reconcile

import (
	"context"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

const (
	leaseName  = "reconcile"
	leaseTTL   = 10 * time.Second
	leaseEvery = 3 * time.Second
	// startsAtOnce bounds concurrent starts: more only makes each slower.
	startsAtOnce = 8
	readLimit    = 20 * time.Second // one read of the store or of the driver
)

// Loop runs the reconciliation and implements paas.Runtime. All exported methods
// are safe for concurrent use; Run is called once.
type Loop struct {
	opts   Options
	core   *core // owned by Run's goroutine
	prober *prober
	starts chan struct{} // tokens

	works    chan worksRead
	lists    chan listRead
	answers  chan probed
	dones    chan done
	readWork chan struct{} // asks for a read
	readList chan struct{}

	seq     atomic.Int64 // core.seq, for the readers
	leading atomic.Bool
	leased  chan struct{} // the lease was won
	tasks   sync.WaitGroup

	mu        sync.Mutex
	instances []paas.Instance // nil until observed
	usage     map[string]usage
}

type worksRead struct {
	work  []paas.AppWork
	notes map[string]string
	began int64
}

type listRead struct {
	list  []driver.Status
	began int64
}

type probed struct {
	id     string
	answer answer
}

// New returns a Loop that does nothing until Run.
func New(o Options) (*Loop, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	l := &Loop{
		opts: o, core: newCore(o.Policy, o.Router, o.Log), starts: make(chan struct{}, startsAtOnce),
		works: make(chan worksRead), lists: make(chan listRead), answers: make(chan probed), dones: make(chan done),
		readWork: make(chan struct{}, 1), readList: make(chan struct{}, 1), leased: make(chan struct{}, 1),
		usage: map[string]usage{},
	}
	l.core.confirmUnknown = o.ConfirmUnknown
	return l, nil
}

// Run blocks until ctx ends and everything it began has ended. Instances go on
// running: stopping the server stops no app.
func (l *Loop) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.prober = newProber(func(id string, a answer) {
		select {
		case l.answers <- probed{id, a}:
		case <-ctx.Done():
		}
	})
	var wg sync.WaitGroup
	for _, f := range []func(context.Context){l.holdLease, l.readWorks, l.readLists, l.watchDriver, l.sample, l.sweep} {
		wg.Go(func() { l.guard(ctx, f) })
	}
	l.decide(ctx)
	cancel()
	wg.Wait()
	l.prober.wait()
	l.tasks.Wait()
	return nil
}

// guard runs a loop again after a panic: one bad step must not end the platform.
func (l *Loop) guard(ctx context.Context, f func(context.Context)) {
	for ctx.Err() == nil {
		func() {
			defer l.recovered("loop")
			f(ctx)
		}()
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

func (l *Loop) recovered(what string) {
	if v := recover(); v != nil {
		l.opts.Log.Error("panic", "in", what, "value", v, "stack", string(debug.Stack()))
	}
}

// decide is the loop proper: it owns core, takes in news and steps.
func (l *Loop) decide(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		router := l.opts.Router.Changed() // before the step, or a report in between is missed
		next := l.step(ctx)
		timer.Reset(max(0, next))
		for news := false; !news; {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
				news = true
			case <-router:
				news = true
			case <-l.leased:
				news = true
			case w := <-l.works:
				l.core.notes = w.notes
				l.core.setWork(w.work, w.began)
				news = true
			case r := <-l.lists:
				l.core.setList(r.list, r.began)
				news = true
			case p := <-l.answers:
				news = l.core.probed(p.id, p.answer)
			case d := <-l.dones:
				l.finish(d)
				news = true
			}
		}
	}
}

// step lets core decide and begins what it asks for. It returns the time until
// the next look.
func (l *Loop) step(ctx context.Context) (next time.Duration) {
	defer l.recovered("step")
	next = l.opts.Interval
	if !l.leading.Load() {
		return next
	}
	now := time.Now()
	tasks, at := l.core.step(ctx, now)
	l.prober.set(ctx, maps.Clone(l.core.checks))
	for _, t := range tasks {
		l.tasks.Go(func() { l.carryOut(ctx, t) })
	}
	if l.core.instances != nil {
		l.mu.Lock()
		l.instances = l.core.instances
		l.mu.Unlock()
	}
	if !at.IsZero() {
		next = min(next, at.Sub(now))
	}
	return next
}

func (l *Loop) finish(d done) {
	l.core.finish(d, time.Now())
	l.seq.Store(l.core.seq)
	if d.task.start != nil || d.task.stop != "" {
		poke(l.readList)
		return
	}
	poke(l.readWork)
}

// Wake asks the loop to look at everything now.
func (l *Loop) Wake() {
	poke(l.readWork)
	poke(l.readList)
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
