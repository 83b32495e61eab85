package reconcile

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

var (
	simSeed      = flag.Uint64("sim.seed", 0, "run only the history with this seed")
	simHistories = flag.Int("sim.histories", 2000, "random histories to run")
)

// fate is what all instances of one deployment do.
type fate struct {
	startErr  error
	healthyIn time.Duration // < 0: never
	exitAfter time.Duration // 0: never
	sickAfter time.Duration // 0: never
}

// simInstance is the truth about an instance.
type simInstance struct {
	status driver.Status
	sick   bool
	grace  time.Duration
}

// simRouter is one router process.
type simRouter struct {
	epoch, version int
	table          map[string]bool
	lag            time.Duration
	due            time.Time // when it applies the newest table
	inFlight       map[string]time.Time
}

// simWorld is a machine, its routers and a store in a time of its own. It
// implements paas.Router for the core under test.
type simWorld struct {
	t         *testing.T
	seed      uint64
	rnd       *rand.Rand
	now       time.Time
	store     *memStore
	core      *core
	fates     map[int64]fate
	instances map[string]*simInstance
	routers   []*simRouter

	epoch, version int
	table          []paas.RouteTable
	content        string

	running []simTask
	reads   []func() // reads under way, delivered at the next tick
	calm    bool
	listBad time.Time
	trace   []string
}

type simTask struct {
	task task
	due  time.Time
}

func newSimWorld(t *testing.T, seed uint64) *simWorld {
	w := &simWorld{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), now: noon, fates: map[int64]fate{}, instances: map[string]*simInstance{}, epoch: 1,
	}
	w.store = newMemStore(func() time.Time { return w.now })
	for range 1 + w.rnd.IntN(2) {
		w.routers = append(w.routers, &simRouter{lag: w.ms(1, 400), table: map[string]bool{}, inFlight: map[string]time.Time{}})
	}
	w.core = newCore(Policy{}, w, slog.New(slog.DiscardHandler))
	return w
}

func (w *simWorld) ms(low, high int) time.Duration {
	return time.Duration(low+w.rnd.IntN(high-low)) * time.Millisecond
}

func (w *simWorld) log(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%6.2f  ", w.now.Sub(noon).Seconds())+fmt.Sprintf(format, args...))
}

func (w *simWorld) fail(format string, args ...any) {
	w.t.Helper()
	from := max(0, len(w.trace)-80)
	w.t.Fatalf("seed %d at %.2f s: %s\n%s", w.seed, w.now.Sub(noon).Seconds(), fmt.Sprintf(format, args...), strings.Join(w.trace[from:], "\n"))
}

// ---- paas.Router

func (w *simWorld) Publish(_ context.Context, apps []paas.RouteTable) (uint64, error) {
	content := fmt.Sprint(apps)
	if w.version > 0 && content == w.content {
		return uint64(w.version), nil
	}
	w.checkTable(apps)
	w.version, w.table, w.content = w.version+1, apps, content
	w.log("table %d: %s", w.version, endpoints(apps))
	for _, r := range w.routers {
		r.due = w.now.Add(r.lag)
	}
	return uint64(w.version), nil
}

func (w *simWorld) Acked(version uint64) bool {
	for _, r := range w.routers {
		if r.epoch != w.epoch || r.version < int(version) {
			return false
		}
	}
	return true
}

func (w *simWorld) InFlight(id string) (n int) {
	for _, r := range w.routers {
		if _, ok := r.inFlight[id]; ok {
			n++
		}
	}
	return n
}

func (w *simWorld) Reports() []paas.SeenRouter { return nil }
func (w *simWorld) Changed() <-chan struct{}   { return nil }

// checkTable holds what must be true of every new table.
func (w *simWorld) checkTable(apps []paas.RouteTable) {
	for _, t := range apps {
		in := map[string]bool{}
		for _, e := range t.Endpoints {
			in[e.Instance] = true
			switch {
			case slices.ContainsFunc(w.running, func(t simTask) bool { return t.task.stop == e.Instance }):
				w.fail("%s is being stopped and in the table", e.Instance)
			case !w.core.health[e.Instance].Was:
				w.fail("%s was never healthy and is in the table", e.Instance)
			}
		}
		w.checkCapacity(t, in)
	}
}

// checkCapacity: instances that served well serve on until N do.
func (w *simWorld) checkCapacity(t paas.RouteTable, in map[string]bool) {
	i := slices.IndexFunc(w.core.work, func(a paas.AppWork) bool { return a.App.ID == t.AppID })
	a := w.core.work[i]
	if a.App.Stopped || a.Live == nil && a.Active == nil {
		return
	}
	before, after := 0, 0
	for id, s := range w.core.statuses {
		if s.AppID != t.AppID || !s.Running || !w.core.health[id].Healthy || w.core.stopping[id] {
			continue
		}
		if w.core.routing.routed[id] {
			before++
		}
		if in[id] {
			after++
		}
	}
	if after < min(before, a.App.Instances) {
		w.fail("%s: %d healthy in the table, were %d of %d wanted", t.App, after, before, a.App.Instances)
	}
}

// ---- the machine

// stop ends an instance; this is where the promise to visitors is checked.
func (w *simWorld) stop(id string) {
	s := w.instances[id]
	if s == nil {
		return
	}
	for i, r := range w.routers {
		if r.table[id] {
			w.fail("%s is stopped while router %d routes to it", id, i)
		}
		if since, ok := r.inFlight[id]; ok && s.status.Running && w.now.Sub(since) < defaultDrain {
			w.fail("%s is stopped with a request in flight for %s", id, w.now.Sub(since))
		}
	}
}

func (w *simWorld) carryOut(t task) {
	due := w.now.Add(w.ms(1, 300))
	if t.stop != "" {
		w.stop(t.stop)
		if s := w.instances[t.stop]; s != nil {
			due = due.Add(s.grace)
		}
	}
	w.running = append(w.running, simTask{t, due})
	w.log("do %s", t.key)
}

func (w *simWorld) complete(t task) done {
	d := done{task: t}
	if !w.calm && w.rnd.IntN(20) == 0 {
		d.err = driver.ErrUnavailable
		w.log("fails: %s", t.key)
		return d
	}
	ctx := context.Background()
	switch {
	case t.start != nil:
		d.status, d.err = w.start(*t.start)
	case t.stop != "":
		delete(w.instances, t.stop)
	case t.move != nil:
		var f *paas.Failure
		if t.move.Cause != nil {
			f = &paas.Failure{Message: explain(*t.move.Cause, t.move.release, Evidence{Now: w.now}).Message}
		}
		moved, _ := w.store.MoveDeployment(ctx, t.move.Deployment.ID, t.move.Deployment.State, t.move.To, t.move.WatchUntil, f)
		w.log("moved %s: %v", describe(t.move.Move), moved)
	case t.remove:
		_, _ = w.store.RemoveApp(ctx, t.app.ID)
	}
	return d
}

func (w *simWorld) start(s driver.Spec) (driver.Status, error) {
	f := w.fates[s.Deployment]
	if f.startErr != nil {
		return driver.Status{}, f.startErr
	}
	i, ok := w.instances[s.ID]
	if !ok {
		i = &simInstance{status: driver.Status{
			ID: s.ID, AppID: s.AppID, AppName: s.AppName, Deployment: s.Deployment, Release: s.Release, Slot: s.Slot, Attempt: s.Attempt,
			Type: s.Type, Running: true, Addr: "10.0.0.1:8080", StartedAt: w.now,
		}}
		if w.rnd.IntN(5) == 0 {
			i.grace = w.ms(1, 12000)
		}
		w.instances[s.ID] = i
	}
	return i.status, nil
}

// live lets instances live as their fate says and probes them.
func (w *simWorld) live() {
	for _, id := range slices.Sorted(maps.Keys(w.instances)) {
		i := w.instances[id]
		up, f := w.now.Sub(i.status.StartedAt), w.fates[i.status.Deployment]
		if !i.status.Running {
			continue
		}
		if f.exitAfter > 0 && up >= f.exitAfter {
			w.exit(i)
			continue
		}
		bad := i.sick || f.healthyIn < 0 || up < f.healthyIn || f.sickAfter > 0 && up > f.sickAfter
		if _, aimed := w.core.checks[id]; aimed {
			a := answer{ok: !bad, connected: true, text: "asked", bad: "GET / answered 500"}
			w.core.probed(id, a)
		}
	}
}

func (w *simWorld) exit(i *simInstance) {
	w.log("%s exits", i.status.ID)
	i.status.Running, i.status.ExitedAt, i.status.ExitCode, i.status.Addr = false, w.now, 1, ""
}

// route lets routers apply tables, begin requests and end them.
func (w *simWorld) route() {
	for _, r := range w.routers {
		if w.version > 0 && !r.due.IsZero() && !w.now.Before(r.due) {
			r.epoch, r.version, r.due = w.epoch, w.version, time.Time{}
			r.table = map[string]bool{}
			for _, t := range w.table {
				for _, e := range t.Endpoints {
					r.table[e.Instance] = true
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(r.inFlight)) {
			if w.rnd.IntN(20) == 0 || w.instances[id] == nil || !w.instances[id].status.Running {
				delete(r.inFlight, id)
			}
		}
		for id := range r.table {
			if i := w.instances[id]; i != nil && i.status.Running {
				r.inFlight[id] = w.now // a router always has some request to what it routes to
			}
		}
	}
}

// tick moves the world by d and lets the core act.
func (w *simWorld) tick(d time.Duration) {
	w.now = w.now.Add(d)
	w.live()
	w.route()
	due := func(t simTask) bool { return !w.now.Before(t.due) }
	for _, t := range w.running {
		if due(t) {
			w.core.finish(w.complete(t.task), w.now)
		}
	}
	w.running = slices.DeleteFunc(w.running, due)
	for _, deliver := range w.reads {
		deliver()
	}
	w.reads = w.reads[:0]
	w.read()
	tasks, next := w.core.step(context.Background(), w.now)
	if !next.IsZero() && !next.After(w.now) {
		w.fail("looks again at %s, which is not in the future", next)
	}
	for _, t := range tasks {
		w.carryOut(t)
	}
}

// read takes a reading now that the core gets a tick later, stale by then.
func (w *simWorld) read() {
	began := w.core.seq
	c := w.core
	if work, err := w.store.Work(context.Background()); err == nil {
		w.reads = append(w.reads, func() {
			if c == w.core {
				c.setWork(work, began)
			}
		})
	}
	if w.now.Before(w.listBad) {
		return
	}
	var list []driver.Status
	for _, i := range w.instances {
		list = append(list, i.status)
	}
	w.reads = append(w.reads, func() {
		if c == w.core {
			c.setList(list, began)
		}
	})
}

// restart is a killed server: everything the core knew is gone, steps under way
// are cut off, the routers serve what they have.
func (w *simWorld) restart() {
	w.log("server restarts")
	w.epoch, w.version, w.running, w.reads = w.epoch+1, 0, nil, nil
	w.core = newCore(Policy{}, w, slog.New(slog.DiscardHandler))
}

var errRunc = errors.New("runc: cannot create")

func (w *simWorld) randomFate() fate {
	f := fate{healthyIn: w.ms(1, 3000)}
	switch w.rnd.IntN(10) {
	case 0:
		f.healthyIn = -1
	case 1:
		f.exitAfter = w.ms(1, 2000)
	case 2:
		f.exitAfter = w.ms(3000, 14000)
	case 3:
		f.sickAfter = w.ms(3000, 14000)
	case 4:
		f.startErr = errRunc
	}
	return f
}

// disturb does one thing that users or fate might do.
func (w *simWorld) disturb() {
	app := w.store.apps[w.rnd.IntN(len(w.store.apps))]
	switch w.rnd.IntN(12) {
	case 0, 1, 2:
		id := w.store.deploy(app.Name, paas.Release{ImageRef: "img", Command: []string{"run"}})
		w.fates[id] = w.randomFate()
		w.log("deploy %d of %s: %+v", id, app.Name, w.fates[id])
	case 3:
		if n := len(w.store.deployments); n > 0 {
			w.store.cancel(int64(n))
			w.log("cancel %d", n)
		}
	case 4, 5:
		n := w.rnd.IntN(7)
		w.store.change(app.Name, func(a *paas.App) { a.Instances = n })
		w.log("scale %s to %d", app.Name, n)
	case 6:
		w.store.change(app.Name, func(a *paas.App) { a.Stopped = !a.Stopped })
		w.log("stopped of %s flips", app.Name)
	case 7, 8:
		w.disturbInstance()
	case 9:
		w.restart()
	case 10:
		w.listBad = w.now.Add(w.ms(1, 4000))
	case 11:
		r := w.routers[w.rnd.IntN(len(w.routers))]
		r.due, r.lag = w.now.Add(r.lag), w.ms(1, 2000)
	}
}

func (w *simWorld) disturbInstance() {
	all := slices.Sorted(maps.Keys(w.instances))
	if len(all) == 0 {
		return
	}
	i := w.instances[all[w.rnd.IntN(len(all))]]
	if !i.status.Running {
		return
	}
	if w.rnd.IntN(2) == 0 {
		w.exit(i)
		return
	}
	i.sick = !i.sick
	w.log("%s sick: %v", i.status.ID, i.sick)
}

// settled says what still differs from what is stored; "" = nothing.
func (w *simWorld) settled() string {
	for _, d := range w.store.deployments {
		if !d.State.Final() {
			return fmt.Sprintf("deployment %d is %s", d.ID, d.State)
		}
	}
	want := map[string]bool{}
	for _, a := range w.store.apps {
		if a.Stopped || a.LiveDeployment == 0 {
			continue
		}
		for slot := 1; slot <= a.Instances; slot++ {
			want[fmt.Sprintf("%s-%d-%d", a.Name, a.LiveDeployment, slot)] = true
		}
	}
	have := map[string]bool{}
	for id, i := range w.instances {
		have[id[:strings.LastIndexByte(id, '-')]] = true
		f := w.fates[i.status.Deployment]
		if loops := f.exitAfter > 0 || f.startErr != nil; !loops && !i.status.Running {
			return id + " has exited"
		}
	}
	for slot := range want {
		if f := w.fates[deploymentOf(slot)]; f.startErr == nil && !have[slot] {
			return slot + " is missing"
		}
	}
	for slot := range have {
		if !want[slot] && !w.servesForBroken(slot) {
			return slot + " is too much"
		}
	}
	return ""
}

// servesForBroken: the live release cannot serve, so whatever still does goes on.
func (w *simWorld) servesForBroken(slot string) bool {
	a := w.store.app(slot[:strings.IndexByte(slot, '-')])
	f := w.fates[a.LiveDeployment]
	broken := f.startErr != nil || f.healthyIn < 0 || f.exitAfter > 0 || f.sickAfter > 0
	return broken && !a.Stopped && a.Instances > 0
}

func deploymentOf(slot string) int64 {
	var id int64
	parts := strings.Split(slot, "-")
	_, _ = fmt.Sscan(parts[len(parts)-2], &id)
	return id
}

func endpoints(apps []paas.RouteTable) string {
	var b strings.Builder
	for _, t := range apps {
		for _, e := range t.Endpoints {
			b.WriteString(" " + e.Instance)
		}
	}
	return b.String()
}

func runHistory(t *testing.T, seed uint64) {
	w := newSimWorld(t, seed)
	for i := range 1 + w.rnd.IntN(2) {
		w.store.addApp(fmt.Sprintf("app%d", i), w.rnd.IntN(6))
	}
	for range 10 + w.rnd.IntN(20) {
		if w.rnd.IntN(3) == 0 {
			w.disturb()
		}
		for range 1 + w.rnd.IntN(20) {
			w.tick(w.ms(5, 150))
		}
	}
	w.calm = true
	for _, i := range w.instances {
		i.sick = false
	}
	w.log("calm")
	for deadline := w.now.Add(5 * time.Minute); w.settled() != ""; {
		if w.now.After(deadline) {
			w.fail("not settled after 5 minutes: %s", w.settled())
		}
		w.tick(200 * time.Millisecond)
	}
	for range 20 { // it stays so
		w.tick(200 * time.Millisecond)
	}
	if s := w.settled(); s != "" && !strings.Contains(s, "missing") {
		w.fail("settled, then: %s", s)
	}
}

func TestCore_RandomHistories_KeepPromises(t *testing.T) {
	if *simSeed != 0 {
		runHistory(t, *simSeed)
		return
	}
	for seed := range uint64(*simHistories) {
		runHistory(t, seed+1)
	}
}
