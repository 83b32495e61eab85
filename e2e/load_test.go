package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load asks an app all the time, on kept-alive and on fresh connections, and
// remembers every answer that is not 200.
type load struct {
	total  atomic.Int64
	mu     sync.Mutex
	failed []string
	stop   chan struct{}
	wg     sync.WaitGroup
}

// startLoad runs at about rate requests per second in all (half of them on fresh
// connections) plus, with slow, requests that last 2 s, until end is called.
func (p *platform) startLoad(t testing.TB, app string, rate int, slow bool) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	kept := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 20 * time.Second}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	every := time.Second * 4 / time.Duration(rate)
	for _, c := range []*http.Client{kept, kept, fresh, fresh} {
		l.wg.Go(func() { l.run(p, c, app, "/", every) })
	}
	if slow {
		for range 3 {
			l.wg.Go(func() { l.run(p, kept, app, "/slow", 100*time.Millisecond) })
		}
	}
	t.Cleanup(func() { l.end(); kept.CloseIdleConnections() })
	return l
}

func (l *load) run(p *platform, c *http.Client, app, path string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		began := time.Now()
		status, body, err := p.Do(c, app, path)
		l.total.Add(1)
		if err == nil && status == 200 {
			continue
		}
		l.mu.Lock()
		l.failed = append(l.failed, fmt.Sprintf("%s %s after %s: %d %q %v", began.Format("15:04:05.000"), path, time.Since(began).Round(time.Millisecond), status, first(body), err))
		l.mu.Unlock()
	}
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.wg.Wait()
}

// failures ends nothing; it returns what failed so far.
func (l *load) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.failed...)
}

func first(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 120 {
		return s[:120]
	}
	return s
}
