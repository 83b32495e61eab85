package router

import (
	"bufio"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// head of a good request to be spoiled; the host's app echoes.
const goodHead = "Host: a.test\r\n"

var malformedRequests = []struct{ name, bytes string }{
	{"both lengths", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"both lengths, other order", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
	{"two lengths", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
	{"two equal lengths", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
	{"list of lengths", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: 5, 5\r\n\r\nhello"},
	{"signed length", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: +5\r\n\r\nhello"},
	{"negative length", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: -5\r\n\r\nhello"},
	{"hex length", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: 0x5\r\n\r\nhello"},
	{"empty length", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length:\r\n\r\nhello"},
	{"length over 63 bits", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length: 99999999999999999999\r\n\r\nhello"},
	{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\n" + goodHead + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"gzip, chunked", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
	{"chunked, identity", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"},
	{"chunked twice in one", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
	{"chunked twice", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"identity", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: identity\r\n\r\n"},
	{"unknown coding", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
	{"vertical tab in coding", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"},
	{"quoted coding", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"},
	{"empty coding", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding:\r\n\r\n0\r\n\r\n"},
	{"bare LF after request line", "GET / HTTP/1.1\n" + goodHead + "\r\n"},
	{"bare LF after field", "GET / HTTP/1.1\r\nHost: a.test\n\r\n"},
	{"bare LF as the end", "GET / HTTP/1.1\r\nHost: a.test\r\n\n"},
	{"bare CR in value", "GET / HTTP/1.1\r\n" + goodHead + "X: a\rb\r\n\r\n"},
	{"bare CR in request line", "GET /\rx HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"two CR", "GET / HTTP/1.1\r\r\n" + goodHead + "\r\n"},
	{"NUL in value", "GET / HTTP/1.1\r\n" + goodHead + "X: a\x00b\r\n\r\n"},
	{"control byte in value", "GET / HTTP/1.1\r\n" + goodHead + "X: a\x01b\r\n\r\n"},
	{"DEL in value", "GET / HTTP/1.1\r\n" + goodHead + "X: a\x7fb\r\n\r\n"},
	{"control byte in name", "GET / HTTP/1.1\r\n" + goodHead + "X\x01: a\r\n\r\n"},
	{"space before colon", "POST / HTTP/1.1\r\n" + goodHead + "Content-Length : 5\r\n\r\nhello"},
	{"tab before colon", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"},
	{"space in name", "GET / HTTP/1.1\r\n" + goodHead + "X Y: a\r\n\r\n"},
	{"empty name", "GET / HTTP/1.1\r\n" + goodHead + ": a\r\n\r\n"},
	{"no colon", "GET / HTTP/1.1\r\n" + goodHead + "X\r\n\r\n"},
	{"non-ASCII name", "GET / HTTP/1.1\r\n" + goodHead + "X\xc3\xa9: a\r\n\r\n"},
	{"folded line", "GET / HTTP/1.1\r\n" + goodHead + "X: a\r\n b\r\n\r\n"},
	{"folded by tab", "POST / HTTP/1.1\r\n" + goodHead + "Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n"},
	{"first field folded", "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n"},
	{"no Host", "GET / HTTP/1.1\r\n\r\n"},
	{"no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n"},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n"},
	{"two equal Hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n"},
	{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
	{"Host with user", "GET / HTTP/1.1\r\nHost: x@a.test\r\n\r\n"},
	{"Host with path", "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n"},
	{"Host with space", "GET / HTTP/1.1\r\nHost: a.test b\r\n\r\n"},
	{"Host list", "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n"},
	{"Host with bad port", "GET / HTTP/1.1\r\nHost: a.test:80a\r\n\r\n"},
	{"authority against Host", "GET http://b.test/ HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"authority with user", "GET http://a.test@b.test/ HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"other scheme", "GET ftp://a.test/ HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"fragment", "GET /a#b HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"backslash", "GET /\\b HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"no slash", "GET a HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"asterisk with GET", "GET * HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"CONNECT", "CONNECT a.test:80 HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"space in target", "GET /a b HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"two spaces", "GET  / HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"tab for space", "GET\t/ HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"leading space", " GET / HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"trailing space", "GET / HTTP/1.1 \r\n" + goodHead + "\r\n"},
	{"no version", "GET /\r\n" + goodHead + "\r\n"},
	{"lower-case version", "GET / http/1.1\r\n" + goodHead + "\r\n"},
	{"version 1.2", "GET / HTTP/1.2\r\n" + goodHead + "\r\n"},
	{"version 2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"version 01.1", "GET / HTTP/01.1\r\n" + goodHead + "\r\n"},
	{"bad method", "G(T / HTTP/1.1\r\n" + goodHead + "\r\n"},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},
	{"101 fields", "GET / HTTP/1.1\r\n" + goodHead + strings.Repeat("X: a\r\n", 100) + "\r\n"},
}

// malformedBodies spoil the body only: the instance may have seen the head, and
// must never see an end.
var malformedBodies = []struct{ name, body string }{
	{"signed size", "+5\r\nhello\r\n0\r\n\r\n"},
	{"prefixed size", "0x5\r\nhello\r\n0\r\n\r\n"},
	{"underscored size", "0_5\r\nhello\r\n0\r\n\r\n"},
	{"space after size", "5 \r\nhello\r\n0\r\n\r\n"},
	{"space before size", " 5\r\nhello\r\n0\r\n\r\n"},
	{"17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"over 63 bits", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"},
	{"empty size", "\r\nhello\r\n0\r\n\r\n"},
	{"bare semicolon", "5;\r\nhello\r\n0\r\n\r\n"},
	{"extension with LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"},
	{"extension with space", "5; a=b\r\nhello\r\n0\r\n\r\n"},
	{"LF after size", "5\nhello\r\n0\r\n\r\n"},
	{"LF after data", "5\r\nhello\n0\r\n\r\n"},
	{"CR after data", "5\r\nhello\r0\r\n\r\n"},
	{"data too long", "5\r\nhello!\r\n0\r\n\r\n"},
	{"LF as the end", "5\r\nhello\r\n0\r\n\n"},
	{"length as trailer", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"},
	{"folded trailer", "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n"},
}

func TestRouter_MalformedHead_Refused(t *testing.T) {
	var seen atomic.Int64
	r, _ := newTestRouter(t, testApp("a", backend(t, func(http.ResponseWriter, *http.Request) { seen.Add(1) })))
	for _, c := range malformedRequests {
		t.Run(c.name, func(t *testing.T) {
			before := seen.Load()
			got := sendRaw(t, r.Addr(), c.bytes)
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1") > 1 {
				t.Errorf("sent %q: got %q, want one 400", c.bytes, got)
			}
			if n := seen.Load() - before; n != 0 {
				t.Errorf("sent %q: the instance saw %d requests", c.bytes, n)
			}
		})
	}
}

func TestRouter_MalformedBody_NeverEndsAtTheInstance(t *testing.T) {
	var whole atomic.Int64
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		if _, err := bufio.NewReader(req.Body).ReadString(0); err != nil && err.Error() == "EOF" {
			whole.Add(1)
		}
	})))
	for _, c := range malformedBodies {
		t.Run(c.name, func(t *testing.T) {
			got := sendRaw(t, r.Addr(), "POST / HTTP/1.1\r\n"+goodHead+"Transfer-Encoding: chunked\r\n\r\n"+c.body+
				"GET /smuggled HTTP/1.1\r\n"+goodHead+"\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1") > 1 {
				t.Errorf("sent %q: got %q, want one 400", c.body, got)
			}
			if whole.Load() != 0 {
				t.Errorf("sent %q: the instance read a whole body", c.body)
			}
		})
	}
}

func TestRouter_HeadOver64KiB_Refused(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(http.ResponseWriter, *http.Request) { t.Error("the instance saw it") })))
	got := sendRaw(t, r.Addr(), "GET / HTTP/1.1\r\n"+goodHead+"X: "+strings.Repeat("a", 80<<10)+"\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 4") {
		t.Errorf("got %.100q, want 431 or 400", got)
	}
}

func TestRouter_Pipelined_AnsweredInOrder(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write([]byte("[" + req.URL.Path + "]"))
	})))
	got := sendRaw(t, r.Addr(), "GET /1 HTTP/1.1\r\n"+goodHead+"\r\nPOST /2 HTTP/1.1\r\n"+goodHead+"Transfer-Encoding: chunked\r\n\r\n"+
		"5;x=\"y z\";q=1\r\nhello\r\n0\r\nX-T: 1\r\n\r\nGET http://A.test/3?q HTTP/1.1\r\n"+goodHead+"Connection: close\r\n\r\n")
	if i, j, k := strings.Index(got, "[/1]"), strings.Index(got, "[/2]"), strings.Index(got, "[/3]"); i < 0 || j < i || k < j {
		t.Errorf("got %q, want [/1] [/2] [/3]", got)
	}
}

// The scanner must come to the same end however the bytes are cut.
func FuzzScanner_CutAnywhere_SameVerdict(f *testing.F) {
	for _, c := range malformedRequests {
		f.Add([]byte(c.bytes), 7)
	}
	for _, c := range malformedBodies {
		f.Add([]byte("POST / HTTP/1.1\r\n"+goodHead+"Transfer-Encoding: chunked\r\n\r\n"+c.body), 40)
	}
	f.Add([]byte("POST / HTTP/1.1\r\n"+goodHead+"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n"+goodHead+"\r\n"), 60)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, parts scanner
		n, err := whole.scan(b)
		if cut < 0 || cut > len(b) {
			return
		}
		n1, err1 := parts.scan(b[:cut])
		if err1 == nil {
			var n2 int
			n2, err1 = parts.scan(b[cut:])
			n1 += n2
		}
		if n != n1 || (err == nil) != (err1 == nil) || whole.state != parts.state || whole.remaining != parts.remaining {
			t.Errorf("%q: whole %d %v state %d; cut at %d: %d %v state %d", b, n, err, whole.state, cut, n1, err1, parts.state)
		}
	})
}
