package api

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/labstack/echo/v4"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	maxExecArgs  = 64
	maxExecBytes = 32 << 10
	maxFrame     = 64 << 10
	// pingEvery keeps the connection through proxies that cut quiet ones.
	pingEvery = 15 * time.Second
)

// exec runs a command in an instance over a WebSocket; api/v1 says what the
// frames are. What is wrong with the request is told before the upgrade.
func (s *Server) exec(c echo.Context) error {
	q, err := query(c, "arg*", "tty", "cols", "rows")
	if err != nil {
		return err
	}
	req, size, err := execRequest(q)
	if err != nil {
		return err
	}
	a, err := s.app(c)
	if err != nil {
		return err
	}
	r := c.Request()
	inst, err := s.runningInstance(r.Context(), a, param(c, "instance"))
	if err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return paas.Errorf(paas.CodeInvalid, "exec needs a WebSocket").WithHint("use `slipway exec`, or send Upgrade: websocket")
	}
	if o := r.Header.Get("Origin"); o != "" && !sameOrigin(o, r.Host) {
		return paas.Errorf(paas.CodeForbidden, "a page of another site may not run commands here")
	}
	conn, err := websocket.Accept(c.Response(), r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return paas.Errorf(paas.CodeInvalid, "the WebSocket could not be opened").WithCause(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxFrame + 1)
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	s.runExec(c, conn, inst.ID, req, size)
	return nil
}

func execRequest(q url.Values) (req paas.ExecRequest, size paas.TermSize, err error) {
	req.Args = q["arg"]
	total := 0
	for _, a := range req.Args {
		total += len(a)
		if strings.ContainsRune(a, 0) {
			return req, size, paas.Errorf(paas.CodeInvalid, "an argument has a NUL byte")
		}
	}
	switch {
	case len(req.Args) == 0 || req.Args[0] == "":
		return req, size, paas.Errorf(paas.CodeInvalid, "no command was given").WithHint("repeat the query parameter arg for each word")
	case len(req.Args) > maxExecArgs || total > maxExecBytes:
		return req, size, paas.Errorf(paas.CodeInvalid, "the command has %d words of %d bytes, the limits are %d and %d",
			len(req.Args), total, maxExecArgs, maxExecBytes)
	}
	if req.TTY, err = queryBool(q, "tty"); err != nil {
		return req, size, err
	}
	cols, err1 := queryInt(q, "cols", 0, 0, 1000)
	rows, err2 := queryInt(q, "rows", 0, 0, 1000)
	return req, paas.TermSize{Cols: uint16(cols), Rows: uint16(rows)}, errors.Join(err1, err2)
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

// runExec lives as long as the command, the client and the server all do.
func (s *Server) runExec(c echo.Context, conn *websocket.Conn, instance string, req paas.ExecRequest, size paas.TermSize) {
	ctx, cancel := context.WithCancel(c.Request().Context())
	stdin, stdinW := io.Pipe()
	resize := make(chan paas.TermSize, 8)
	if size.Cols > 0 && size.Rows > 0 {
		resize <- size
	}
	req.Stdin, req.Resize = stdin, resize
	req.Stdout = &frameWriter{ctx: ctx, conn: conn, channel: v1.ChannelStdout}
	req.Stderr = &frameWriter{ctx: ctx, conn: conn, channel: v1.ChannelStderr}

	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel() // the client left: end the command
		readFrames(ctx, conn, stdinW, resize)
	})
	wg.Go(func() { s.keepAlive(ctx, conn, cancel) })
	code, err := s.Runtime.Exec(ctx, instance, req)
	stdin.Close() // unblocks a reader that has input for a command that is gone
	s.sayEnd(ctx, c, conn, code, err)
	conn.Close(websocket.StatusNormalClosure, "")
	cancel()
	wg.Wait()
}

// sayEnd sends the last frame.
func (s *Server) sayEnd(ctx context.Context, c echo.Context, conn *websocket.Conn, code int, err error) {
	if ctx.Err() != nil {
		return
	}
	frame := binary.BigEndian.AppendUint32([]byte{v1.ChannelExit}, uint32(int32(code)))
	if err != nil {
		status, body := s.describe(err, c)
		if status >= 500 {
			s.Log.Error("request failed", "requestId", body.RequestID, "route", c.Path(), "err", err)
		}
		text, _ := json.Marshal(body) // strings only: cannot fail
		frame = append([]byte{v1.ChannelError}, text...)
	}
	if err := conn.Write(ctx, websocket.MessageBinary, frame); err != nil {
		s.Log.Debug("the end of a command was not told", "err", err)
	}
}

// readFrames passes stdin and sizes on until the connection ends. It is the one
// sender of resize.
func readFrames(ctx context.Context, conn *websocket.Conn, stdin *io.PipeWriter, resize chan<- paas.TermSize) {
	defer close(resize)
	defer stdin.Close()
	for {
		kind, frame, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageBinary || len(frame) == 0 {
			conn.Close(websocket.StatusUnsupportedData, "frames are binary and begin with their channel")
			return
		}
		data := frame[1:]
		switch {
		case frame[0] == v1.ChannelStdin && len(data) == 0:
			stdin.Close()
		case frame[0] == v1.ChannelStdin:
			// A command that reads no more is not the client's error.
			_, _ = stdin.Write(data)
		case frame[0] == v1.ChannelResize && len(data) == 4:
			select {
			case resize <- paas.TermSize{Cols: binary.BigEndian.Uint16(data), Rows: binary.BigEndian.Uint16(data[2:])}:
			default: // a drag sends many; the command is behind anyway
			}
		default:
			conn.Close(websocket.StatusUnsupportedData, "unknown channel")
			return
		}
	}
}

// keepAlive pings; that the answer waits behind input which the command does not
// read is no reason to end it. The server's end is one.
func (s *Server) keepAlive(ctx context.Context, conn *websocket.Conn, cancel context.CancelFunc) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			pong, done := context.WithTimeout(ctx, pingEvery/2)
			_ = conn.Ping(pong)
			done()
		case <-s.closing:
			cancel()
			return
		case <-ctx.Done():
			return
		}
	}
}

// frameWriter sends what a command writes.
type frameWriter struct {
	ctx     context.Context
	conn    *websocket.Conn
	channel byte
}

func (w *frameWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		part := p[n:min(n+maxFrame-1, len(p))]
		ctx, cancel := context.WithTimeout(w.ctx, writeTime)
		err := w.conn.Write(ctx, websocket.MessageBinary, append([]byte{w.channel}, part...))
		cancel()
		if err != nil {
			return n, err
		}
		n += len(part)
	}
	return len(p), nil
}

var _ io.Writer = (*frameWriter)(nil)
