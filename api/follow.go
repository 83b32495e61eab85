package api

import (
	"context"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	// lookAgain finds changes whose wake-up was lost or made by another process.
	lookAgain = time.Second
	// logRest is how long the end of a build's log may take after the build's end.
	logRest = 5 * time.Second
)

// cursor is how much of a deployment's story the client has; it is the ID of
// each event, so that any server can go on from it.
type cursor struct {
	lines   int    // of the build's log
	rank    int    // of the last state told, see rank()
	waiting uint32 // CRC-32 of the last sentence told
}

func (c cursor) String() string { return fmt.Sprintf("%d.%d.%08x", c.lines, c.rank, c.waiting) }

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	_, err = fmt.Sscanf(text, "%d.%d.%08x", &c.lines, &c.rank, &c.waiting)
	if err != nil || c.String() != text || c.lines < 0 || c.rank < 0 {
		return c, badEventID(text)
	}
	return c, nil
}

// follower tells one client one deployment's story.
type follower struct {
	s       *Server
	st      *stream
	id      int64
	toFinal bool // go on after live
	cursor  cursor

	lines  chan paas.BuildLine // nil when there is no log (left)
	cancel context.CancelFunc  // stops its reader
}

// followDeployment answers with the deployment's states, its build's log and
// what it waits for, in the order in which they happened, and ends with "done"
// when it is live or final (until=final: only then).
func (s *Server) followDeployment(c echo.Context) error {
	q, err := query(c, "until")
	if err != nil {
		return err
	}
	if until := q.Get("until"); q.Has("until") && until != "final" && until != "live" {
		return paas.Errorf(paas.CodeInvalid, "query parameter \"until\" must be live or final")
	}
	from, err := parseCursor(c.Request().Header.Get("Last-Event-ID"))
	if err != nil {
		return err
	}
	d, err := s.deployment(c)
	if err != nil {
		return err
	}
	st := s.startStream(c, formEvents)
	defer st.close()
	f := &follower{s: s, st: st, id: d.ID, toFinal: q.Get("until") == "final", cursor: from}
	stop := f.readLog(d.BuildID)
	defer stop()
	return st.end(f.run())
}

// readLog starts to read the build's log and returns what stops it and waits.
func (f *follower) readLog(build int64) (stop func()) {
	if build == 0 {
		return func() {}
	}
	b, err := f.s.Store.Build(f.st.ctx, build)
	if err != nil {
		return func() {} // pruned, or the next look at the deployment fails as well
	}
	ctx, cancel := context.WithCancel(f.st.ctx)
	lines := make(chan paas.BuildLine, 64)
	skip := f.cursor.lines
	go func() {
		defer close(lines)
		err := f.s.BuildLogs.Read(ctx, b, skip, true, func(l paas.BuildLine) error {
			select {
			case lines <- l:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil && ctx.Err() == nil {
			f.s.Log.Warn("a build's log could not be read", "build", build, "app", b.AppName, "err", err)
		}
	}()
	f.lines, f.cancel = lines, cancel
	return func() {
		cancel()
		for range lines { // until its one sender has ended
		}
	}
}

func (f *follower) run() error {
	for {
		changed := f.s.Store.Changed() // before the look, so that nothing falls between
		done, err := f.look()
		if done || err != nil {
			return err
		}
		if err := f.wait(changed); err != nil {
			return err
		}
	}
}

// look tells what is new and reports whether the story is over.
func (f *follower) look() (done bool, err error) {
	d, err := f.s.Store.Deployment(f.st.ctx, f.id)
	if err != nil {
		return false, err
	}
	v, b, err := f.s.wholeDeployment(f.st.ctx, d)
	if err != nil {
		return false, err
	}
	phase := phaseOf(d, b)
	if d.State != paas.DeploymentPending {
		if err := f.restOfLog(); err != nil {
			return false, err
		}
	}
	if r := rank(phase); r > f.cursor.rank {
		f.cursor.rank = r
		if err := f.tell(v1.DeploymentEvent{Type: "state", Phase: phase, Deployment: &v}); err != nil {
			return false, err
		}
	}
	if sum := crc32.ChecksumIEEE([]byte(d.Waiting)); d.Waiting != "" && !d.State.Final() && sum != f.cursor.waiting {
		f.cursor.waiting = sum
		if err := f.tell(v1.DeploymentEvent{Type: "waiting", Phase: phase, Waiting: d.Waiting}); err != nil {
			return false, err
		}
	}
	if d.State.Final() || d.State == paas.DeploymentLive && !f.toFinal {
		return true, f.tell(v1.DeploymentEvent{Type: "done", Phase: phase, Deployment: &v})
	}
	return false, nil
}

// wait passes on log lines until it is time for another look.
func (f *follower) wait(changed <-chan struct{}) error {
	again := time.NewTimer(lookAgain)
	defer again.Stop()
	for {
		select {
		case l, ok := <-f.lines:
			if !ok {
				f.lines = nil
				continue
			}
			if err := f.tellLine(l); err != nil {
				return err
			}
		case <-changed:
			return nil
		case <-again.C:
			return nil
		case <-f.st.ctx.Done():
			return context.Cause(f.st.ctx)
		}
	}
}

// restOfLog tells the build's last lines before what came after the build.
func (f *follower) restOfLog() error {
	if f.lines == nil {
		return nil
	}
	late := time.AfterFunc(logRest, f.cancel)
	defer late.Stop()
	for l := range f.lines {
		if err := f.tellLine(l); err != nil {
			return err
		}
	}
	f.lines = nil
	return nil
}

func (f *follower) tellLine(l paas.BuildLine) error {
	f.cursor.lines++
	v := viewBuildLine(l)
	return f.tell(v1.DeploymentEvent{Type: "log", Phase: string(paas.BuildBuilding), Log: &v})
}

func (f *follower) tell(e v1.DeploymentEvent) error {
	return f.st.event(f.cursor.String(), e.Type, e)
}

// phaseOf splits pending into queued and building.
func phaseOf(d paas.Deployment, b *paas.Build) string {
	switch {
	case d.State != paas.DeploymentPending:
		return string(d.State)
	case b != nil && b.State != paas.BuildQueued:
		return string(paas.BuildBuilding)
	}
	return string(paas.BuildQueued)
}

// rank orders phases: a story only goes forward. A build that went back to the
// queue is told by its log.
func rank(phase string) int {
	switch phase {
	case string(paas.BuildQueued):
		return 1
	case string(paas.BuildBuilding):
		return 2
	case string(paas.DeploymentRolling):
		return 3
	case string(paas.DeploymentLive):
		return 4
	}
	return 5
}
