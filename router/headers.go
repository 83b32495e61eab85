package router

import (
	"net"
	"net/http"
	"net/textproto"
	"strings"
)

const headerError = "X-Slipway-Error"

// hopByHop fields concern one connection only (RFC 9110 §7.6.1).
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// removeHopByHop removes the hop-by-hop fields and those that Connection names.
func removeHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			h.Del(textproto.TrimString(name))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// hasToken reports whether a comma-separated field holds token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(textproto.TrimString(t), token) {
				return true
			}
		}
	}
	return false
}

// isOurs reports whether a request's field is one that only the router may set,
// or must not reach an instance at all. CGI, WSGI and PHP write '-' and '_' alike,
// so that the underscored twin of a field is as good as the field itself; "Proxy"
// becomes HTTP_PROXY there.
func isOurs(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	switch name {
	case "forwarded", "x-real-ip", "proxy":
		return true
	}
	return strings.HasPrefix(name, "x-forwarded-") || strings.HasPrefix(name, "x-slipway-")
}

// isFramingTwin reports whether an underscored field would pass for one that frames or
// routes requests.
func isFramingTwin(name string) bool {
	if !strings.Contains(name, "_") {
		return false
	}
	switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
	case "host", "content-length", "transfer-encoding", "connection", "x-request-id":
		return true
	}
	return false
}

// upgradeOf gives the protocol that a request asks to switch to; "" for none.
// Switching to HTTP/2 would hide all that follows from the router, and a request
// with a body or of HTTP/1.0 cannot switch.
func upgradeOf(r *http.Request) string {
	up := r.Header["Upgrade"]
	if len(up) != 1 || !hasToken(r.Header["Connection"], "upgrade") || !r.ProtoAtLeast(1, 1) || hasBody(r) {
		return ""
	}
	if p := strings.ToLower(up[0]); !isProtocol(p) || strings.HasPrefix(p, "h2c") || strings.HasPrefix(p, "http") {
		return ""
	}
	return up[0]
}

func isProtocol(p string) bool {
	name, version, ok := strings.Cut(p, "/")
	return isToken([]byte(name)) && (!ok || isToken([]byte(version)))
}

func hasBody(r *http.Request) bool { return r.ContentLength != 0 }

// outboundHeader makes the header that the instance gets.
func outboundHeader(r *http.Request, requestID string) http.Header {
	h := r.Header.Clone()
	upgrade, trailers := upgradeOf(r), hasToken(r.Header["Te"], "trailers")
	removeHopByHop(h)
	delete(h, "Http2-Settings")
	if !hasBody(r) || !r.ProtoAtLeast(1, 1) {
		delete(h, "Expect")
	}
	for name := range h {
		if isOurs(name) || isFramingTwin(name) {
			delete(h, name)
		}
	}
	// Ours come last, so that Connection can name none of them.
	if upgrade != "" {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
	client := clientIP(r)
	h["X-Forwarded-For"] = []string{client}
	h["X-Real-Ip"] = []string{client}
	h["X-Forwarded-Proto"] = []string{"http"}
	h["X-Forwarded-Host"] = []string{r.Host}
	if _, port, err := net.SplitHostPort(r.Host); err == nil && port != "" {
		h["X-Forwarded-Port"] = []string{port}
	} else {
		h["X-Forwarded-Port"] = []string{"80"}
	}
	h["X-Request-Id"] = []string{requestID}
	return h
}

func clientIP(r *http.Request) string {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return ip
}

// isRequestID reports whether a client's request ID may be kept: short, and
// nothing that a log or a page would have to escape.
func isRequestID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.:+/=@", c) >= 0) {
			return false
		}
	}
	return true
}

// isFieldValue reports whether a value from an instance may be passed on.
func isFieldValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
