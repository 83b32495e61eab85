package apitest

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Runtime shows the instances that the test sets. Exec runs these commands:
// "cat" copies stdin to stdout, "exit N"-like codes come from Code, "size"
// writes the first size it is told, "hang" waits for the end of its context.
type Runtime struct {
	mu   sync.Mutex
	list []paas.Instance
	err  error

	Woken atomic.Int64
	Hung  atomic.Int64 // commands that hang now
}

var _ paas.Runtime = (*Runtime)(nil)

// Set replaces what is observed.
func (r *Runtime) Set(err error, list ...paas.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.err = list, err
}

func (r *Runtime) Instances(_ context.Context, appID string) (out []paas.Instance, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range r.list {
		if appID == "" || i.AppID == appID {
			out = append(out, i)
		}
	}
	return out, r.err
}

func (r *Runtime) Exec(ctx context.Context, instance string, q paas.ExecRequest) (int, error) {
	switch q.Args[0] {
	case "cat":
		_, err := io.Copy(q.Stdout, q.Stdin)
		return 0, err
	case "fail":
		_, err := io.WriteString(q.Stderr, "no\n")
		return 3, err
	case "size":
		s := <-q.Resize
		_, err := q.Stdout.Write([]byte{byte(s.Cols), byte(s.Rows)})
		return 0, err
	case "hang":
		r.Hung.Add(1)
		defer r.Hung.Add(-1)
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return 0, paas.Errorf(paas.CodeNotFound, "instance %s is gone", instance)
}

func (r *Runtime) Wake() { r.Woken.Add(1) }

// Logs tells the lines that the test added.
type Logs struct {
	mu    sync.Mutex
	lines []paas.LogLine
	Query paas.LogQuery // the last one; read it after the answer
}

var _ paas.Logs = (*Logs)(nil)

// Add appends a line.
func (l *Logs) Add(line paas.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *Logs) Read(ctx context.Context, q paas.LogQuery, emit func(paas.LogLine) error) error {
	for n := 0; ; {
		l.mu.Lock()
		l.Query = q
		lines := l.lines[n:]
		n = len(l.lines)
		l.mu.Unlock()
		for _, line := range lines {
			if line.At.Before(q.Since) {
				continue
			}
			if err := emit(line); err != nil {
				return err
			}
		}
		if !q.Follow {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Logs) Remove(context.Context, string) error { return nil }

// BuildLogs tells the lines that the test added.
type BuildLogs struct {
	store paas.Store
	mu    sync.Mutex
	lines map[int64][]paas.BuildLine
}

var _ paas.BuildLogs = (*BuildLogs)(nil)

// NewBuildLogs returns logs whose builds' ends are seen in store.
func NewBuildLogs(store paas.Store) *BuildLogs {
	return &BuildLogs{store: store, lines: map[int64][]paas.BuildLine{}}
}

// Add appends a line to a build's log.
func (l *BuildLogs) Add(build int64, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[build] = append(l.lines[build], paas.BuildLine{At: time.Now(), Step: "build", Text: text})
}

func (l *BuildLogs) Read(ctx context.Context, b paas.Build, skip int, follow bool, emit func(paas.BuildLine) error) error {
	for {
		now, err := l.store.Build(ctx, b.ID) // before the lines: none comes after the end
		if err != nil {
			return err
		}
		l.mu.Lock()
		lines := l.lines[b.ID]
		l.mu.Unlock()
		for ; skip < len(lines); skip++ {
			if err := emit(lines[skip]); err != nil {
				return err
			}
		}
		if !follow || now.State.Final() {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Machine is one router and one component.
type Machine struct{}

var (
	_ paas.Router     = (*Machine)(nil)
	_ paas.Components = (*Machine)(nil)
)

func (*Machine) Publish(context.Context, []paas.RouteTable) (uint64, error) { return 1, nil }
func (*Machine) Acked(uint64) bool                                          { return true }
func (*Machine) InFlight(string) int                                        { return 0 }
func (*Machine) Changed() <-chan struct{}                                   { return nil }

func (*Machine) Reports() []paas.SeenRouter {
	return []paas.SeenRouter{{RouterReport: paas.RouterReport{Router: "router-1", PID: 2, Version: 1, InFlight: map[string]int{"a": 2, "b": 1}},
		SeenAt: time.Now(), Live: true}}
}

func (*Machine) Components(context.Context) []paas.ComponentStatus {
	return []paas.ComponentStatus{{Name: "containerd", State: "ready", Version: "v2", PID: 1, Since: time.Now()}}
}
