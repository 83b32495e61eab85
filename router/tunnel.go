package router

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// halfCloseWait bounds how long a tunnel stays when one side has said its last.
const halfCloseWait = 30 * time.Second

// checkSwitch accepts a 101 only as the answer to the very switch that the client
// asked for.
func checkSwitch(r *http.Request, resp *response) error {
	asked := upgradeOf(r)
	got := resp.header["Upgrade"]
	if asked == "" {
		return malformed("101 without a request to switch")
	}
	if len(got) != 1 || !strings.EqualFold(got[0], asked) || !hasToken(resp.header["Connection"], "upgrade") {
		return malformed("101 to %.40q where %.40q was asked for", got, asked)
	}
	return nil
}

// runTunnel joins client and instance until both have ended. The bytes are raw
// from here on, never before: the instance has answered 101.
func (x *exchange) runTunnel(c *conn, resp *response) *failure {
	guard := guardOf(x.r)
	if err := guard.goRaw(); err != nil {
		return &failure{class: errBadRequest, detail: err.Error(), err: err}
	}
	_ = c.SetDeadline(time.Time{})
	_, rw, err := x.rc.Hijack()
	if err != nil {
		x.cut = true
		return nil
	}
	defer guard.Close()
	t := &tunnel{client: guard.TCPConn, instance: c.TCPConn}
	x.rt.tunnels.add(t)
	defer x.rt.tunnels.remove(t)
	x.tunnel, x.code = true, resp.code
	if err := x.writeSwitch(guard.TCPConn, resp); err != nil {
		return nil
	}
	t.run(rw.Reader, c.br)
	return nil
}

func (x *exchange) writeSwitch(w io.Writer, resp *response) error {
	upgrade := resp.header["Upgrade"][0]
	removeHopByHop(resp.header)
	var b strings.Builder
	b.WriteString("HTTP/1.1 " + strconv.Itoa(resp.code) + " " + http.StatusText(resp.code) + "\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + "\r\n")
	for name, values := range resp.header {
		if name == headerError || name == "Content-Length" {
			continue
		}
		for _, v := range values {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// tunnel is a pair of raw connections.
type tunnel struct{ client, instance *net.TCPConn }

// run copies both ways. fromClient and fromInstance hold what was read already.
func (t *tunnel) run(fromClient, fromInstance *bufio.Reader) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pipe(t.client, t.instance, fromInstance)
	}()
	pipe(t.instance, t.client, fromClient)
	<-done
}

// pipe copies src, of which buffered holds the beginning, to dst until src ends,
// and passes the end on. Between plain TCP connections the kernel does the copying,
// without a buffer of ours.
func pipe(dst, src *net.TCPConn, buffered *bufio.Reader) {
	_, err := io.CopyN(dst, buffered, int64(buffered.Buffered()))
	if err == nil {
		_, err = io.Copy(dst, src)
	}
	if err != nil {
		_ = dst.Close()
		_ = src.Close()
		return
	}
	_ = dst.CloseWrite()
	_ = dst.SetReadDeadline(time.Now().Add(halfCloseWait))
}

// close ends the tunnel at once.
func (t *tunnel) close() {
	_ = t.client.Close()
	_ = t.instance.Close()
}
