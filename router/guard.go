package router

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// guardConn is a client's connection as net/http sees it: the scanner has read
// each byte before. A request that breaks a rule never becomes complete for
// net/http, which answers 400 and closes.
type guardConn struct {
	*net.TCPConn
	onBroken func(remote string, err error)

	mu   sync.Mutex
	scan scanner
	raw  bool // a tunnel: bytes mean nothing to us
}

func (g *guardConn) Read(p []byte) (int, error) {
	if err := g.brokenBefore(); err != nil {
		return 0, err
	}
	n, err := g.TCPConn.Read(p)
	if n == 0 {
		return n, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.raw {
		return n, err
	}
	ok, broken := g.scan.scan(p[:n])
	if broken == nil {
		return n, err
	}
	g.onBroken(g.RemoteAddr().String(), broken)
	// With something harmless in hand, the error waits for the next read: an
	// earlier request of the same connection may still be on its way.
	if ok > 0 {
		return ok, nil
	}
	return 0, broken
}

func (g *guardConn) brokenBefore() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.scan.err
}

// goRaw ends the scan, for a tunnel. It fails when the client already sent bytes
// that are no request: they are lost to the tunnel.
func (g *guardConn) goRaw() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.scan.err != nil {
		return g.scan.err
	}
	g.raw, g.scan = true, scanner{}
	return nil
}

type guardKey struct{}

func withGuard(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, guardKey{}, c)
}

func guardOf(r *http.Request) *guardConn {
	g, _ := r.Context().Value(guardKey{}).(*guardConn)
	return g
}
