package reconcile

import (
	"fmt"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

const stopPrefix = "stop "

func stopKey(id string) string { return stopPrefix + id }

// task is one thing to do outside core; exactly one of its pointers is set, or
// stop is not empty. At most one task of a key is carried out at a time.
type task struct {
	key     string
	app     paas.App // zero for garbage
	start   *driver.Spec
	stop    string
	move    *moveTask
	waiting *waitingTask
	crash   *crashTask
	remove  bool
}

// moveTask carries what is needed to explain a failure.
type moveTask struct {
	Move
	release     *paas.Release
	memoryBytes int64
	previous    int // number of the release that is back
}

type waitingTask struct {
	deployment int64
	text       string
}

type crashTask struct {
	instance Observation
	reason   string
}

// batch collects the tasks of one step.
type batch struct {
	*core
	now   time.Time
	tasks []task
	next  time.Time
}

// app adds what one app needs.
func (b *batch) app(in Input, p Plan) {
	steps := Diff(p, in)
	b.lookAt(steps.Next)
	for _, w := range steps.Start {
		spec := specOf(in.Work, w)
		b.add(task{key: "start " + w.ID, app: in.Work.App, start: &spec})
	}
	for _, id := range steps.Stop {
		b.stop(id, in.Work.App)
	}
	for _, m := range p.Moves {
		b.move(in, m)
	}
	b.crashes(in, p)
	b.wait(in, p)
	if p.Remove && !b.hasBusy(in.Work.App.ID) {
		b.add(task{key: "remove " + in.Work.App.ID, app: in.Work.App, remove: true})
	}
}

// stop waits for a Start of the same instance: what it makes is only then known.
func (b *batch) stop(id string, app paas.App) {
	if _, starting := b.busy["start "+id]; starting {
		return
	}
	if b.add(task{key: stopKey(id), app: app, stop: id}) {
		b.stopping[id] = true
	}
}

func (b *batch) move(in Input, m Move) {
	t := &moveTask{Move: m, release: releaseOf(in.Work, m.Deployment.ID)}
	t.memoryBytes = memoryLimit(in.Work.App, t.release)
	if in.Work.PreviousRelease != nil {
		t.previous = in.Work.PreviousRelease.Number
	}
	b.add(task{key: fmt.Sprintf("move %d", m.Deployment.ID), app: in.Work.App, move: t})
}

// crashes tells of wanted instances that ended by themselves, once each.
func (b *batch) crashes(in Input, p Plan) {
	for _, o := range in.Observed {
		if !o.exited() || o.Stopping || !p.wants(o.ID) || b.announced[o.ID] {
			continue
		}
		reason := exitReason(o.Status, memoryLimit(in.Work.App, releaseOf(in.Work, o.Deployment)))
		if b.add(task{key: "crash " + o.ID, app: in.Work.App, crash: &crashTask{instance: o, reason: reason}}) {
			b.announced[o.ID] = true
		}
	}
}

// wait stores what the deployment waits for. A quick deployment never gets there:
// each sentence costs a write on its way.
func (b *batch) wait(in Input, p Plan) {
	d := in.Work.Active
	if p.Waiting == "" || d == nil || d.Waiting == p.Waiting {
		return
	}
	last, ok := b.waited[d.ID]
	if !ok {
		last = d.RollingAt
	}
	if due := last.Add(waitingEvery); b.now.Before(due) {
		b.lookAt(due)
		return
	}
	b.waited[d.ID] = b.now
	b.add(task{key: fmt.Sprintf("waiting %d", d.ID), app: in.Work.App, waiting: &waitingTask{d.ID, p.Waiting}})
}

// garbage stops instances that belong to no app. A store without any app beside
// running instances has more likely lost its memory than its apps: then nothing
// is touched until somebody confirms.
func (b *batch) garbage() {
	known := map[string]bool{}
	for _, w := range b.work {
		known[w.App.ID] = true
	}
	strangers := 0
	for id, s := range b.statuses {
		if known[s.AppID] {
			delete(b.unknown, id)
			continue
		}
		strangers++
		since, seen := b.unknown[id]
		if !seen {
			b.unknown[id], since = b.now, b.now
		}
		t := b.routing.traffic(id, b.now)
		switch {
		case len(b.work) == 0 && !b.confirmUnknown:
		case b.now.Before(since.Add(unknownGrace)):
			b.lookAt(since.Add(unknownGrace))
		case t.Released && (t.InFlight == 0 || !b.now.Before(t.ReleasedAt.Add(b.policy.Drain))):
			b.stop(id, paas.App{ID: s.AppID, Name: s.AppName})
		}
	}
	if strangers > 0 && len(b.work) == 0 && !b.confirmUnknown && b.now.Sub(b.quarantined) >= time.Minute {
		b.quarantined = b.now
		b.log.Error("instances run but the store has no app; they are left alone until this is confirmed", "instances", strangers)
	}
}

// add takes a task unless one of its key is under way or has to wait.
func (b *batch) add(t task) bool {
	if _, busy := b.busy[t.key]; busy {
		return false
	}
	if _, done := b.stored[t.key]; done {
		return false // the store's new state has not been read yet
	}
	if at, ok := b.retry[t.key]; ok && b.now.Before(at) {
		b.lookAt(at)
		return false
	}
	b.busy[t.key] = t
	b.tasks = append(b.tasks, t)
	return true
}

func (b *batch) hasBusy(appID string) bool {
	for _, t := range b.busy {
		if t.app.ID == appID && !t.remove {
			return true
		}
	}
	return false
}

func (b *batch) lookAt(t time.Time) {
	if !t.IsZero() && (b.next.IsZero() || t.Before(b.next)) {
		b.next = t
	}
}
