package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// readyPoll is the pause between two readiness probes of a starting child:
// containerd answers after 30–50 ms, so a longer one would be felt.
const readyPoll = 20 * time.Millisecond

// Supervisor keeps one Process running between Start and Stop or Release.
//
//	New ──Start──▶ starting ──▶ ready ──exit, unhealthy──▶ backoff ──▶ starting …
//	                    └─────────┴──────── Stop: child ended, Release: child lives on ──▶ stopped
//
// All methods are safe for concurrent use; Start may be called again after Stop
// or Release.
type Supervisor struct {
	proc Process
	log  *slog.Logger
	tail *tail

	startMu sync.Mutex // one Start, Stop or Release at a time
	cancel  context.CancelFunc
	kept    sync.WaitGroup // keep and follow

	mu     sync.Mutex
	child  *child // guarded by mu; nil: no process
	status Status // guarded by mu
}

// New checks p and fills in its defaults. It starts nothing.
func New(p Process, log *slog.Logger) (*Supervisor, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	p.setDefaults()
	s := &Supervisor{proc: p, log: log.With("component", p.Name)}
	s.status = Status{Name: p.Name, State: StateStopped, Since: time.Now()}
	s.tail = newTail(p.LogFile, p.LogMaxBytes, p.KeepLines, func(line string) { s.log.Info("output", "line", line) })
	return s, nil
}

// Run is Start, then wait until ctx ends, then Release: the child lives on.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	s.Release()
	return nil
}

// Start adopts a living leftover of the same configuration, or ends one of
// another configuration and starts the child, and returns once it is ready. ctx
// bounds the start, not the life; StartTimeout does so as well. If the child
// does not become ready it is ended and the error carries its last lines. Start
// on a started Supervisor returns nil.
func (s *Supervisor) Start(ctx context.Context) error {
	s.startMu.Lock()
	defer s.startMu.Unlock()
	if s.cancel != nil {
		return nil
	}
	s.update(func(st *Status) { st.Restarts = 0 })
	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.kept.Add(1)
	go s.follow(run)
	err := s.adopt(ctx)
	if err == nil && s.current() == nil {
		err = s.launch(ctx)
	}
	if err != nil {
		s.end(StateStopped)
		return err
	}
	s.kept.Add(1)
	go s.keep(run)
	return nil
}

// Stop ends the child, started or adopted or left by an earlier server: SIGTERM,
// StopGrace, SIGKILL to its process group. ctx cuts the grace short. It blocks
// until the process is gone and may be called any number of times.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.startMu.Lock()
	defer s.startMu.Unlock()
	if s.cancel == nil {
		return StopLeftover(ctx, s.proc.PIDFile, s.proc.Marker, s.proc.StopGrace)
	}
	s.cancel() // keep must not restart what is ended here
	c := s.current()
	var err error
	if c != nil {
		err = c.terminate(ctx, s.proc.StopGrace)
	}
	s.end(StateStopped)
	// keep may have been starting a successor while it was told to end.
	if lerr := StopLeftover(ctx, s.proc.PIDFile, s.proc.Marker, s.proc.StopGrace); err == nil {
		err = lerr
	}
	return err
}

// Release stops supervising and leaves the child running for the next server.
func (s *Supervisor) Release() {
	s.startMu.Lock()
	defer s.startMu.Unlock()
	if s.cancel != nil {
		s.end(StateStopped)
	}
}

// Status returns a snapshot.
func (s *Supervisor) Status() Status {
	s.mu.Lock()
	st := s.status
	s.mu.Unlock()
	st.Lines = s.tail.lines()
	return st
}

// end waits for the goroutines and lets go of the child. startMu is held.
func (s *Supervisor) end(state State) {
	s.cancel()
	s.kept.Wait()
	s.cancel = nil
	if c := s.current(); c != nil {
		c.release()
	}
	s.tail.poll()
	s.setChild(nil)
	s.setState(state)
}

// adopt takes over a leftover. With another configuration, or not ready within
// the start's bound, it is ended and the caller starts anew.
func (s *Supervisor) adopt(ctx context.Context) error {
	l, ok := findLeftover(s.proc.PIDFile, s.proc.Marker)
	if !ok {
		return nil
	}
	_, hash, err := s.proc.resolve()
	if err != nil {
		return err
	}
	c, err := newChild(l.pid, l.pidfd, true)
	if err != nil {
		return err
	}
	if l.hash != hash {
		s.log.Info("ending leftover: its configuration differs", "pid", l.pid)
		return c.terminate(ctx, s.proc.StopGrace)
	}
	if err := writePIDFile(s.proc.PIDFile, l.pid); err != nil {
		c.release()
		return err
	}
	s.setChild(c)
	s.setState(StateStarting)
	if err := s.awaitReady(ctx, c); err != nil {
		s.log.Warn("ending leftover: it does not answer", "pid", l.pid, "err", err)
		s.setChild(nil)
		return c.kill()
	}
	s.setState(StateReady)
	s.log.Info("adopted", "pid", l.pid)
	return nil
}

// launch starts the child and returns once it is ready; otherwise the child is
// ended.
func (s *Supervisor) launch(ctx context.Context) error {
	s.setState(StateStarting)
	begin := time.Now()
	err := s.tryLaunch(ctx)
	if err != nil {
		s.setChild(nil)
		s.tail.poll()
		s.update(func(st *Status) { st.LastExit = err.Error() })
		lines := s.tail.lines()
		return fmt.Errorf("start %s: %w; last output:\n  %s", s.proc.Name, err,
			strings.Join(lines[max(0, len(lines)-40):], "\n  "))
	}
	s.setState(StateReady)
	s.log.Info("started", "pid", s.Status().PID, "duration", time.Since(begin))
	return nil
}

func (s *Supervisor) tryLaunch(ctx context.Context) error {
	if s.proc.Before != nil {
		if err := s.proc.Before(ctx); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := spawn(&s.proc)
	if err != nil {
		return err
	}
	s.setChild(c)
	if err := s.awaitReady(ctx, c); err != nil {
		return errors.Join(err, c.kill())
	}
	return nil
}

func (s *Supervisor) awaitReady(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, s.proc.StartTimeout)
	defer cancel()
	begin := time.Now()
	for {
		probe, cancelProbe := context.WithTimeout(ctx, s.proc.HealthInterval)
		err := s.proc.Ready(probe)
		cancelProbe()
		if err == nil {
			// The answer may be another process' on the same address.
			select {
			case <-c.done:
				return errors.New(c.reason)
			default:
				return nil
			}
		}
		select {
		case <-c.done:
			return errors.New(c.reason)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", time.Since(begin).Round(time.Millisecond), err)
		case <-time.After(readyPoll):
		}
	}
}

func (s *Supervisor) current() *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

func (s *Supervisor) setChild(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child = c
	s.status.PID, s.status.Adopted = 0, false
	if c != nil {
		s.status.PID, s.status.Adopted = c.pid, c.adopted
	}
}

func (s *Supervisor) setState(state State) {
	s.update(func(st *Status) {
		if st.State != state {
			st.State, st.Since = state, time.Now()
		}
	})
}

func (s *Supervisor) update(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}
