package router

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// instance is what the router knows of one endpoint beyond any table: requests
// in flight, idle connections, health. It lives until it has left the table and
// its last request has ended.
type instance struct {
	id   string
	addr string

	inFlight atomic.Int64
	left     atomic.Bool // no table names it any more
	onIdle   func()      // called when it has left and its last request ended

	health health
	pool   pool
}

// release ends one claim.
func (in *instance) release() {
	if in.inFlight.Add(-1) == 0 && in.left.Load() {
		in.onIdle()
	}
}

// instances holds every instance that is in the table or still serves requests.
type instances struct {
	onIdle func()

	mu  sync.Mutex
	all map[paas.Endpoint]*instance
}

// keep returns the instance of e, the same one as long as it is known: counts,
// connections and health survive a swap.
func (s *instances) keep(e paas.Endpoint) *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.all[e]
	if in == nil {
		in = &instance{id: e.Instance, addr: e.Addr, onIdle: s.onIdle}
		s.all[e] = in
	}
	in.left.Store(false) // at once: report must not forget one that comes back
	in.pool.reopen()
	return in
}

// settle retires the instances that t does not name. It is called after the swap
// to t: from then on a claim of one that left is given back (see claim).
func (s *instances) settle(t *table) {
	current := t.current()
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, in := range s.all {
		if current[in] {
			continue
		}
		in.left.Store(true)
		in.pool.close()
		if in.inFlight.Load() == 0 {
			delete(s.all, e)
		}
	}
}

// report gives the requests in flight per instance and the ejected ones, and
// forgets those that left and are idle.
func (s *instances) report(now time.Time) (inFlight map[string]int, unhealthy map[string]string) {
	inFlight = map[string]int{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, in := range s.all {
		n := in.inFlight.Load()
		if n == 0 && in.left.Load() {
			delete(s.all, e)
			continue
		}
		if n > 0 {
			inFlight[in.id] += int(n)
		}
		if why := in.health.ejected(now); why != "" {
			if unhealthy == nil {
				unhealthy = map[string]string{}
			}
			unhealthy[in.id] = why
		}
	}
	return inFlight, unhealthy
}

// each calls f for every instance.
func (s *instances) each(f func(*instance)) {
	s.mu.Lock()
	all := make([]*instance, 0, len(s.all))
	for _, in := range s.all {
		all = append(all, in)
	}
	s.mu.Unlock()
	for _, in := range all {
		f(in)
	}
}
