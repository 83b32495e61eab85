package reconcile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	defaultInterval = 5 * time.Second
	defaultTimeout  = 5 * time.Second
	maxProbeHeader  = 64 << 10
)

// probe asks an instance once, from outside: it opens the port and sends a GET.
// Anything below 500 is a good answer, or 200 alone when the check is strict.
// Each probe has its own connection, so that it tests what a new visitor needs.
func probe(ctx context.Context, t target) answer {
	path := t.check.Path
	if path == "" {
		path = "/"
	}
	limit := t.check.Timeout
	if limit == 0 {
		limit = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", t.addr)
	if err != nil {
		bad := fmt.Sprintf("port not open on %s: %s", t.addr, reasonOf(err))
		return answer{text: bad, bad: bad}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(start.Add(limit)) // a connected TCP socket always takes a deadline
	status, err := get(ctx, conn, t.host, path)
	took := time.Since(start)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil:
		bad := fmt.Sprintf("GET %s had no answer within %s", path, seconds(limit))
		return answer{connected: true, text: bad, bad: bad}
	case err != nil:
		bad := fmt.Sprintf("GET %s: %s", path, reasonOf(err))
		return answer{connected: true, text: bad, bad: bad}
	}
	a := answer{connected: true, text: fmt.Sprintf("GET %s answered %d in %d ms", path, status, took.Milliseconds())}
	a.ok = status == http.StatusOK || !t.check.Strict && status < http.StatusInternalServerError
	if !a.ok {
		a.bad = fmt.Sprintf("GET %s answered %d", path, status)
	}
	return a
}

// get writes one request and reads the head of the answer; the body is of no
// interest, however large.
func get(ctx context.Context, conn net.Conn, host, path string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "slipway-health")
	req.Close = true
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxProbeHeader)), req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, nil
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "the connection was reset"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	}
	return err.Error()
}
