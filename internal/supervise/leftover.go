package supervise

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// StopLeftover ends the child with this marker when no server supervises it
// (`slipway down`): SIGTERM, grace, SIGKILL. A stale PID file is removed and its
// process, being another one, left alone. Absent means nil.
func StopLeftover(ctx context.Context, pidFile, marker string, grace time.Duration) error {
	for {
		l, ok := findLeftover(pidFile, marker)
		if !ok {
			break
		}
		c, err := newChild(l.pid, l.pidfd, true)
		if err != nil {
			return err
		}
		if err := c.terminate(ctx, grace); err != nil {
			return err
		}
	}
	return removePIDFile(pidFile)
}

// FindLeftover returns the pid of a living child with this marker, 0 if there
// is none.
func FindLeftover(pidFile, marker string) int {
	l, ok := findLeftover(pidFile, marker)
	if !ok {
		return 0
	}
	unix.Close(l.pidfd)
	return l.pid
}
