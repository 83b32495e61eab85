package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errReleased ends a wait because the supervisor lets go of a living child.
var errReleased = errors.New("released")

// child is one running process, started or adopted. Its goroutine ends when
// the process ends or after release.
type child struct {
	pid     int
	pidfd   int
	adopted bool
	started time.Time

	done   chan struct{} // closed when the waiter ended
	reason string        // how it ended; read after done
	left   bool          // released while it was alive; read after done

	wake      *os.File // closing it ends the wait
	closeOnce sync.Once
}

// spawn starts p in its own session, so that no terminal's Ctrl-C reaches it,
// with its output appended to the log file: a pipe would break with the server.
func spawn(p *Process) (*child, error) {
	exe, hash, err := p.resolve()
	if err != nil {
		return nil, err
	}
	for _, f := range []string{p.PIDFile, p.LogFile} {
		if err := os.MkdirAll(filepath.Dir(f), 0o711); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	pidfd := -1
	cmd := &exec.Cmd{
		Path: exe, Args: append([]string{exe}, p.Args...), Dir: p.Dir,
		Env:    append(append([]string{}, p.Env...), MarkerEnv+"="+p.Marker, detailEnv+"="+hash+":"+exe),
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	pid := cmd.Process.Pid
	// The waiter below reaps by its own descriptor.
	_ = cmd.Process.Release()
	if pidfd < 0 {
		if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
			_ = unix.Kill(-pid, unix.SIGKILL)
			return nil, fmt.Errorf("open pid %d of %s: %w (Linux 5.4 or newer is needed)", pid, p.Name, err)
		}
	}
	c, err := newChild(pid, pidfd, false)
	if err != nil {
		return nil, err
	}
	if err = writePIDFile(p.PIDFile, pid); err == nil && p.Started != nil {
		err = p.Started(pid)
	}
	if err != nil {
		// An exit this early is told better by the waiter than by a missing /proc entry.
		if kerr := c.kill(); kerr != nil {
			return nil, errors.Join(err, kerr)
		}
		return nil, fmt.Errorf("start %s: %w (%s)", p.Name, err, c.reason)
	}
	return c, nil
}

func newChild(pid, pidfd int, adopted bool) (*child, error) {
	r, w, err := os.Pipe()
	if err != nil {
		unix.Close(pidfd)
		return nil, err
	}
	c := &child{pid: pid, pidfd: pidfd, adopted: adopted, started: time.Now(), wake: w, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		defer unix.Close(pidfd)
		defer r.Close()
		c.reason, err = waitExit(pidfd, int(r.Fd()))
		if err != nil {
			c.reason, c.left = err.Error(), errors.Is(err, errReleased)
		}
		c.closeOnce.Do(func() { w.Close() })
	}()
	return c, nil
}

// waitExit blocks until the process ended, and reaps it if it is our child, or
// until the wake pipe is closed.
func waitExit(pidfd, wakeFD int) (string, error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(wakeFD), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("wait for process: %w", err)
		}
		if fds[0].Revents != 0 {
			return reap(pidfd), nil
		}
		if fds[1].Revents != 0 {
			return "", errReleased
		}
	}
}

// Values of siginfo's si_code for SIGCHLD, sigaction(2).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// siginfo mirrors the SIGCHLD part of siginfo_t on 64-bit Linux; the Siginfo of
// x/sys keeps these fields to itself.
type siginfo struct {
	signo, errno, code, _ int32
	pid, uid, status      int32
	_                     [100]byte
}

func reap(pidfd int) string {
	var info siginfo
	for {
		err := unix.Waitid(unix.P_PIDFD, pidfd, asSiginfo(&info), unix.WEXITED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "ended (exit status unknown: it was started by an earlier server)"
		}
		break
	}
	switch info.code {
	case cldExited:
		return fmt.Sprintf("exit status %d", info.status)
	case cldKilled, cldDumped:
		return fmt.Sprintf("signal %s", unix.SignalName(unix.Signal(info.status)))
	}
	return "ended"
}

// release stops waiting and leaves the process as it is.
func (c *child) release() {
	c.closeOnce.Do(func() { c.wake.Close() })
	<-c.done
}

// signal sends sig to the process alone. A process that has ended is no error.
func (c *child) signal(sig unix.Signal) error {
	select {
	case <-c.done: // the descriptor is closed, its number may be another file's
		return nil
	default:
	}
	err := unix.PidfdSendSignal(c.pidfd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// kill ends the process and what it started in its own process group.
func (c *child) kill() error {
	select {
	case <-c.done:
		return nil
	default:
	}
	// The leader is alive or a zombie, so the group's number is still its own.
	_ = unix.Kill(-c.pid, unix.SIGKILL) // the descriptor below is the one that must succeed
	if err := c.signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("kill pid %d: %w", c.pid, err)
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("pid %d still there 10 s after SIGKILL; it hangs in the kernel (see /proc/%d/stack)", c.pid, c.pid)
	}
}

// terminate asks the process to end and kills it after grace or when ctx ends.
func (c *child) terminate(ctx context.Context, grace time.Duration) error {
	if err := c.signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("stop pid %d: %w", c.pid, err)
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-c.done:
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	return c.kill()
}
