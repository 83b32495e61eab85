package router

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	copyBufferSize = 32 << 10
	// An instance that answers neither "100 Continue" nor anything else gets the
	// body after this time (RFC 9110 §10.1.1 asks for a bound).
	continueWait = time.Second
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBufferSize); return &b }}

// writeHead sends the request line and header in one write. n is what reached
// the connection: with 0 the instance cannot have seen anything.
func writeHead(c *conn, r *http.Request, h http.Header) (n int, err error) {
	var b strings.Builder
	b.Grow(1024)
	b.WriteString(r.Method + " " + targetOf(r) + " HTTP/1.1\r\nHost: " + r.Host + "\r\n")
	switch {
	case r.ContentLength > 0:
		b.WriteString("Content-Length: " + strconv.FormatInt(r.ContentLength, 10) + "\r\n")
	case r.ContentLength < 0:
		b.WriteString("Transfer-Encoding: chunked\r\n")
		if names := trailerNames(r); len(names) > 0 {
			b.WriteString("Trailer: " + strings.Join(names, ", ") + "\r\n")
		}
	case r.Header.Get("Content-Length") != "" || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b.WriteString("Content-Length: 0\r\n")
	}
	for name, values := range h {
		if name == "Content-Length" {
			continue
		}
		for _, v := range values {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return io.WriteString(c.TCPConn, b.String())
}

// targetOf gives the origin form of the request's target, byte for byte as it came.
func targetOf(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") || r.RequestURI == "*" {
		return r.RequestURI
	}
	_, path, _ := splitAbsolute(r.RequestURI)
	return path
}

func trailerNames(r *http.Request) []string {
	var names []string
	for name := range r.Trailer {
		if mayBeTrailer(name) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// sender carries one request's body to one instance, beside the answer: an
// instance may answer before it has read everything, or talk both ways at once.
type sender struct {
	r       *http.Request
	c       *conn
	timeout time.Duration // of a single write, and of the answer after the last
	cont    chan struct{} // closed when the body may be sent
	stop    chan struct{} // closed to give up before the first byte
	done    chan struct{}

	started  atomic.Bool // a byte of the body was asked for: no other try can have it
	complete atomic.Bool // the client has sent all of it
	answered atomic.Bool // the answer's head is there: no deadline any more
	// Valid after done.
	clientErr   error // the client's side failed
	instanceErr error // the instance's side failed
}

func startSender(r *http.Request, c *conn, timeout time.Duration) *sender {
	s := &sender{r: r, c: c, timeout: timeout, cont: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	go s.run(strings.EqualFold(r.Header.Get("Expect"), "100-continue"))
	return s
}

func (s *sender) run(wait bool) {
	defer close(s.done)
	if wait && !s.awaitContinue() {
		return
	}
	s.started.Store(true)
	s.copyBody()
	if s.clientErr != nil {
		// What the instance has is a part that must not look whole.
		s.c.Close()
		return
	}
	s.startAnswerDeadline()
}

// startAnswerDeadline bounds the wait for the answer from the end of the body on,
// unless the answer overtook it. Errors are those of a closed connection, which
// shows when read.
func (s *sender) startAnswerDeadline() {
	if s.answered.Load() {
		return
	}
	_ = s.c.SetReadDeadline(time.Now().Add(s.timeout))
	if s.answered.Load() {
		_ = s.c.SetReadDeadline(time.Time{})
	}
}

func (s *sender) awaitContinue() bool {
	t := time.NewTimer(continueWait)
	defer t.Stop()
	select {
	case <-s.stop:
		return false
	case <-s.cont:
	case <-t.C:
	}
	return true
}

func (s *sender) copyBody() {
	var dst io.Writer = s.c.TCPConn
	var chunked io.WriteCloser
	if s.r.ContentLength < 0 {
		chunked = httputil.NewChunkedWriter(dst)
		dst = chunked
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := s.r.Body.Read(*buf)
		// Noted before the write: the instance may answer as soon as it has the last
		// byte, and the client's connection is fit for reuse by then.
		if err == io.EOF {
			s.complete.Store(true)
		}
		if n > 0 && s.instanceErr == nil {
			_ = s.c.SetWriteDeadline(time.Now().Add(s.timeout))
			_, s.instanceErr = dst.Write((*buf)[:n])
		}
		switch {
		case err == io.EOF:
			s.end(chunked)
			return
		case err != nil:
			s.clientErr = err
			return
		case s.instanceErr != nil:
			return
		}
	}
}

// end writes the last chunk and the trailers.
func (s *sender) end(chunked io.WriteCloser) {
	if chunked == nil || s.instanceErr != nil {
		return
	}
	if s.instanceErr = chunked.Close(); s.instanceErr != nil {
		return
	}
	var b strings.Builder
	for _, name := range trailerNames(s.r) {
		for _, v := range s.r.Trailer[name] {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	_, s.instanceErr = io.WriteString(s.c.TCPConn, b.String())
}

// allowBody lets the body go, after the instance's "100 Continue".
func (s *sender) allowBody() {
	select {
	case <-s.cont:
	default:
		close(s.cont)
	}
}

// finish ends the sender after a whole answer and reports whether the instance
// got the whole body, so that the connection can serve again.
func (s *sender) finish(x *exchange) bool {
	if s.complete.Load() {
		t := time.NewTimer(50 * time.Millisecond) // the rest of one write
		defer t.Stop()
		select {
		case <-s.done:
			return s.instanceErr == nil && s.clientErr == nil
		case <-t.C:
		}
	}
	s.abandon(x)
	return false
}

// abandon ends the sender whatever it waits for. A body that was begun is lost,
// and with it the client's connection for further requests.
func (s *sender) abandon(x *exchange) {
	close(s.stop)
	s.c.Close()
	if s.started.Load() && !s.complete.Load() {
		_ = x.rc.SetReadDeadline(time.Unix(1, 0)) // not supported only where there is nothing to wake
	}
	<-s.done
}

// clientFailed reports whether the body broke off at the client's side. Valid after
// done. The deadline that abandon sets is not the client's doing.
func (s *sender) clientFailed() bool {
	return s.clientErr != nil && !errors.Is(s.clientErr, os.ErrDeadlineExceeded)
}

// brokeFraming reports whether the client's body broke the rules of framing.
// Valid after done.
func (s *sender) brokeFraming() bool {
	var fe *framingError
	return errors.As(s.clientErr, &fe)
}
