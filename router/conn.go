package router

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	connectTimeout  = 3 * time.Second
	maxResponseHead = 256 << 10
)

var errHeadTooLarge = malformed("head or trailers over %d bytes", maxResponseHead)

// conn is one connection to one instance.
type conn struct {
	*net.TCPConn
	br        *bufio.Reader
	headLeft  int64 // bytes that a response head may still take; -1 = reading a body
	gotByte   atomic.Bool
	reused    bool
	idleSince time.Time
	idleLimit time.Duration
}

// dial opens a connection to the instance. Its failure means that nothing was
// sent, so that the request may go elsewhere.
func (in *instance) dial(ctx context.Context) (*conn, error) {
	d := net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", in.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: nc.(*net.TCPConn), idleLimit: defaultIdleLimit}
	c.br = bufio.NewReader((*connReader)(c))
	return c, nil
}

// connReader is a conn's reading side, which notes the first byte of a response
// and bounds its head.
type connReader conn

func (r *connReader) Read(p []byte) (int, error) {
	if r.headLeft == 0 {
		return 0, errHeadTooLarge
	}
	if r.headLeft > 0 && int64(len(p)) > r.headLeft {
		p = p[:r.headLeft]
	}
	n, err := r.TCPConn.Read(p)
	if n > 0 {
		r.gotByte.Store(true)
		if r.headLeft > 0 {
			r.headLeft -= int64(n)
		}
	}
	return n, err
}

// begin readies the connection for the next exchange.
func (c *conn) begin() {
	c.gotByte.Store(false)
	c.headLeft = maxResponseHead
}

// isQuiet looks without reading whether an idle connection is still open and
// holds no bytes that nobody asked for.
func (c *conn) isQuiet() bool {
	if c.br.Buffered() > 0 {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = errors.Is(err, unix.EAGAIN)
	})
	return err == nil && quiet
}

// classify gives the failure of a connection to an instance a name that may be shown.
func classify(err error) string {
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to the instance"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "the router is out of connections"
	case errors.As(err, &ne) && ne.Timeout():
		return "timed out"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection closed by the instance before it answered"
	}
	return "connection failed"
}
