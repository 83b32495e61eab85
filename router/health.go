package router

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	ejectAfter = 3 // failed connects in a row
	ejectFor   = 5 * time.Second
)

// health is passive: it counts what connecting to an instance came to. An
// ejected instance returns by itself; then one more failure ejects it again.
type health struct {
	until atomic.Int64 // ejected until, Unix nanoseconds; 0 = never was

	mu     sync.Mutex
	failed int
	last   string
}

// isEjected is the cheap question of the request path.
func (h *health) isEjected(now time.Time) bool {
	until := h.until.Load()
	return until != 0 && now.UnixNano() < until
}

// ejected says why the instance takes no requests; "" if it takes them.
func (h *health) ejected(now time.Time) string {
	if !h.isEjected(now) {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%d connection attempts in a row failed, the last: %s", h.failed, h.last)
}

func (h *health) connected() {
	if h.until.Load() == 0 {
		h.mu.Lock()
		h.failed = 0
		h.mu.Unlock()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = 0
	h.until.Store(0)
}

// connectFailed counts a failure and reports whether it newly ejected the instance.
func (h *health) connectFailed(now time.Time, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed++
	h.last = err.Error()
	if h.failed < ejectAfter || h.isEjected(now) {
		return false
	}
	h.until.Store(now.Add(ejectFor).UnixNano())
	return true
}
