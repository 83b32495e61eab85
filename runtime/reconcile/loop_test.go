package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ackRouter applies every table at once.
type ackRouter struct {
	mu      sync.Mutex
	version uint64
	tables  []paas.RouteTable
	history []string
	changed chan struct{}
}

func newAckRouter() *ackRouter { return &ackRouter{changed: make(chan struct{})} }

func (r *ackRouter) Publish(_ context.Context, apps []paas.RouteTable) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.version > 0 && fmt.Sprint(r.tables) == fmt.Sprint(apps) {
		return r.version, nil
	}
	r.version, r.tables = r.version+1, apps
	r.history = append(r.history, endpoints(apps))
	close(r.changed)
	r.changed = make(chan struct{})
	return r.version, nil
}
func (r *ackRouter) Acked(v uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return v <= r.version
}
func (r *ackRouter) InFlight(string) int        { return 0 }
func (r *ackRouter) Reports() []paas.SeenRouter { return nil }
func (r *ackRouter) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *ackRouter) serving(app string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []string{}
	for _, t := range r.tables {
		for _, e := range t.Endpoints {
			if t.App == app {
				list = append(list, e.Instance)
			}
		}
	}
	return list
}

// objects is an object store and a log store that only note what is deleted.
type objects struct {
	mu      sync.Mutex
	deleted []string
}

func (o *objects) note(s string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deleted = append(o.deleted, s)
	return nil
}
func (o *objects) Delete(_ context.Context, key string) error { return o.note("object " + key) }
func (o *objects) Sweep(context.Context, time.Time) error     { return nil }
func (o *objects) Remove(_ context.Context, app string) error { return o.note("logs " + app) }

// rig is a Loop over a fake machine.
type rig struct {
	*testing.T
	store   *memStore
	driver  *fake.Driver
	router  *ackRouter
	objects *objects
	loop    *Loop
	stop    func()

	mu    sync.Mutex
	fates map[int64]fake.Behaviour // by deployment
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, store: newMemStore(time.Now), router: newAckRouter(), objects: &objects{}, fates: map[int64]fake.Behaviour{}}
	r.driver = fake.New(func(s driver.Spec) fake.Behaviour {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.fates[s.Deployment]
	})
	r.driver.AddImage("img")
	r.store.images["img"] = true
	t.Cleanup(r.driver.Close)
	r.start(r.driver)
	return r
}

// start runs a Loop, as a server that comes up does.
func (r *rig) start(d driver.Driver) {
	r.Helper()
	l, err := New(Options{
		Store: r.store, Driver: d, Router: r.router, Blobs: r.objects, Logs: r.objects, Holder: "test",
		Policy:   Policy{Watch: 400 * time.Millisecond, Drain: time.Second},
		Tail:     func(context.Context, string, string, int) []string { return []string{"boom"} },
		Interval: 200 * time.Millisecond, StatsEvery: 20 * time.Millisecond, SweepEvery: 50 * time.Millisecond,
	})
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	r.loop, r.stop = l, func() { cancel(); <-done }
	r.Cleanup(r.stop)
}

func (r *rig) deploy(app string, b fake.Behaviour) int64 {
	r.mu.Lock()
	r.fates[int64(len(r.store.deployments)+1)] = b
	r.mu.Unlock()
	return r.store.deploy(app, paas.Release{
		ImageRef: "img", Command: []string{"run"}, Health: paas.HealthCheck{StartupTime: 600 * time.Millisecond, Interval: 100 * time.Millisecond},
	})
}

func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for ; !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("waited 15 s for %s; tables %v, deployments %+v", what, r.router.history, r.store.deployments)
		}
	}
}

func (r *rig) untilState(id int64, state paas.DeploymentState) paas.Deployment {
	r.Helper()
	r.until(fmt.Sprintf("deployment %d to be %s", id, state), func() bool { return r.store.get(id).State == state })
	return r.store.get(id)
}

func (r *rig) untilServing(app string, ids ...string) {
	r.Helper()
	r.until(fmt.Sprintf("%s to be served by %v", app, ids), func() bool { return slices.Equal(r.router.serving(app), ids) })
}

func (r *rig) untilRuns(ids ...string) {
	r.Helper()
	r.until(fmt.Sprintf("%v to be all that exists", ids), func() bool {
		list, err := r.driver.List(context.Background())
		var have []string
		for _, s := range list {
			have = append(have, s.ID)
		}
		return err == nil && slices.Equal(have, ids)
	})
}

func TestLoop_DeployAndRedeploy_SwapsAndCleansUp(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	r.untilServing("hello", "hello-1-1-0")

	began := time.Now()
	id := r.deploy("hello", fake.Behaviour{})
	r.untilServing("hello", "hello-2-1-0")
	t.Logf("redeploy served after %s", time.Since(began).Round(time.Millisecond))
	r.untilState(id, paas.DeploymentLive)
	r.untilState(id, paas.DeploymentSucceeded)
	r.untilRuns("hello-2-1-0")
	served := slices.Index(r.router.history, " hello-1-1-0")
	if slices.Contains(r.router.history[served:], "") {
		t.Errorf("a table without an instance: %v", r.router.history)
	}
}

func TestLoop_WrongPort_FailsWithThePortAndOldStays(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	d := r.untilState(r.deploy("hello", fake.Behaviour{NoListen: true, ListenOn: []string{"127.0.0.1:3000"}}), paas.DeploymentFailed)
	want := paas.Failure{Code: "never_listened", Message: "listened on 127.0.0.1:3000, expected 0.0.0.0:8080 (PORT)"}
	if d.Failure.Code != want.Code || d.Failure.Message != want.Message || !slices.Equal(d.Failure.Output, []string{"boom"}) {
		t.Errorf("failure = %+v, want %+v with the output", d.Failure, want)
	}
	r.untilRuns("hello-1-1-0")
	for _, table := range r.router.history {
		if strings.Contains(table, "hello-2") {
			t.Errorf("the bad release took traffic: %v", r.router.history)
		}
	}
}

func TestLoop_Answers500_FailsWithTheCount(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	d := r.untilState(r.deploy("hello", fake.Behaviour{Handler: fake.Answer(500)}), paas.DeploymentFailed)
	if !strings.HasPrefix(d.Failure.Message, "GET / answered 500, ") || !strings.HasSuffix(d.Failure.Message, " times in 0.6 s; expected below 500") {
		t.Errorf("message = %q", d.Failure.Message)
	}
	r.untilRuns()
	r.until("the router to know why", func() bool {
		r.router.mu.Lock()
		defer r.router.mu.Unlock()
		return strings.Contains(r.router.tables[0].NoInstance, "its first deployment failed: GET / answered 500")
	})
}

func TestLoop_CrashInWatch_BringsOldBack(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 2)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	d := r.untilState(r.deploy("hello", fake.Behaviour{Exit: &fake.Exit{After: 250 * time.Millisecond, Code: 3}}), paas.DeploymentFailed)
	if !strings.Contains(d.Failure.Message, "with exit code 3; release 1 is back") && !strings.Contains(d.Failure.Message, "exited with code 3") {
		t.Errorf("message = %q", d.Failure.Message)
	}
	r.untilServing("hello", "hello-1-1-0", "hello-1-2-0")
	r.untilRuns("hello-1-1-0", "hello-1-2-0")
}

func TestLoop_KilledInstance_RestartsAtOnceWithEvent(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	began := time.Now()
	r.driver.Exit("hello-1-1-0", 137)
	r.untilServing("hello", "hello-1-1-1")
	if took := time.Since(began); took > time.Second {
		t.Errorf("restarted after %s, want at most 1 s", took)
	}
	r.untilRuns("hello-1-1-1")
	r.until("the event", func() bool {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		return slices.ContainsFunc(r.store.events, func(e paas.Event) bool {
			return e.Kind == "instance.crashed" && strings.Contains(e.Message, "exit code 137 (SIGKILL); last line: boom")
		})
	})
}

func TestLoop_Restart_KeepsInstancesAndTable(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 2)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	before, _ := r.driver.List(t.Context())
	r.stop()
	r.router = newAckRouter()
	r.start(r.driver.Reopen())
	r.until("a table", func() bool { return len(r.router.serving("hello")) > 0 })
	if got := r.router.history[0]; got != " hello-1-1-0 hello-1-2-0" {
		t.Errorf("first table = %q, want both instances", got)
	}
	after, _ := r.driver.List(t.Context())
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("instances changed:\n%v\n%v", before, after)
	}
}

func TestLoop_SlowStop_HoldsUpNobody(t *testing.T) {
	r := newRig(t)
	r.store.addApp("slow", 1)
	r.store.addApp("quick", 1)
	r.untilState(r.deploy("slow", fake.Behaviour{IgnoreTERM: true}), paas.DeploymentSucceeded)
	r.store.change("slow", func(a *paas.App) { a.Stopped = true }) // takes the grace of 10 s
	r.until("the drain", func() bool { return len(r.router.serving("slow")) == 0 })
	began := time.Now()
	r.deploy("quick", fake.Behaviour{})
	r.untilServing("quick", "quick-2-1-0")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("another app was served after %s", took)
	}
}

func TestLoop_ScaleUp_StartsSeveralAtATime(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{StartDelay: 200 * time.Millisecond}), paas.DeploymentSucceeded)
	began := time.Now()
	r.store.change("hello", func(a *paas.App) { a.Instances = 10 })
	r.until("10 to serve", func() bool { return len(r.router.serving("hello")) == 10 })
	if took := time.Since(began); took > 1200*time.Millisecond {
		t.Errorf("1 → 10 took %s, want two rounds of 200 ms", took)
	}
	r.store.change("hello", func(a *paas.App) { a.Instances = 1 })
	r.untilRuns("hello-1-1-0")
}

func TestLoop_ListFails_NothingIsDone(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	r.driver.FailList(driver.ErrUnavailable)
	r.driver.Disconnect()
	r.loop.Wake()
	id := r.deploy("hello", fake.Behaviour{})
	r.untilState(id, paas.DeploymentSucceeded) // what is known still allows to go on
	r.driver.FailList(nil)
	r.untilRuns("hello-2-1-0")
}

func TestLoop_StoreLostItsApps_LeavesInstancesAlone(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	r.stop()
	r.store.commit(func() { r.store.apps, r.store.images = nil, map[string]bool{} })
	r.start(r.driver.Reopen())
	r.until("the stranger to be listed", func() bool {
		list, err := r.loop.Instances(t.Context(), "")
		return err == nil && len(list) == 1
	})
	c := r.loop
	r.stop()
	suspects := map[string]bool{"img": true}
	for range 2 {
		suspects = c.sweepOnce(t.Context(), suspects)
	}
	if images, err := r.driver.Images(t.Context()); err != nil || !slices.Contains(images, "img") {
		t.Errorf("images = %v, %v: that of the stranger must stay", images, err)
	}
	tasks, _ := c.core.step(t.Context(), time.Now().Add(time.Hour))
	if len(tasks) != 0 {
		t.Errorf("tasks = %+v, want none", tasks)
	}
	c.core.confirmUnknown = true
	tasks, _ = c.core.step(t.Context(), time.Now().Add(2*time.Hour))
	if len(tasks) != 1 || tasks[0].stop != "hello-1-1-0" {
		t.Errorf("tasks once confirmed = %+v, want the stop", tasks)
	}
}

func TestLoop_Destroy_RemovesEverything(t *testing.T) {
	r := newRig(t)
	ref := paas.ImageRef("id-hello", 1)
	r.driver.AddImage(ref)
	r.store.commit(func() { r.store.images[ref] = true })
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	r.store.change("hello", func(a *paas.App) { a.Deleting = true })
	r.untilRuns()
	r.until("logs and objects to go", func() bool {
		r.objects.mu.Lock()
		defer r.objects.mu.Unlock()
		return slices.Equal(r.objects.deleted, []string{"logs hello", "object archives/id-hello"})
	})
	if images, _ := r.driver.Images(t.Context()); slices.Contains(images, ref) {
		t.Errorf("images = %v", images)
	}
	if n := len(r.store.apps); n != 0 {
		t.Errorf("%d apps are left", n)
	}
}

func TestLoop_Sweep_RemovesImagesUnusedTwice(t *testing.T) {
	r := newRig(t)
	r.store.commit(func() { r.store.images["used"] = true })
	r.driver.AddImage("used", "unused")
	r.until("the unused image to go", func() bool {
		images, _ := r.driver.Images(t.Context())
		return slices.Equal(images, []string{"img", "used"})
	})
}

func TestLoop_InstancesAndExec(t *testing.T) {
	r := newRig(t)
	if _, err := r.loop.Exec(t.Context(), "nobody", paas.ExecRequest{Args: []string{"id"}}); paas.CodeOf(err) != paas.CodeNotFound {
		t.Errorf("exec in an absent instance: %v, want not_found", err)
	}
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{Exec: func(_ context.Context, _ driver.Spec, q paas.ExecRequest) (int, error) {
		_, err := io.WriteString(q.Stdout, strings.Join(q.Args, " "))
		return 7, err
	}}), paas.DeploymentSucceeded)
	var out strings.Builder
	code, err := r.loop.Exec(t.Context(), "hello-1-1-0", paas.ExecRequest{Args: []string{"echo", "x"}, Stdout: &out})
	if code != 7 || err != nil || out.String() != "echo x" {
		t.Errorf("exec = %d, %v, %q", code, err, out.String())
	}
	r.until("a sample", func() bool {
		list, err := r.loop.Instances(t.Context(), "id-hello")
		return err == nil && len(list) == 1 && list[0].State == paas.InstanceHealthy && list[0].MemoryUsed == 1<<20 &&
			strings.HasPrefix(list[0].Probe, "GET / answered 200 in ")
	})
}

func TestLoop_StoreFails_KeepsServing(t *testing.T) {
	r := newRig(t)
	r.store.addApp("hello", 1)
	r.untilState(r.deploy("hello", fake.Behaviour{}), paas.DeploymentSucceeded)
	r.store.change("hello", func(a *paas.App) { a.Instances = 2 })
	r.untilServing("hello", "hello-1-1-0", "hello-1-2-0") // so the loop has read that the watch is over
	r.store.commit(func() { r.store.failing = errors.New("disk I/O error") })
	r.driver.Exit("hello-1-1-0", 1)
	r.untilServing("hello", "hello-1-1-1", "hello-1-2-0")
}
