package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

const (
	maxTries              = 3 // connections to different instances
	defaultRequestTimeout = time.Minute
)

// exchange is one request on its way through the router.
type exchange struct {
	rt    *Router
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	id    string // request ID
	host  string // in normal form
	start time.Time

	app      *app
	instance string // the last one tried
	tries    int
	code     int // answered
	class    string
	tunnel   bool
	cut      bool // the answer was begun and cannot be ended well
}

// failure is why one try gave no answer.
type failure struct {
	class   string // errorClass of the page
	detail  string // for the page and the log
	err     error
	connect bool // the connection was not made: nothing was sent
	stale   bool // an idle connection turned out to be dead: safe to repeat
}

// ServeHTTP takes one request to an instance and its answer back.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	x := &exchange{rt: r, w: w, r: req, rc: http.NewResponseController(w), start: time.Now()}
	r.open.Add(1)
	defer r.open.Add(-1)
	if x.id = req.Header.Get("X-Request-Id"); !isRequestID(x.id) {
		x.id = newRequestID()
	}
	_ = x.rc.EnableFullDuplex() // only HTTP/2 lacks it, and has it anyway
	if r.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	x.serve()
	r.metrics.observe(x, time.Since(x.start))
	x.log()
	if x.cut {
		if g := guardOf(req); g != nil && !req.ProtoAtLeast(1, 1) {
			_ = g.SetLinger(0) // for HTTP/1.0 a plain close would mean that all is well
		}
		panic(http.ErrAbortHandler) // closes the connection without a proper end
	}
}

func newRequestID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails, as of Go 1.24
	return hex.EncodeToString(b[:])
}

func (x *exchange) serve() {
	host, ok := NormalizeHost(x.r.Host)
	if !ok || x.r.Method == http.MethodConnect {
		x.page(errBadRequest, "the host or the method of this request is not one that can be routed")
		return
	}
	x.host = host
	var tried []*instance
	var last *failure
	for fresh := false; x.tries < maxTries; x.tries++ {
		t, a, in := x.rt.claim(x.host, tried, time.Now())
		if in == nil {
			x.refuse(t, a, last)
			return
		}
		x.app, x.instance = a, in.id
		f := x.try(in, fresh)
		if f == nil {
			return
		}
		last = f
		if x.r.Context().Err() != nil && f.class != errBadRequest {
			x.cut = true // nobody is there to read a page, but for one who broke the framing
			return
		}
		switch {
		case f.connect:
			tried = append(tried, in)
		case f.stale && !fresh:
			fresh = true
		default:
			x.fail(f)
			return
		}
		x.rt.metrics.retries.Add(1)
	}
	x.fail(last)
}

// refuse answers when there is no instance to try, or none left.
func (x *exchange) refuse(t *table, a *app, last *failure) {
	x.app = a
	switch {
	case t == nil:
		x.page(errNoTable, "")
	case a == nil:
		x.page(errUnknownHost, "")
	case a.Stopped:
		x.page(errStopped, "")
	case last != nil:
		x.fail(last)
	default:
		x.page(errNoInstance, a.NoInstance)
	}
}

func (x *exchange) fail(f *failure) { x.page(f.class, f.detail) }

// try sends the request to in, for which it is claimed. nil means that the client
// has its answer, or as much of it as there is.
func (x *exchange) try(in *instance, fresh bool) *failure {
	defer in.release() // the very last: with the connection back in its pool
	ctx := x.r.Context()
	c, f := x.connect(ctx, in, fresh)
	if f != nil {
		return f
	}
	unwatch := context.AfterFunc(ctx, func() { c.Close() })
	keep := false
	defer func() {
		if unwatch() && keep {
			_ = c.SetDeadline(time.Time{})
			in.pool.put(c, time.Now())
			return
		}
		c.Close()
	}()
	c.begin()
	timeout := x.timeout()
	_ = c.SetDeadline(time.Now().Add(timeout))
	if n, err := writeHead(c, x.r, outboundHeader(x.r, x.id)); err != nil {
		return x.sendFailure(c, n, err)
	}
	var s *sender
	if hasBody(x.r) {
		_ = c.SetReadDeadline(time.Time{}) // begins when the body is sent
		s = startSender(x.r, c, timeout)
	}
	resp, err := x.awaitResponse(c, s)
	if err != nil {
		return x.answerFailure(c, s, err)
	}
	if s != nil {
		s.answered.Store(true)
	}
	_ = c.SetReadDeadline(time.Time{})
	if resp.code == http.StatusSwitchingProtocols {
		return x.runTunnel(c, resp)
	}
	keep = x.forward(c, s, resp)
	return nil
}

func (x *exchange) timeout() time.Duration {
	if ms := x.app.RequestTimeoutMillis; ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return defaultRequestTimeout
}

// connect takes an idle connection or makes one.
func (x *exchange) connect(ctx context.Context, in *instance, fresh bool) (*conn, *failure) {
	if !fresh {
		limit := maxIdleLimit
		if !isRepeatable(x.r) {
			limit = unrepeatableLimit
		}
		if c := in.pool.take(time.Now(), limit); c != nil {
			c.reused = true
			return c, nil
		}
	}
	c, err := in.dial(ctx)
	if err == nil {
		in.health.connected()
		return c, nil
	}
	if ctx.Err() == nil {
		if in.health.connectFailed(time.Now(), err) {
			x.rt.log.Warn("instance ejected", "app", x.app.App, "instance", in.id, "for", ejectFor, "err", err)
		}
	}
	return nil, &failure{class: errUnreachable, detail: classify(err), err: err, connect: true}
}

// isIdempotent reports whether sending the request twice does no harm (RFC 9110 §9.2.2).
func isIdempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// isRepeatable reports whether the request may go out a second time however much
// of it was sent: it does no harm, and there is no body that could be gone.
func isRepeatable(r *http.Request) bool { return isIdempotent(r) && !hasBody(r) }

// sendFailure judges a head that could not be written. Nothing written means
// that any request may go again.
func (x *exchange) sendFailure(c *conn, n int, err error) *failure {
	f := &failure{class: errUnreachable, detail: classify(err), err: err}
	f.stale = c.reused && (n == 0 || isRepeatable(x.r))
	return f
}

// awaitResponse reads up to the final head, passing on the informational ones.
func (x *exchange) awaitResponse(c *conn, s *sender) (*response, error) {
	for range maxInformational {
		resp, err := readResponse(c, x.r.Method)
		if err != nil {
			return nil, err
		}
		switch {
		case resp.code == http.StatusContinue:
			if s != nil {
				s.allowBody() // reading the body makes net/http tell the client
			}
		case resp.code == http.StatusSwitchingProtocols:
			return resp, checkSwitch(x.r, resp)
		case resp.code < 200:
			x.inform(resp)
		default:
			c.headLeft = -1
			return resp, nil
		}
	}
	return nil, malformed("more than %d informational answers", maxInformational)
}

// inform passes on a 1xx answer such as 103 Early Hints.
func (x *exchange) inform(resp *response) {
	if !x.r.ProtoAtLeast(1, 1) {
		return
	}
	removeHopByHop(resp.header)
	h := x.w.Header()
	before := h.Clone()
	for name, values := range resp.header {
		h[name] = values
	}
	x.w.WriteHeader(resp.code)
	clear(h)
	for name, values := range before {
		h[name] = values
	}
}

// answerFailure judges why no answer came. It ends the sender first.
func (x *exchange) answerFailure(c *conn, s *sender, err error) *failure {
	bodyUntouched := true
	if s != nil {
		s.abandon(x)
		bodyUntouched = !s.started.Load()
		if s.brokeFraming() {
			return &failure{class: errBadRequest, detail: s.clientErr.Error(), err: s.clientErr}
		}
		if s.clientFailed() {
			return &failure{class: errBadRequest, detail: "the request's body broke off", err: s.clientErr}
		}
		if isTimeout(s.instanceErr) {
			err = s.instanceErr
		}
	}
	var bad *badResponse
	switch {
	case errors.As(err, &bad):
		return &failure{class: errUnreachable, detail: "the instance sent a " + bad.Error(), err: err}
	case isTimeout(err):
		return &failure{class: errTimeout, detail: x.timeout().String(), err: err}
	}
	f := &failure{class: errUnreachable, detail: classify(err), err: err}
	f.stale = c.reused && !c.gotByte.Load() && bodyUntouched && isIdempotent(x.r)
	return f
}

func (x *exchange) log() {
	ctx := x.r.Context()
	if !x.rt.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	name := ""
	if x.app != nil {
		name = x.app.App
	}
	x.rt.log.Debug("request", "id", x.id, "client", clientIP(x.r), "method", x.r.Method, "host", x.r.Host, "target", x.r.RequestURI,
		"app", name, "instance", x.instance, "code", x.code, "error", x.class, "tries", x.tries+1, "tunnel", x.tunnel, "cut", x.cut,
		"duration", time.Since(x.start))
}
