package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// streamForm is the media type of a stream.
type streamForm string

const (
	formText   streamForm = "text/plain"
	formLines  streamForm = "application/x-ndjson"
	formEvents streamForm = "text/event-stream"
)

const (
	// writeTime cuts a client that takes nothing for so long.
	writeTime = 30 * time.Second
	// flushAfter gathers lines that come in bursts into one write; nobody sees it.
	flushAfter = 5 * time.Millisecond
)

var errClosing = errors.New("the server is stopping")

// stream is an answer that goes on: it flushes by itself, keeps a quiet
// connection alive, and ends with the client, the server or the handler. Its
// methods are safe for concurrent use.
type stream struct {
	ctx    context.Context // ends when nobody listens any more
	cancel context.CancelCauseFunc
	s      *Server
	c      echo.Context
	form   streamForm
	dirty  chan struct{} // holds one element when something waits for its flush
	quit   chan struct{}
	wg     sync.WaitGroup

	mu  sync.Mutex
	buf *bufio.Writer
}

// startStream sends the headers. The caller must close the stream.
func (s *Server) startStream(c echo.Context, form streamForm) *stream {
	ctx, cancel := context.WithCancelCause(c.Request().Context())
	st := &stream{ctx: ctx, cancel: cancel, s: s, c: c, form: form,
		dirty: make(chan struct{}, 1), quit: make(chan struct{}), buf: bufio.NewWriterSize(c.Response(), 32<<10)}
	setDeadlines(c, time.Time{}, time.Now().Add(writeTime))
	h := c.Response().Header()
	h.Set("Content-Type", string(form)+"; charset=utf-8")
	if form == formLines {
		h.Set("Content-Type", string(form))
	}
	h.Set("X-Accel-Buffering", "no") // proxies that would gather lines
	c.Response().WriteHeader(http.StatusOK)
	c.Response().Flush()
	s.metrics.streams.Inc()
	st.wg.Go(st.tend)
	return st
}

// tend flushes, keeps alive and watches for the server's end.
func (st *stream) tend() {
	beat := time.NewTicker(st.s.Config.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-st.dirty:
			time.Sleep(flushAfter)
			st.flush()
		case <-beat.C:
			if st.form == formEvents {
				_ = st.write([]byte(": still here\n\n"))
			}
		case <-st.s.closing:
			st.cancel(errClosing)
			return
		case <-st.quit:
			return
		}
	}
}

// event sends one server-sent event with data as JSON on one line.
func (st *stream) event(id, name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.Grow(len(text) + 64)
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + name + "\ndata: ")
	b.Write(text)
	b.WriteString("\n\n")
	return st.write(b.Bytes())
}

// line sends data as one line of JSON.
func (st *stream) line(data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return st.write(append(text, '\n'))
}

func (st *stream) text(s string) error { return st.write([]byte(s)) }

func (st *stream) write(b []byte) error {
	if err := st.ctx.Err(); err != nil {
		return context.Cause(st.ctx)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.buf.Available() < len(b) {
		st.extend()
	}
	if _, err := st.buf.Write(b); err != nil {
		st.cancel(err)
		return err
	}
	select {
	case st.dirty <- struct{}{}:
	default:
	}
	return nil
}

func (st *stream) flush() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.extend()
	if err := st.buf.Flush(); err != nil {
		st.cancel(err)
		return
	}
	if err := http.NewResponseController(st.c.Response().Writer).Flush(); err != nil {
		st.cancel(err)
	}
}

// extend gives the next write its time.
func (st *stream) extend() { setDeadlines(st.c, time.Time{}, time.Now().Add(writeTime)) }

// end turns what stopped a stream into the handler's result: a client that left
// and a server that stops are no errors; anything else is told in the stream,
// whose status has been sent, and returned for the log.
func (st *stream) end(err error) error {
	if err == nil || st.ctx.Err() != nil {
		return nil
	}
	_, body := st.s.describe(err, st.c)
	switch st.form {
	case formEvents:
		_ = st.event("", "error", body)
	case formLines:
		_ = st.line(map[string]any{"error": body})
	default:
		_ = st.text("slipway: " + body.Message + "\n")
	}
	return err
}

// close flushes what is left and waits for the stream's goroutine.
func (st *stream) close() {
	close(st.quit)
	st.wg.Wait()
	if st.ctx.Err() == nil {
		st.flush()
	}
	st.cancel(nil)
	st.s.metrics.streams.Dec()
}
