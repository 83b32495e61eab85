package reconcile

import (
	"context"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// routing remembers in which table versions instances joined and left, so that
// the routers' acknowledgements can be told per instance. It starts empty with
// each process: what an earlier process published counts as left with the first
// table of this one.
type routing struct {
	router   paas.Router
	first    uint64 // version of the first table; 0 = none published yet
	version  uint64 // of the newest
	routed   map[string]bool
	joined   map[string]uint64
	left     map[string]uint64
	released map[string]time.Time
	own      map[string]bool // started by this process: in no earlier table
}

func newRouting(r paas.Router) *routing {
	return &routing{
		router: r, routed: map[string]bool{}, joined: map[string]uint64{}, left: map[string]uint64{},
		released: map[string]time.Time{}, own: map[string]bool{},
	}
}

// publish hands the tables to the routers and notes who joined and who left.
func (r *routing) publish(ctx context.Context, tables []paas.RouteTable) (changed bool, err error) {
	version, err := r.router.Publish(ctx, tables)
	if err != nil {
		return false, err
	}
	changed, r.version = version != r.version, version
	if r.first == 0 {
		r.first = version
	}
	now := map[string]bool{}
	for _, t := range tables {
		for _, e := range t.Endpoints {
			now[e.Instance] = true
		}
	}
	for id := range now {
		if !r.routed[id] {
			r.joined[id] = version
			delete(r.left, id)
			delete(r.released, id)
		}
	}
	for id := range r.routed {
		if !now[id] {
			r.left[id] = version
		}
	}
	r.routed = now
	return changed, nil
}

// traffic tells what the routers do with an instance now.
func (r *routing) traffic(id string, now time.Time) Traffic {
	t := Traffic{Routed: r.routed[id], InFlight: r.router.InFlight(id)}
	if t.Routed {
		t.AckedIn = r.router.Acked(r.joined[id])
		return t
	}
	version, wasRouted := r.left[id]
	switch {
	case !wasRouted && r.own[id]:
		t.Released = true
	case r.first == 0:
	default:
		t.Released = r.router.Acked(max(version, r.first))
	}
	if !t.Released {
		delete(r.released, id) // a router came back with an older table
		return t
	}
	if _, ok := r.released[id]; !ok {
		r.released[id] = now
	}
	t.ReleasedAt = r.released[id]
	return t
}

// forget drops what is known of an instance that is gone.
func (r *routing) forget(id string) {
	delete(r.joined, id)
	delete(r.left, id)
	delete(r.released, id)
	delete(r.own, id)
}
