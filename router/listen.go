package router

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// listen opens the port. With reusePort several processes can hold it; the kernel
// spreads new connections over them.
func listen(ctx context.Context, addr string, reusePort bool) (net.Listener, error) {
	var lc net.ListenConfig
	if reusePort {
		lc.Control = func(_, _ string, c syscall.RawConn) error {
			var optErr error
			err := c.Control(func(fd uintptr) {
				optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			})
			if err != nil {
				return err
			}
			return optErr
		}
	}
	// The caller's end must not undo a listen that worked.
	ln, err := lc.Listen(context.WithoutCancel(ctx), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("router: listen on %s: %w", addr, err)
	}
	return ln, nil
}

// guardListener puts the framing guard before every connection.
type guardListener struct {
	net.Listener
	r *Router
}

func (l *guardListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guardConn{TCPConn: c.(*net.TCPConn), onBroken: l.r.refusedBytes}, nil
}

func (r *Router) refusedBytes(remote string, err error) {
	r.metrics.malformed.Add(1)
	r.log.Debug("bytes refused", "client", remote, "err", err)
}

// TuneProcess sets what concerns the whole process, not one Router: call it once
// from main. A soft memory limit (unless GOMEMLIMIT is given) makes the collector
// work harder before the process grows; and the kernel is asked to hand
// connections that wait in the queue of a listener that closes to another one of
// the same port (Linux 5.14), without which a router that stops or is killed
// resets them. The latter needs root and is left alone otherwise.
func TuneProcess(log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(256 << 20)
	}
	const sysctl = "/proc/sys/net/ipv4/tcp_migrate_req"
	if err := os.WriteFile(sysctl, []byte("1\n"), 0); err != nil {
		log.Warn("connections that wait to be accepted are lost when a router ends", "sysctl", sysctl, "err", err)
	}
}
