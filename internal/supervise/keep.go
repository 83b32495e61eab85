package supervise

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// tailPoll is the pause between two looks at the log file. Whoever asks for the
// last lines gets a look of its own; each wake-up costs an idle machine.
const tailPoll = 2 * time.Second

// keep restarts the child for as long as ctx lives.
func (s *Supervisor) keep(ctx context.Context) {
	defer s.kept.Done()
	failures := 0
	for {
		c := s.current()
		if !s.watch(ctx, c) {
			return
		}
		if time.Since(c.started) > s.proc.StableAfter {
			failures = 0
		}
		for {
			if !s.pause(ctx, failures) {
				return
			}
			failures++
			s.update(func(st *Status) { st.Restarts++ })
			err := s.launch(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			s.log.Error("restart", "err", err, "failures", failures)
		}
	}
}

// watch returns true when the child has ended, by itself or because it stopped
// answering and was killed; false when ctx has ended.
func (s *Supervisor) watch(ctx context.Context, c *child) bool {
	tick := time.NewTicker(s.proc.HealthInterval)
	defer tick.Stop()
	bad := 0
	unhealthy := ""
	for {
		select {
		case <-ctx.Done():
			return false
		case <-c.done:
			reason := c.reason
			if unhealthy != "" {
				reason = unhealthy
			}
			s.log.Warn("ended", "pid", c.pid, "reason", reason, "uptime", time.Since(c.started))
			s.setChild(nil)
			s.update(func(st *Status) { st.LastExit = reason })
			return true
		case <-tick.C:
		}
		err := s.probe(ctx, c)
		if err == nil || ctx.Err() != nil {
			bad = 0
			continue
		}
		if bad++; bad < s.proc.HealthFailures {
			continue
		}
		unhealthy = fmt.Sprintf("killed: did not answer %d times in a row, last: %v", bad, err)
		if err := c.kill(); err != nil {
			s.log.Error("kill hung process", "pid", c.pid, "err", err)
		}
	}
}

// probe asks once; the child's end cuts it short, so that an exit during a slow
// probe is noticed at once.
func (s *Supervisor) probe(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, s.proc.HealthInterval)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-c.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.proc.Ready(ctx)
	cancel()
	<-ended
	return err
}

// pause waits min·2ⁿ, at most max, give or take a quarter.
func (s *Supervisor) pause(ctx context.Context, failures int) bool {
	s.setState(StateBackoff)
	d := s.proc.BackoffMin << min(failures, 20)
	d = min(d, s.proc.BackoffMax)
	d += time.Duration((rand.Float64() - 0.5) / 2 * float64(d))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// follow hands the child's output to the log until ctx ends.
func (s *Supervisor) follow(ctx context.Context) {
	defer s.kept.Done()
	tick := time.NewTicker(tailPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.tail.poll()
		}
	}
}
