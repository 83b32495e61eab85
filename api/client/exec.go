package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/coder/websocket"

	"github.com/slipway-paas/slipway/api/v1"
	"github.com/slipway-paas/slipway/internal/paas"
)

// ExecOptions is a command and what it is connected to.
type ExecOptions struct {
	Args   []string // at least one
	TTY    bool
	Stdin  io.Reader // nil = none
	Stdout io.Writer // nil = thrown away
	Stderr io.Writer // nil = thrown away; unused with TTY
	Size   paas.TermSize
	Resize <-chan paas.TermSize // nil = the size stays
}

// Exec runs a command in an instance (an ID, or a name like web.1) and blocks
// until it ends. A Read of Stdin that is under way then is not waited for.
func (c *Client) Exec(ctx context.Context, app, instance string, o ExecOptions) (exitCode int, err error) {
	conn, err := c.dialExec(ctx, app, instance, o)
	if err != nil {
		return 0, err
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	w := &frames{ctx: ctx, conn: conn}
	go w.sendStdin(o.Stdin)
	wg.Go(func() { w.sendSizes(o.Resize) })
	return c.readExec(ctx, conn, o)
}

func (c *Client) dialExec(ctx context.Context, app, instance string, o ExecOptions) (*websocket.Conn, error) {
	q := url.Values{"arg": o.Args}
	if o.TTY {
		q.Set("tty", "true")
		q.Set("cols", strconv.Itoa(int(o.Size.Cols)))
		q.Set("rows", strconv.Itoa(int(o.Size.Rows)))
	}
	req, err := c.request(ctx, http.MethodGet, appPath(app, "instances", instance, "exec"), q, nil)
	if err != nil {
		return nil, err
	}
	conn, resp, err := websocket.Dial(ctx, req.URL.String(), &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: req.Header})
	switch {
	case err == nil:
		conn.SetReadLimit(1 << 20)
		return conn, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case resp != nil && resp.StatusCode >= 400:
		resp.Request = req
		return nil, readError(resp)
	}
	return nil, c.unreachable(err, isDialError(err))
}

// readExec passes output on until the last frame.
func (c *Client) readExec(ctx context.Context, conn *websocket.Conn, o ExecOptions) (int, error) {
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			return 0, c.unreachable(err, false)
		}
		if len(frame) == 0 {
			continue
		}
		data := frame[1:]
		switch {
		case frame[0] == v1.ChannelStdout:
			err = writeTo(o.Stdout, data)
		case frame[0] == v1.ChannelStderr:
			err = writeTo(o.Stderr, data)
		case frame[0] == v1.ChannelExit && len(data) == 4:
			conn.Close(websocket.StatusNormalClosure, "")
			return int(int32(binary.BigEndian.Uint32(data))), nil
		case frame[0] == v1.ChannelError:
			var body v1.Error
			if err := json.Unmarshal(data, &body); err != nil {
				return 0, c.unreachable(err, false)
			}
			return 0, &answerError{err: toError(body), requestID: body.RequestID}
		}
		if err != nil {
			return 0, err
		}
	}
}

func writeTo(w io.Writer, data []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(data)
	return err
}

// frames sends what the user types; a failed write also ends the reader.
type frames struct {
	ctx  context.Context
	conn *websocket.Conn
}

func (w *frames) sendStdin(stdin io.Reader) {
	buf := make([]byte, 32<<10)
	buf[0] = v1.ChannelStdin
	for stdin != nil {
		n, err := stdin.Read(buf[1:])
		if n > 0 && w.conn.Write(w.ctx, websocket.MessageBinary, buf[:n+1]) != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	_ = w.conn.Write(w.ctx, websocket.MessageBinary, buf[:1]) // the end of stdin
}

func (w *frames) sendSizes(sizes <-chan paas.TermSize) {
	for {
		select {
		case s, ok := <-sizes:
			if !ok {
				return
			}
			frame := binary.BigEndian.AppendUint16([]byte{v1.ChannelResize}, s.Cols)
			frame = binary.BigEndian.AppendUint16(frame, s.Rows)
			if w.conn.Write(w.ctx, websocket.MessageBinary, frame) != nil {
				return
			}
		case <-w.ctx.Done():
			return
		}
	}
}
