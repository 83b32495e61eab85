package fake

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

const killedCode = 128 + 9

// instance is one fake copy: at most one listener and a timer.
type instance struct {
	spec      driver.Spec
	behaviour Behaviour
	hint      func()
	listener  net.Listener // nil if it never listens
	addr      string
	gone      chan struct{} // closed at exit
	done      sync.WaitGroup

	mu     sync.Mutex
	st     driver.Status
	server *http.Server
}

func newInstance(s driver.Spec, b Behaviour, hint func()) (*instance, error) {
	in := &instance{spec: s, behaviour: b, hint: hint, gone: make(chan struct{})}
	now := time.Now()
	in.st = driver.Status{
		ID: s.ID, AppID: s.AppID, AppName: s.AppName, Deployment: s.Deployment, Release: s.Release,
		Slot: s.Slot, Attempt: s.Attempt, Type: s.Type, Running: true, PID: 1, CreatedAt: now, StartedAt: now,
	}
	if s.Type == paas.TypeWorker {
		in.behaviour.NoListen = true
		return in, nil
	}
	// The listener reserves a free port; closed again for those that listen late or
	// never, so that a probe is refused as it would be for real.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start instance %s: %w", s.ID, err)
	}
	in.addr = l.Addr().String()
	in.st.Addr = in.addr
	if b.NoListen || b.ListenDelay > 0 {
		return in, l.Close()
	}
	in.listener = l
	return in, nil
}

func (in *instance) run() {
	if in.listener != nil {
		in.serve(in.listener)
	} else if !in.behaviour.NoListen {
		in.after(in.behaviour.ListenDelay, func() {
			if l, err := net.Listen("tcp", in.addr); err == nil {
				in.serve(l)
			}
		})
	}
	if e := in.behaviour.Exit; e != nil {
		code := e.Code
		if e.OOM {
			code = killedCode
		}
		in.after(e.After, func() { in.exit(code, e.OOM) })
	}
}

// after runs f later unless the instance is gone by then.
func (in *instance) after(d time.Duration, f func()) {
	in.done.Go(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			f()
		case <-in.gone:
		}
	})
}

func (in *instance) serve(l net.Listener) {
	h := in.behaviour.Handler
	if h == nil {
		h = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.st.Running {
		l.Close()
		return
	}
	in.server = srv
	in.done.Go(func() { srv.Serve(l) }) // returns when exit closes srv
}

// exit ends the instance once; later calls do nothing.
func (in *instance) exit(code int, oom bool) {
	in.mu.Lock()
	if !in.st.Running {
		in.mu.Unlock()
		return
	}
	in.st.Running, in.st.PID, in.st.Addr = false, 0, ""
	in.st.ExitedAt, in.st.ExitCode, in.st.OOMKilled = time.Now(), code, oom
	if oom {
		in.st.PeakMemory = in.spec.MemoryBytes
	}
	srv := in.server
	close(in.gone)
	in.mu.Unlock()
	if srv != nil {
		srv.Close()
	} else if in.listener != nil {
		in.listener.Close()
	}
	in.hint()
}

func (in *instance) stop(ctx context.Context, grace time.Duration) error {
	if !in.behaviour.IgnoreTERM {
		in.after(in.behaviour.TermDelay, func() { in.exit(in.behaviour.TermCode, false) })
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-in.gone:
	case <-t.C:
		in.exit(killedCode, false)
	case <-ctx.Done():
		return ctx.Err()
	}
	in.wait()
	return nil
}

func (in *instance) wait() { in.done.Wait() }

func (in *instance) status() driver.Status {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.st
}

func (in *instance) ports() []string {
	if in.behaviour.ListenOn != nil {
		return in.behaviour.ListenOn
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.server == nil {
		return nil
	}
	return []string{in.addr}
}
