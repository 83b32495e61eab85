package reconcile

import (
	"log/slog"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// newTestCore is a core that knows one app in the state of a row, as a server
// that has just started does.
func newTestCore(r row) (*core, *ackRouter) {
	router := newAckRouter()
	c := newCore(Policy{}, router, slog.New(slog.DiscardHandler))
	in := r.input()
	c.setWork([]paas.AppWork{in.Work}, 0)
	var list []driver.Status
	for _, o := range in.Observed {
		list = append(list, o.Status)
	}
	c.setList(list, 0)
	return c, router
}

func TestCore_ServerRestarts_SlowLiveInstanceStaysInTheFirstTable(t *testing.T) {
	c, router := newTestCore(row{n: 1, live: 1, observed: []string{"1/1"}})
	c.step(t.Context(), noon)
	check(t, "first table", router.serving("hello"), ids([]string{"1/1"}))
}

func TestCore_ServerRestartsWhileRolling_FirstTableWaitsForTheNewcomersHealth(t *testing.T) {
	rolling := row{n: 2, live: 1, active: 2, state: rollingState, previous: 1, observed: []string{"1/1", "2/1", "2/2"}}
	c, router := newTestCore(rolling)
	if tasks, next := c.step(t.Context(), noon); len(tasks) != 0 || !next.Equal(noon.Add(firstProbes)) || router.version != 0 {
		t.Fatalf("tasks = %v, next = %s, version = %d; want to wait", tasks, next, router.version)
	}
	c.probed("hello-2-1-0", answer{ok: true, text: "200"})
	c.probed("hello-2-2-0", answer{ok: true, text: "200"})
	c.step(t.Context(), noon)
	check(t, "first table", router.serving("hello"), ids([]string{"2/1", "2/2"}))

	c, router = newTestCore(rolling)
	c.step(t.Context(), noon)
	c.step(t.Context(), noon.Add(firstProbes)) // no answer so far: go on without
	check(t, "table after the wait", router.serving("hello"), ids([]string{"1/1"}))
}

func TestCore_ListOlderThanAStep_DoesNotUndoIt(t *testing.T) {
	c, _ := newTestCore(row{n: 2, live: 1, observed: []string{"1/1"}})
	before := c.seq
	c.finish(done{task: task{key: stopKey("hello-1-1-0"), stop: "hello-1-1-0"}}, noon)
	spec := driver.Spec{ID: "hello-1-2-0", AppID: "a1"}
	c.finish(done{task: task{key: "start hello-1-2-0", start: &spec}, status: obs("1/2").Status}, noon)
	c.setList([]driver.Status{obs("1/1").Status}, before)
	if _, back := c.statuses["hello-1-1-0"]; back || len(c.statuses) != 1 {
		t.Fatalf("statuses = %v, want only the started one", c.statuses)
	}
	c.setList(nil, c.seq)
	if len(c.statuses) != 0 {
		t.Fatalf("statuses after a newer list = %v, want none", c.statuses)
	}
}

func TestCore_DrainingInstanceIsWantedAgainDuringItsStop_GetsASuccessor(t *testing.T) {
	c, router := newTestCore(row{n: 0, live: 1, observed: []string{"1/1"}})
	c.step(t.Context(), noon) // publishes the first table, without it
	tasks, _ := c.step(t.Context(), noon)
	if len(tasks) != 1 || tasks[0].stop != "hello-1-1-0" {
		t.Fatalf("tasks = %+v, want the stop", tasks)
	}
	w := c.work
	w[0].App.Instances = 1
	c.setWork(w, c.seq)
	tasks, _ = c.step(t.Context(), noon.Add(time.Second))
	if len(tasks) != 1 || tasks[0].start == nil || tasks[0].start.ID != "hello-1-1-1" || len(router.serving("hello")) != 0 {
		t.Fatalf("tasks = %+v, table = %v; want the next attempt started and nothing served", tasks, router.serving("hello"))
	}
}
