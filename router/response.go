package router

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

const maxInformational = 16 // 1xx answers before the final one

// response is an instance's answer up to its body.
type response struct {
	code    int
	reason  string
	http11  bool
	header  http.Header
	trailer http.Header // filled when body has been read to its end

	body       io.Reader // nil = none
	length     int64     // -1 = unknown
	reusable   bool      // the connection may serve another request after the body
	announced  []string  // trailer names from the Trailer field
	isChunked  bool
	toTheClose bool // the body ends with the connection
}

// badResponse says how an instance's answer breaks HTTP.
type badResponse struct{ why string }

func (e *badResponse) Error() string { return "malformed response: " + e.why }

func malformed(format string, args ...any) error {
	return &badResponse{why: fmt.Sprintf(format, args...)}
}

// readResponse reads a response's head and readies its body. It is called again
// after each informational one.
func readResponse(c *conn, method string) (*response, error) {
	tp := textproto.NewReader(c.br)
	line, err := tp.ReadLine()
	if err != nil {
		return nil, err
	}
	resp := &response{length: -1}
	if err := resp.parseStatus(line); err != nil {
		return nil, err
	}
	h, err := tp.ReadMIMEHeader()
	if err != nil {
		if _, ok := err.(textproto.ProtocolError); ok {
			return nil, malformed("%v", err)
		}
		return nil, unexpected(err)
	}
	resp.header = http.Header(h)
	for name, values := range resp.header {
		for _, v := range values {
			if !isToken([]byte(name)) || !isFieldValue(v) {
				return nil, malformed("header field %.80q", name+": "+v)
			}
		}
	}
	if err := resp.frame(c, method); err != nil {
		return nil, err
	}
	return resp, nil
}

func (p *response) parseStatus(line string) error {
	version, rest, ok := strings.Cut(line, " ")
	if !ok || version != "HTTP/1.1" && version != "HTTP/1.0" {
		return malformed("status line %.80q", line)
	}
	p.http11 = version == "HTTP/1.1"
	code, reason, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || n < 100 || !isFieldValue(reason) {
		return malformed("status line %.80q", line)
	}
	p.code, p.reason = n, reason
	return nil
}

// frame decides where the body ends, by RFC 9112 §6.3, and refuses what could
// be read in two ways.
func (p *response) frame(c *conn, method string) error {
	te, cl := p.header["Transfer-Encoding"], p.header["Content-Length"]
	if len(te) > 1 || len(te) == 1 && !strings.EqualFold(te[0], "chunked") {
		return malformed("Transfer-Encoding %.80q", te)
	}
	if len(te) == 1 && len(cl) > 0 {
		return malformed("both Content-Length and Transfer-Encoding")
	}
	if len(cl) > 1 {
		return malformed("Content-Length given %d times", len(cl))
	}
	connection := p.header["Connection"]
	p.reusable = p.http11 && !hasToken(connection, "close") || !p.http11 && hasToken(connection, "keep-alive")
	var length uint64
	if len(cl) == 1 {
		var ok bool
		if length, ok = parseLength(cl[0]); !ok {
			return malformed("Content-Length %.80q", cl[0])
		}
	}
	switch {
	case p.code < 200 || p.code == http.StatusNoContent || p.code == http.StatusNotModified || method == http.MethodHead:
		p.length = 0
	case len(te) == 1:
		p.isChunked = true
		p.body = httputil.NewChunkedReader(c.br)
		p.announced = append(p.announced, p.header["Trailer"]...)
	case len(cl) == 1:
		p.length = int64(length)
		if length > 0 {
			p.body = io.LimitReader(c.br, p.length)
		}
	default:
		p.body, p.toTheClose, p.reusable = c.br, true, false
	}
	p.noteIdleLimit(c)
	return nil
}

// noteIdleLimit takes an instance at its word on how long it keeps idle connections.
func (p *response) noteIdleLimit(c *conn) {
	for _, v := range p.header["Keep-Alive"] {
		for part := range strings.SplitSeq(v, ",") {
			name, value, _ := strings.Cut(textproto.TrimString(part), "=")
			if n, err := strconv.Atoi(value); err == nil && strings.EqualFold(name, "timeout") {
				c.idleLimit = min(time.Duration(n)*time.Second-time.Second, maxIdleLimit)
			}
		}
	}
}

// finish checks, at the end of what body gave, that the body is whole, and reads
// the trailers of a chunked one.
func (p *response) finish(c *conn) error {
	if lr, ok := p.body.(*io.LimitedReader); ok && lr.N > 0 {
		return io.ErrUnexpectedEOF
	}
	if !p.isChunked {
		return nil
	}
	c.headLeft = maxTrailerBytes
	h, err := textproto.NewReader(c.br).ReadMIMEHeader()
	if err != nil {
		return unexpected(err)
	}
	p.trailer = http.Header(h)
	for name, values := range p.trailer {
		bad := !isToken([]byte(name)) || !mayBeTrailer(name)
		for _, v := range values {
			bad = bad || !isFieldValue(v)
		}
		if bad {
			delete(p.trailer, name)
		}
	}
	return nil
}

// mayBeTrailer keeps fields out of trailers that frame, route or authenticate
// (RFC 9110 §6.5.1).
func mayBeTrailer(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Length", "Transfer-Encoding", "Trailer", "Host", "Content-Encoding", "Content-Type",
		"Content-Range", "Authorization", "Set-Cookie", "X-Request-Id", headerError:
		return false
	}
	for _, h := range hopByHop {
		if http.CanonicalHeaderKey(name) == h {
			return false
		}
	}
	return !isOurs(name)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
