package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// at is noon plus seconds.
func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// obs reads "2/1 healthy routed": deployment/slot[/attempt] and flags, of an
// instance that was started at noon.
func obs(text string) Observation {
	f := strings.Fields(text)
	n := []int{0, 0, 0}
	for i, s := range strings.Split(f[0], "/") {
		n[i], _ = strconv.Atoi(s)
	}
	o := Observation{Status: driver.Status{
		ID: paas.InstanceID("hello", int64(n[0]), n[1], n[2]), AppID: "a1", AppName: "hello", Deployment: int64(n[0]),
		Release: n[0], Slot: n[1], Attempt: n[2], Type: paas.TypeWeb, Running: true, Addr: fmt.Sprintf("10.0.%d.%d:8080", n[0], n[1]),
		StartedAt: noon,
	}}
	for _, flag := range f[1:] {
		name, value, _ := strings.Cut(flag, "=")
		number, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "healthy":
			o.Health = Health{Healthy: true, Was: true}
		case "sick":
			o.Health = Health{Was: true, Failures: 3}
		case "routed":
			o.Traffic.Routed = true
		case "acked":
			o.Traffic.Routed, o.Traffic.AckedIn = true, true
		case "released":
			o.Traffic.Released, o.Traffic.ReleasedAt = true, at(number)
		case "inflight":
			o.Traffic.InFlight = int(number)
		case "exited":
			o.Running, o.ExitedAt, o.ExitCode = false, at(number), 1
		case "created":
			o.Running, o.StartedAt = false, time.Time{}
		case "stopping":
			o.Stopping = true
		case "worker":
			o.Type, o.Addr = paas.TypeWorker, ""
		default:
			panic("unknown flag " + flag)
		}
	}
	return o
}

type row struct {
	name     string
	n        int
	app      func(*paas.App)
	live     int64 // deployment; 0 = none
	active   int64 // 0 = none
	state    paas.DeploymentState
	previous int64
	now      float64 // seconds after noon
	failing  map[string]StartFailure
	observed []string

	start, stop, table, moves []string
	remove                    bool
	noTable                   bool
}

func (r row) input() Input {
	release := func(id int64) *paas.Release {
		return &paas.Release{ID: id, Number: int(id), ImageRef: "img", Command: []string{"run"}}
	}
	w := paas.AppWork{App: paas.App{ID: "a1", Name: "hello", Type: paas.TypeWeb, Instances: r.n, LiveDeployment: r.live}}
	if r.app != nil {
		r.app(&w.App)
	}
	if r.live != 0 {
		w.Live = &paas.Deployment{ID: r.live, State: paas.DeploymentSucceeded, Release: int(r.live)}
		w.LiveRelease = release(r.live)
	}
	if r.active != 0 {
		w.Active = &paas.Deployment{ID: r.active, State: r.state, Release: int(r.active), Previous: r.previous}
		w.ActiveRelease = release(r.active)
		if r.state == paas.DeploymentLive {
			w.Active.WatchUntil = at(15)
			w.Live, w.LiveRelease = w.Active, w.ActiveRelease
		}
	}
	if r.previous != 0 {
		w.Previous, w.PreviousRelease = &paas.Deployment{ID: r.previous, State: paas.DeploymentSucceeded}, release(r.previous)
	}
	in := Input{Work: w, Now: at(r.now), Policy: Policy{}.withDefaults(), Unstartable: r.failing}
	for _, o := range r.observed {
		in.Observed = append(in.Observed, obs(o))
	}
	return in
}

const (
	rollingState = paas.DeploymentRolling
	liveState    = paas.DeploymentLive
)

var desiredRows = []row{
	{name: "app without a release: nothing", n: 1},
	{name: "first deployment starts one", n: 1, active: 1, state: rollingState, start: []string{"1/1"}},
	{name: "first deployment of 4: surge 1, but nothing old takes room", n: 4, active: 1, state: rollingState, start: []string{"1/1", "1/2", "1/3", "1/4"}},
	{name: "newcomer that is not healthy stays out of the table", n: 1, active: 1, state: rollingState, observed: []string{"1/1"}},
	{name: "healthy newcomer enters the table, the move waits for the routers", n: 1, active: 1, state: rollingState,
		observed: []string{"1/1 healthy"}, table: []string{"1/1"}},
	{name: "routed but not confirmed is not live", n: 1, active: 1, state: rollingState,
		observed: []string{"1/1 healthy routed"}, table: []string{"1/1"}},
	{name: "confirmed newcomers make the deployment live", n: 1, active: 1, state: rollingState,
		observed: []string{"1/1 healthy acked"}, table: []string{"1/1"}, moves: []string{"1 rolling→live"}},
	{name: "redeploy of one: old serves while the new starts", n: 1, live: 1, active: 2, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked"}, start: []string{"2/1"}, table: []string{"1/1"}},
	{name: "redeploy of one: swap in one table, old stays warm", n: 1, live: 1, active: 2, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked", "2/1 healthy"}, table: []string{"2/1"}},
	{name: "redeploy of 4: one newcomer at first", n: 4, live: 1, active: 2, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "1/3 healthy acked", "1/4 healthy acked"},
		start:    []string{"2/1"}, table: []string{"1/1", "1/2", "1/3", "1/4"}},
	{name: "redeploy of 4: newcomer up, the old of the highest slot leaves and the next starts", n: 4, live: 1, active: 2, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "1/3 healthy acked", "1/4 healthy acked", "2/1 healthy"},
		start:    []string{"2/2"}, table: []string{"1/1", "2/1", "1/2", "1/3"}},
	{name: "old one that left is stopped once released", n: 4, live: 1, active: 2, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "1/3 healthy acked", "1/4 healthy released", "2/1 healthy acked", "2/2"},
		stop:     []string{"1/4"}, table: []string{"1/1", "2/1", "1/2", "1/3"}},
	{name: "old one that left but is not released stays", n: 4, live: 1, active: 2, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "1/3 healthy acked", "1/4 healthy", "2/1 healthy acked", "2/2"},
		table:    []string{"1/1", "2/1", "1/2", "1/3"}},
	{name: "old one with requests in flight drains", n: 4, live: 1, active: 2, state: rollingState, previous: 1, now: 29.9,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "1/3 healthy acked", "1/4 healthy released inflight=1", "2/1 healthy acked", "2/2 healthy"},
		start:    []string{"2/3"}, table: []string{"1/1", "2/1", "1/2", "2/2"}},
	{name: "the drain limit ends a request that does not", n: 4, live: 1, active: 2, state: rollingState, previous: 1, now: 30,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "1/3 healthy acked", "1/4 healthy released inflight=1", "2/1 healthy acked", "2/2 healthy"},
		start:    []string{"2/3"}, stop: []string{"1/4"}, table: []string{"1/1", "2/1", "1/2", "2/2"}},
	{name: "newcomer that exits fails the deployment, old stays", n: 2, live: 1, active: 2, state: rollingState, previous: 1, now: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "2/1 exited=0.4"},
		table:    []string{"1/1", "1/2"}, moves: []string{"2 rolling→failed exited"}},
	{name: "newcomer past its startup time fails the deployment", n: 1, live: 1, active: 2, state: rollingState, previous: 1, now: 30,
		observed: []string{"1/1 healthy acked", "2/1"}, table: []string{"1/1"}, moves: []string{"2 rolling→failed not up"}},
	{name: "newcomer just within its startup time goes on", n: 1, live: 1, active: 2, state: rollingState, previous: 1, now: 29.9,
		observed: []string{"1/1 healthy acked", "2/1"}, table: []string{"1/1"}},
	{name: "newcomer that turns sick fails the deployment", n: 2, live: 1, active: 2, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "2/1 sick"}, table: []string{"1/1", "1/2"}, moves: []string{"2 rolling→failed sick"}},
	{name: "missing image fails the deployment", n: 1, live: 1, active: 2, state: rollingState, previous: 1,
		failing:  map[string]StartFailure{"hello-2-1-0": {Err: driver.ErrNoImage}},
		observed: []string{"1/1 healthy acked"}, table: []string{"1/1"}, moves: []string{"2 rolling→failed no image"}},
	{name: "runtime that does not answer is waited for", n: 1, live: 1, active: 2, state: rollingState, previous: 1, now: 900,
		failing:  map[string]StartFailure{"hello-2-1-0": {Err: fmt.Errorf("dial: %w", driver.ErrUnavailable), Since: noon, Retry: at(901)}},
		observed: []string{"1/1 healthy acked"}, table: []string{"1/1"}},
	{name: "start that keeps failing ends the deployment", n: 1, live: 1, active: 2, state: rollingState, previous: 1, now: 30,
		failing:  map[string]StartFailure{"hello-2-1-0": {Err: errors.New("runc"), Since: noon, Tries: 9}},
		observed: []string{"1/1 healthy acked"}, table: []string{"1/1"}, moves: []string{"2 rolling→failed no start"}},
	{name: "canceled deployment: its newcomers go, old returns", n: 2, live: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "2/1 released"}, stop: []string{"2/1"}, table: []string{"1/1", "1/2"}},
	{name: "canceled half way: newcomer serves until the missing old one is back", n: 2, live: 1,
		observed: []string{"1/1 healthy acked", "2/1 healthy acked"}, start: []string{"1/2"}, table: []string{"1/1", "2/1"}},
	{name: "half made newcomer is made again", n: 1, active: 1, state: rollingState, observed: []string{"1/1 created"}, start: []string{"1/1"}},
	{name: "old one that crashed while rolling is restarted", n: 1, live: 1, active: 2, state: rollingState, previous: 1, now: 5,
		observed: []string{"1/1 exited=5", "2/1"}, start: []string{"1/1/1"}},
	{name: "deployments in quick succession do not pile up", n: 1, live: 1, active: 5, state: rollingState, previous: 1,
		observed: []string{"1/1 healthy acked", "2/1", "3/1 stopping", "4/1 stopping", "6/1"}, stop: []string{"3/1", "4/1"}, table: []string{"1/1"}},
	{name: "stopped app: a deployment is live at once", n: 1, app: func(a *paas.App) { a.Stopped = true }, live: 1, active: 2, state: rollingState,
		previous: 1, moves: []string{"2 rolling→live"}},

	{name: "watched: old stays warm out of the table", n: 1, active: 2, state: liveState, previous: 1, now: 5,
		observed: []string{"1/1 healthy released", "2/1 healthy acked"}, table: []string{"2/1"}},
	{name: "watched: old ones beyond the surge go", n: 2, active: 2, state: liveState, previous: 1, now: 5,
		observed: []string{"1/1 healthy released", "1/2 healthy released", "2/1 healthy acked", "2/2 healthy acked"},
		stop:     []string{"1/2"}, table: []string{"2/1", "2/2"}},
	{name: "watched: a crash fails it", n: 1, active: 2, state: liveState, previous: 1, now: 11,
		observed: []string{"1/1 healthy released", "2/1 exited=10.3"}, moves: []string{"2 live→failed crashed"}},
	{name: "watched: a crash in time that is seen late still fails it", n: 1, active: 2, state: liveState, previous: 1, now: 16,
		observed: []string{"1/1 healthy released", "2/1 exited=14.9"}, moves: []string{"2 live→failed crashed"}},
	{name: "watched: sick fails it, and stays in the table meanwhile as nothing else is there", n: 1, active: 2, state: liveState, previous: 1, now: 11,
		observed: []string{"1/1 healthy released", "2/1 sick routed"}, table: []string{"2/1"}, moves: []string{"2 live→failed turned sick"}},
	{name: "watched long enough succeeds", n: 1, active: 2, state: liveState, previous: 1, now: 15,
		observed: []string{"1/1 healthy released", "2/1 healthy acked"}, table: []string{"2/1"}, moves: []string{"2 live→succeeded"}},
	{name: "failed in its watch: the warm one is back at once", n: 1, live: 1,
		observed: []string{"1/1 healthy released", "2/1 exited=10"}, table: []string{"1/1"}},
	{name: "failed in its watch: missing old ones start, newcomers serve till then", n: 3, live: 1,
		observed: []string{"1/1 healthy released", "2/1 exited=10 released", "2/2 healthy acked", "2/3 healthy acked"},
		start:    []string{"1/2", "1/3"}, stop: []string{"2/1"}, table: []string{"1/1", "2/2", "2/3"}},
	{name: "succeeded: the warm old one goes", n: 1, live: 2,
		observed: []string{"1/1 healthy released", "2/1 healthy acked"}, stop: []string{"1/1"}, table: []string{"2/1"}},

	{name: "scale up starts all at once", n: 10, live: 1, observed: []string{"1/1 healthy acked"},
		start: []string{"1/2", "1/3", "1/4", "1/5", "1/6", "1/7", "1/8", "1/9", "1/10"}, table: []string{"1/1"}},
	{name: "scale down: the newest slots leave first", n: 1, live: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy acked", "1/3 healthy released"}, stop: []string{"1/3"}, table: []string{"1/1"}},
	{name: "scale down keeps a healthy one beyond the count while a kept one is sick", n: 1, live: 1,
		observed: []string{"1/1 sick routed", "1/2 healthy acked"}, table: []string{"1/2"}},
	{name: "sick one leaves the table", n: 2, live: 1, observed: []string{"1/1 sick routed", "1/2 healthy acked"}, table: []string{"1/2"}},
	{name: "panic rule: all sick, all stay", n: 2, live: 1, observed: []string{"1/1 sick routed", "1/2 sick routed"}, table: []string{"1/1", "1/2"}},
	{name: "first crash restarts at once", n: 1, live: 1, now: 100, observed: []string{"1/1 exited=100"}, start: []string{"1/1/1"}},
	{name: "second crash waits 1 s", n: 1, live: 1, now: 100.9, observed: []string{"1/1/1 exited=100"}},
	{name: "second crash restarts after 1 s", n: 1, live: 1, now: 101, observed: []string{"1/1/1 exited=100"}, start: []string{"1/1/2"}},
	{name: "ninth crash waits 128 s", n: 1, live: 1, now: 227.9, observed: []string{"1/1/8 exited=100"}},
	{name: "twentieth crash waits 5 min, no more", n: 1, live: 1, now: 400, observed: []string{"1/1/19 exited=100"}, start: []string{"1/1/20"}},
	{name: "ten minutes up reset the back-off", n: 1, live: 1, now: 700, observed: []string{"1/1/19 exited=700"}, start: []string{"1/1"}},
	{name: "exit record goes when the next attempt exists", n: 1, live: 1, now: 102,
		observed: []string{"1/1 exited=100 released", "1/1/1"}, stop: []string{"1/1"}},
	{name: "slot whose instance is being stopped takes the next attempt", n: 1, live: 1, observed: []string{"1/1 stopping"},
		start: []string{"1/1/1"}, stop: []string{"1/1"}},
	{name: "stopped app drains, then stops", n: 2, app: func(a *paas.App) { a.Stopped = true }, live: 1,
		observed: []string{"1/1 healthy acked", "1/2 healthy released"}, stop: []string{"1/2"}},
	{name: "deleted app leaves the table, drains and stops", n: 2, app: func(a *paas.App) { a.Deleting = true }, live: 1, noTable: true,
		observed: []string{"1/1 healthy acked", "1/2 healthy released"}, stop: []string{"1/2"}},
	{name: "deleted app without instances is removed", app: func(a *paas.App) { a.Deleting = true }, live: 1, noTable: true, remove: true},
	{name: "worker counts as up after 2 s", n: 1, app: worker, active: 1, state: rollingState, now: 2, noTable: true,
		observed: []string{"1/1 worker"}, moves: []string{"1 rolling→live"}},
	{name: "worker is not up before 2 s", n: 1, app: worker, active: 1, state: rollingState, now: 1.9, noTable: true, observed: []string{"1/1 worker"}},
	{name: "old worker needs no router to be stopped", n: 1, app: worker, live: 2, now: 9, noTable: true,
		observed: []string{"1/1 worker", "2/1 worker"}, stop: []string{"1/1"}},
}

func worker(a *paas.App) { a.Type = paas.TypeWorker }

func TestDesiredAndDiff(t *testing.T) {
	for _, r := range desiredRows {
		t.Run(r.name, func(t *testing.T) {
			in := r.input()
			plan := Desired(in)
			steps := Diff(plan, in)
			var starts, table, moves []string
			for _, w := range steps.Start {
				starts = append(starts, w.ID)
			}
			if plan.Table != nil {
				for _, e := range plan.Table.Endpoints {
					table = append(table, e.Instance)
				}
			}
			for _, m := range plan.Moves {
				moves = append(moves, describe(m))
			}
			check(t, "start", starts, ids(r.start))
			check(t, "stop", steps.Stop, ids(r.stop))
			check(t, "table", table, ids(r.table))
			check(t, "moves", moves, r.moves)
			if plan.Remove != r.remove || (plan.Table == nil) != r.noTable {
				t.Errorf("remove = %v, table = %+v", plan.Remove, plan.Table)
			}
			if !steps.Next.IsZero() && !steps.Next.After(in.Now) {
				t.Errorf("looks again at %s, which is not after %s: a busy loop", steps.Next, in.Now)
			}
		})
	}
}

func TestDesired_LiveOvertakenInItsWatch_Succeeds(t *testing.T) {
	in := row{n: 1, live: 2, active: 3, state: rollingState, previous: 2, observed: []string{"2/1 healthy acked"}}.input()
	in.Work.Live.State = paas.DeploymentLive
	if m := Desired(in).Moves; len(m) != 1 || describe(m[0]) != "2 live→succeeded" {
		t.Fatalf("moves = %+v, want 2 live→succeeded", m)
	}
}

func TestDesired_NoInstance_SaysWhy(t *testing.T) {
	tests := []struct {
		name string
		row  row
		want string
	}{
		{"starting", row{n: 1, active: 3, state: rollingState}, "release 3 is starting"},
		{"crash loop", row{n: 1, live: 1, now: 1, observed: []string{"1/1/4 exited=1"}}, "every instance has crashed (exit code 1) and will be started again"},
		{"no instances wanted", row{n: 0, live: 1}, "the app is scaled to 0 instances"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Desired(tt.row.input()).Table.NoInstance; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func describe(m Move) string {
	s := fmt.Sprintf("%d %s→%s", m.Deployment.ID, m.Deployment.State, m.To)
	if m.Cause != nil {
		s += " " + map[causeKind]string{causeExited: "exited", causeNotUp: "not up", causeSick: "sick", causeCrashed: "crashed",
			causeTurnedSick: "turned sick", causeNoImage: "no image", causeNoStart: "no start"}[m.Cause.Kind]
	}
	return s
}

func ids(short []string) []string {
	var list []string
	for _, s := range short {
		list = append(list, obs(s).ID)
	}
	return list
}

func check(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
