package router

import (
	"sync"
	"time"
)

const (
	maxIdlePerInstance = 256
	// Instances close idle connections themselves: Node, Apache and uvicorn after
	// 5 s, gunicorn after 2 s. A request sent at that moment is lost, so we let go
	// first; before a request that cannot be repeated, well before.
	defaultIdleLimit  = 4 * time.Second
	maxIdleLimit      = 30 * time.Second
	unrepeatableLimit = time.Second
)

// pool holds the idle connections to one instance, the newest last.
type pool struct {
	mu     sync.Mutex
	idle   []*conn
	closed bool
}

// take returns the newest idle connection that is alive and was used within
// maxIdle; nil if there is none.
func (p *pool) take(now time.Time, maxIdle time.Duration) *conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		idle := now.Sub(c.idleSince)
		if idle >= maxIdle && idle < c.idleLimit {
			p.mu.Unlock() // the others are older
			return nil
		}
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if idle < c.idleLimit && c.isQuiet() {
			return c
		}
		c.Close()
	}
}

// put gives a connection back, or closes it when the pool is closed or full.
func (p *pool) put(c *conn, now time.Time) {
	c.idleSince = now
	p.mu.Lock()
	if !p.closed && len(p.idle) < maxIdlePerInstance {
		p.idle = append(p.idle, c)
		c = nil
	}
	p.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// close closes the idle connections and lets none in any more.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// reopen is for an instance that came back into the table.
func (p *pool) reopen() {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
}

// sweep closes what has been idle for too long.
func (p *pool) sweep(now time.Time) {
	var late []*conn
	p.mu.Lock()
	kept := p.idle[:0]
	for _, c := range p.idle {
		if now.Sub(c.idleSince) >= c.idleLimit {
			late = append(late, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	p.mu.Unlock()
	for _, c := range late {
		c.Close()
	}
}
