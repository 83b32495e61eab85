package router

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func echoWebSocket(w http.ResponseWriter, req *http.Request) {
	c, err := websocket.Accept(w, req, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for {
		kind, b, err := c.Read(req.Context())
		if err != nil || c.Write(req.Context(), kind, b) != nil {
			return
		}
	}
}

func dialWebSocket(t *testing.T, r *Router) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://a.test/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: newClient(t, r).Transport}})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func echo(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != text {
		t.Fatalf("got %d bytes, %v; want %d", len(b), err, len(text))
	}
}

func TestTunnel_WebSocket_LivesAcrossASwap(t *testing.T) {
	old := backend(t, echoWebSocket)
	r, c := newTestRouter(t, testApp("a", old))
	ws := dialWebSocket(t, r)
	echo(t, ws, "before")
	c.publishAcked(t, testApp("a", backend(t, echoWebSocket)))
	if n := c.report("router-1").InFlight["a-"+old]; n != 1 {
		t.Errorf("the tunnel counts as %d in flight, want 1", n)
	}
	echo(t, ws, "after")
	echo(t, ws, strings.Repeat("x", 1<<20))
	_ = ws.Close(websocket.StatusNormalClosure, "")
	eventually(t, "drained", func() bool { return c.report("router-1").InFlight["a-"+old] == 0 })
}

func TestTunnel_RouterStops_TunnelEndsWithTheDrain(t *testing.T) {
	c := newTestControl(t)
	c.publish(testApp("a", backend(t, echoWebSocket)))
	o := testOptions(t, c)
	o.DrainTimeout = 300 * time.Millisecond
	r, stop := startRouter(t, o)
	echo(t, dialWebSocket(t, r), "x")
	start := time.Now()
	stop()
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("stopped after %v, want about 300 ms", d)
	}
}

func TestTunnel_RawOnlyAfterTheInstances101(t *testing.T) {
	seen := make(chan string, 4)
	r, _ := newTestRouter(t, testApp("a", rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		for {
			head := readHead(br)
			if !strings.HasSuffix(head, "\r\n\r\n") {
				return
			}
			seen <- head
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
		}
	})))
	// The instance declines: what follows is a request like any other, and a hidden
	// one must not get through unread.
	got := sendRaw(t, r.Addr(), "GET / HTTP/1.1\r\n"+goodHead+"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+
		"GET /next HTTP/1.1\r\n"+goodHead+"X-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 200 OK") != 2 {
		t.Errorf("got %q, want two answers", got)
	}
	if head := <-seen; !strings.Contains(head, "Upgrade: websocket\r\n") || !strings.Contains(head, "Connection: Upgrade\r\n") {
		t.Errorf("first head %q lacks the upgrade", head)
	}
	if head := <-seen; strings.Contains(head, "6.6.6.6") {
		t.Errorf("second head %q went through unread", head)
	}
}

func TestTunnel_H2CAndBodies_NotUpgraded(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", backend(t, func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "[%s%s%s]", req.Header.Get("Upgrade"), req.Header.Get("Connection"), req.Header.Get("Http2-Settings"))
	})))
	for _, head := range []string{
		"GET / HTTP/1.1\r\n" + goodHead + "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"GET / HTTP/1.1\r\n" + goodHead + "Connection: close\r\nUpgrade: websocket\r\n\r\n",
		"GET / HTTP/1.1\r\n" + goodHead + "Connection: Upgrade, close\r\nUpgrade: websocket, h2c\r\n\r\n",
		"GET / HTTP/1.0\r\n" + goodHead + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"POST / HTTP/1.1\r\n" + goodHead + "Content-Length: 1\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\nx",
	} {
		if got := sendRaw(t, r.Addr(), head); !strings.HasSuffix(got, "[]") {
			t.Errorf("sent %q: the instance saw an upgrade: %q", head, got)
		}
	}
}

func TestTunnel_HalfClose_PassedOn(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		readHead(br)
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello ")
		b, _ := io.ReadAll(br)
		fmt.Fprintf(c, "you sent %q", b)
	})))
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: raw\r\n\r\n", goodHead)
	br := bufio.NewReader(c)
	if head := readHead(br); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("got %q", head)
	}
	fmt.Fprint(c, "\x00\x01 GET\n")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(br); err != nil || string(b) != `hello you sent "\x00\x01 GET\n"` {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestTunnel_WrongSwitch_BadGateway(t *testing.T) {
	r, _ := newTestRouter(t, testApp("a", rawBackend(t, func(_ int, c net.Conn, br *bufio.Reader) {
		readHead(br)
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
	})))
	got := sendRaw(t, r.Addr(), "GET / HTTP/1.1\r\n"+goodHead+"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nGARBAGE")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("got %q, want 502", got)
	}
}
