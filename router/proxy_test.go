package router

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRouter_Headers_SpoofedOnesReplaced(t *testing.T) {
	got := make(chan http.Header, 1)
	host := make(chan string, 1)
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		got <- req.Header.Clone()
		host <- req.Host
		w.Header().Set("X-Slipway-Error", "forged")
		w.Header().Set("Keep-Alive", "timeout=7")
	})))
	answer := sendRaw(t, r.Addr(), "GET /x HTTP/1.1\r\nHost: A.test:81\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded-proto: https\r\n"+
		"X-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Slipway-App: b\r\nProxy: http://evil\r\n"+
		"Content_Length: 7\r\nTransfer_Encoding: chunked\r\nX-Request-Id: bad id\r\nX-Hop: 1\r\nKeep-Alive: 300\r\nTE: trailers, deflate\r\n"+
		"Connection: close, X-Hop, X-Forwarded-For, X-Real-IP, Host\r\nAccept: a\r\nAccept: b\r\n\r\n")
	h := <-got
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "A.test:81", "X-Forwarded-Port": "81", "X-Real-Ip": "127.0.0.1",
		"Te":              "trailers",
		"X_forwarded_for": "", "X-Forwarded-Prefix": "", "Forwarded": "", "X-Slipway-App": "", "Proxy": "", "Content_length": "", "Transfer_encoding": "",
		"X-Hop": "", "Keep-Alive": "", "Connection": "",
	} {
		if v := strings.Join(h[name], "|"); v != want {
			t.Errorf("%s = %q, want %q", name, v, want)
		}
	}
	if id := h.Get("X-Request-Id"); len(id) != 24 {
		t.Errorf("X-Request-Id = %q, want one of ours", id)
	}
	if a := strings.Join(h["Accept"], "|"); a != "a|b" {
		t.Errorf("Accept = %q, want both", a)
	}
	if v := <-host; v != "A.test:81" {
		t.Errorf("Host = %q, want as sent", v)
	}
	if strings.Contains(answer, "forged") || strings.Contains(answer, "timeout=7") || !strings.Contains(answer, "Connection: close") {
		t.Errorf("answer %q: want no forged error, no Keep-Alive of the instance, a close", answer)
	}
}

func TestRouter_RequestID_SaneOneKept(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Header.Get("X-Request-Id")) })))
	req := request(t, http.MethodGet, "http://a.test/", nil)
	req.Header.Set("X-Request-Id", "trace-42:a/b")
	if resp, body := do(t, newClient(t, r), req); body != "trace-42:a/b" || resp.Header.Get("X-Request-Id") != body {
		t.Errorf("instance got %q, client got %q", body, resp.Header.Get("X-Request-Id"))
	}
}

func TestRouter_Target_PassedByteForByte(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.RequestURI) })))
	for _, target := range []string{"/a%2Fb//c/../d?x=1;y=2&z", "/?", "/%E4?a=%zz", "//host/x", "/a;b=c"} {
		got := sendRaw(t, r.Addr(), "GET "+target+" HTTP/1.1\r\n"+goodHead+"Connection: close\r\n\r\n")
		if !strings.HasSuffix(got, target) {
			t.Errorf("sent %q, got %q", target, got)
		}
	}
}

func TestRouter_BigBodiesBothWays_Unchanged(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or net/http would drop what it has not read when the answer begins
		_, _ = io.Copy(w, req.Body)
	})))
	payload := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB
	for _, chunked := range []bool{false, true} {
		var body io.Reader = bytes.NewReader(payload)
		if chunked {
			body = io.MultiReader(body)
		}
		resp, err := newClient(t, r).Do(request(t, http.MethodPut, "http://a.test/", body))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		n, err := io.Copy(h, resp.Body)
		resp.Body.Close()
		if want := sha256.Sum256(payload); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
			t.Errorf("chunked %v: %d bytes back, %v; want the same %d", chunked, n, err, len(payload))
		}
	}
}

func TestRouter_SSE_EachEventAtOnce(t *testing.T) {
	next := make(chan struct{})
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for i := 0; ; i++ {
			select {
			case <-next:
			case <-req.Context().Done():
				return
			}
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
	})))
	resp, err := newClient(t, r).Do(request(t, http.MethodGet, "http://a.test/", nil))
	if err != nil {
		t.Fatal(err) // the head alone must come through
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	for i := range 5 {
		next <- struct{}{} // the next event is made only when the last was seen
		line, err := br.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
			t.Fatalf("got %q, %v; want %q", line, err, want)
		}
		_, _ = br.ReadString('\n')
	}
}

func TestRouter_BothWaysAtOnce_NoBuffering(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(200)
		_ = rc.Flush()
		br := bufio.NewReader(req.Body)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(w, "echo "+line)
			_ = rc.Flush()
		}
	})))
	pr, pw := io.Pipe()
	resp, err := newClient(t, r).Do(request(t, http.MethodPost, "http://a.test/", pr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	for i := range 3 {
		fmt.Fprintf(pw, "%d\n", i)
		if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("echo %d\n", i) {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
		t.Errorf("rest %q, %v; want a clean end", rest, err)
	}
}

func TestRouter_Trailers_BothWays(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(w, req.Body)
		w.Header().Set("X-Sum", req.Trailer.Get("X-Up")+"!")
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	})))
	req := request(t, http.MethodPost, "http://a.test/", io.MultiReader(strings.NewReader("body")))
	req.Trailer = http.Header{"X-Up": {"up"}}
	resp, body := do(t, newClient(t, r), req)
	if body != "body" || resp.Trailer.Get("X-Sum") != "up!" || resp.Trailer.Get("X-Late") != "late" {
		t.Errorf("body %q, trailers %v", body, resp.Trailer)
	}
}

func TestRouter_HeadAndBodilessCodes(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "5")
			fmt.Fprint(w, "hello")
		}
	})))
	c := newClient(t, r)
	for _, tc := range []struct {
		method, path string
		code         int
		length       int64
	}{{"HEAD", "/", 200, 5}, {"GET", "/204", 204, 0}, {"GET", "/304", 304, 0}, {"GET", "/", 200, 5}} {
		resp, body := do(t, c, request(t, tc.method, "http://a.test"+tc.path, nil))
		if resp.StatusCode != tc.code || resp.ContentLength != tc.length || tc.method == "HEAD" && body != "" {
			t.Errorf("%s %s: %d, length %d, body %q", tc.method, tc.path, resp.StatusCode, resp.ContentLength, body)
		}
	}
}

func TestRouter_Informational_PassedOn(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(103)
		w.Header().Del("Link")
		fmt.Fprint(w, "final")
	})))
	var hints atomic.Value
	req := request(t, http.MethodGet, "http://a.test/", nil)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints.Store(fmt.Sprint(code, h.Get("Link")))
		return nil
	}}))
	resp, body := do(t, newClient(t, r), req)
	if hints.Load() != "103</style.css>" || body != "final" || resp.Header.Get("Link") != "" {
		t.Errorf("hints %v, body %q, final Link %q", hints.Load(), body, resp.Header.Get("Link"))
	}
}

func TestRouter_Expect_BodyWaitsForTheInstance(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/refuse" {
			w.WriteHeader(413)
			return
		}
		b, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%d", len(b))
	})))
	for path, want := range map[string]string{"/take": "HTTP/1.1 100 Continue", "/refuse": "HTTP/1.1 413 "} {
		c, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\n%sContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", path, goodHead)
		br := bufio.NewReader(c)
		line, err := br.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%s: got %q, %v; want %q", path, line, err, want)
		}
		if path == "/take" {
			_, _ = br.ReadString('\n')
			fmt.Fprint(c, "hello")
			if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 || resp.ContentLength != 1 {
				t.Errorf("after the body: %+v, %v", resp, err)
			}
		}
		c.Close()
	}
}

func TestRouter_EarlyAnswer_ReachesAClientThatStillSends(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(403)
		fmt.Fprint(w, "no")
	})))
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "POST / HTTP/1.1\r\n%sContent-Length: 1000000\r\n\r\nhello", goodHead)
	b, err := io.ReadAll(c)
	if s := string(b); err != nil || !strings.HasPrefix(s, "HTTP/1.1 403 ") || !strings.Contains(s, "Connection: close") || !strings.HasSuffix(s, "no") {
		t.Errorf("got %q, %v", s, err)
	}
}

func TestRouter_InstanceBreaksOff_ClientSeesIt(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if strings.Contains(readHead(br), "/chunked") {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
	})))
	for _, path := range []string{"/chunked", "/length"} {
		resp, err := newClient(t, r).Do(request(t, http.MethodGet, "http://a.test"+path, nil))
		if err != nil {
			continue // the head was not flushed yet: fine as well
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("%s: a whole answer %q, want an error", path, b)
		}
	}
}

func TestRouter_MalformedAnswers_BadGateway(t *testing.T) {
	for name, answer := range map[string]string{
		"both lengths":   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"signed length":  "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
		"unknown coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
		"no status":      "hello\r\n\r\n",
		"status of 2":    "HTTP/1.1 20 OK\r\n\r\n",
		"control byte":   "HTTP/1.1 200 OK\r\nX: a\x01b\r\n\r\n",
		"unasked 101":    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"endless 1xx":    strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20),
		"huge head":      "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 300<<10) + "\r\n\r\n",
		"nothing":        "",
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newTestRouter(t, testApp("a", rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) { readHead(br); fmt.Fprint(c, answer) })))
			resp, body := get(t, newClient(t, r), "http://a.test/")
			if resp.StatusCode != 502 || resp.Header.Get(headerError) != errUnreachable {
				t.Errorf("got %d %q, want 502", resp.StatusCode, body)
			}
		})
	}
}

func TestRouter_CloseDelimitedAnswer_Whole(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		readHead(br)
		fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\nhello")
	})))
	if _, body := get(t, newClient(t, r), "http://a.test/"); body != "hello" {
		t.Errorf("got %q", body)
	}
}

func TestRouter_ClientGone_InstanceTold(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan struct{})
	r, c := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		close(begun)
		<-req.Context().Done()
		close(gone)
	})))
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\n%s\r\n", goodHead)
	<-begun
	conn.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the instance still works for a client that left 5 s ago")
	}
	eventually(t, "nothing in flight", func() bool { return len(c.report("router-1").InFlight) == 0 })
}

func TestRouter_ErrorPages(t *testing.T) {
	block := make(chan struct{})
	slow := testApp("slow", backend(t, func(w http.ResponseWriter, req *http.Request) { <-block }))
	t.Cleanup(func() { close(block) })
	slow.RequestTimeoutMillis = 50
	stopped, none, first := testApp("stopped", deadAddr(t)), testApp("none"), testApp("first")
	stopped.Stopped = true
	first.NoInstance = "its <first> deployment failed: port 8080 was never opened"
	r, c := newTestRouter(t, slow, stopped, none, first, testApp("dead", deadAddr(t)))
	client := newClient(t, r)
	for _, tc := range []struct {
		host, class, text string
		code              int
		retry             string
	}{
		{"nobody.test", errUnknownHost, "nobody.test", 404, ""},
		{"stopped.test", errStopped, "stopped", 503, ""},
		{"none.test", errNoInstance, "no instance is running yet", 503, "5"},
		{"first.test", errNoInstance, "deployment failed: port 8080 was never opened", 503, "5"},
		{"dead.test", errUnreachable, "connection refused", 502, ""},
		{"slow.test", errTimeout, "50ms", 504, ""},
	} {
		for _, method := range []string{"GET", "POST"} {
			req := request(t, method, "http://"+tc.host+"/<script>", nil)
			req.Header.Set("Accept", "text/html,application/json;q=0.9")
			resp, body := do(t, client, req)
			if resp.StatusCode != tc.code || resp.Header.Get(headerError) != tc.class || resp.Header.Get("Retry-After") != tc.retry ||
				!strings.Contains(strings.ToLower(body), tc.text) || !strings.Contains(body, resp.Header.Get("X-Request-Id")) || strings.Contains(body, "<first>") {
				t.Errorf("%s %s: %d %v\n%s", method, tc.host, resp.StatusCode, resp.Header, body)
			}
			req = request(t, method, "http://"+tc.host+"/", nil)
			req.Header.Set("Accept", "application/json")
			resp, body = do(t, client, req)
			var e struct{ Code, Message, Hint, RequestID string }
			if err := json.Unmarshal([]byte(body), &e); err != nil || e.Code == "" || !strings.Contains(e.Message, tc.text) || e.RequestID != resp.Header.Get("X-Request-Id") {
				t.Errorf("%s %s as JSON: %s, %v", method, tc.host, body, err)
			}
		}
	}
	eventually(t, "reported errors", func() bool { rep := c.report("router-1"); return rep.Requests == 24 && rep.Errors5xx == 20 })
}

func TestPrefersJSON(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/html": false, "application/json": true, "application/problem+json": true,
		"text/html, application/json;q=0.5": false, "text/html;q=0.5, application/json": true, "application/json;q=0": false, "application/json;q=x": false,
	} {
		if got := prefersJSON([]string{accept}); got != want {
			t.Errorf("prefersJSON(%q) = %v", accept, got)
		}
	}
}
