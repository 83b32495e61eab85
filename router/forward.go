package router

import (
	"errors"
	"io"
	"net"
	"net/http"
)

// forward passes the final answer on and reports whether the instance's
// connection can serve again.
func (x *exchange) forward(c *conn, s *sender, resp *response) (keep bool) {
	x.writeHead(s, resp)
	clientErr, instanceErr := x.copyBody(c, resp)
	if clientErr == nil && instanceErr == nil && resp.body != nil {
		instanceErr = resp.finish(c)
	}
	if clientErr != nil || instanceErr != nil {
		// Whoever failed, the client must not take a part for the whole.
		x.cut = true
		if instanceErr != nil {
			x.class = "cut"
			x.rt.log.Debug("answer cut", "id", x.id, "app", x.app.App, "instance", x.instance, "err", instanceErr)
		}
	} else {
		x.writeTrailers(resp)
	}
	if s != nil && !s.finish(x) {
		return false
	}
	return !x.cut && resp.reusable && c.br.Buffered() == 0
}

func (x *exchange) writeHead(s *sender, resp *response) {
	removeHopByHop(resp.header)
	h := x.w.Header()
	for name, values := range resp.header {
		if name != headerError { // only ours can be trusted
			h[name] = values
		}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // net/http would guess one
	}
	if _, ok := h["X-Request-Id"]; !ok {
		h["X-Request-Id"] = []string{x.id}
	}
	if resp.isChunked && len(resp.announced) > 0 {
		h["Trailer"] = resp.announced
	}
	if s != nil && !s.complete.Load() || x.rt.draining.Load() {
		h["Connection"] = []string{"close"}
	}
	x.code = resp.code
	x.w.WriteHeader(resp.code)
}

// copyBody passes the body on as it comes: whatever is there goes out before the
// next wait for the instance.
func (x *exchange) copyBody(c *conn, resp *response) (clientErr, instanceErr error) {
	if resp.body == nil {
		return nil, nil
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	flushed := false
	for left := resp.length; ; {
		if !flushed && left != 0 && c.br.Buffered() == 0 {
			if err := x.rc.Flush(); err != nil {
				return err, nil
			}
			flushed = true
		}
		n, err := resp.body.Read(*buf)
		if n > 0 {
			if _, err := x.w.Write((*buf)[:n]); err != nil {
				return err, nil
			}
			flushed = false
			if left > 0 {
				left -= int64(n)
			}
		}
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// writeTrailers passes trailers on, also those that were not announced.
func (x *exchange) writeTrailers(resp *response) {
	h := x.w.Header()
	for name, values := range resp.trailer {
		if hasToken(resp.announced, name) {
			h[name] = values
		} else {
			h[http.TrailerPrefix+name] = values
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
