package router

import (
	"math/rand/v2"
	"slices"
	"time"
)

// claim picks an instance for a request to host and counts the request as in
// flight there. The caller releases it. in is nil when there is nothing to send
// the request to: a is nil for an unknown host, and all of a's instances are in
// tried otherwise. t is the table that the answer comes from; nil before the
// first one.
//
// The count is raised first and the table looked at again afterwards. Without
// the second look a request could read a table, be held up, and use an instance
// after the router confirmed the next table with "nothing in flight there". With
// it, either the claim comes before the swap, and every report after the swap
// counts it, or it is given back unused.
func (r *Router) claim(host string, tried []*instance, now time.Time) (t *table, a *app, in *instance) {
	for {
		t = r.table.Load()
		if t == nil {
			return nil, nil, nil
		}
		a = t.hosts[host]
		if a == nil || a.Stopped {
			return t, a, nil
		}
		in = pick(a.instances, tried, now)
		if in == nil {
			return t, a, nil
		}
		in.inFlight.Add(1)
		if r.table.Load() == t {
			return t, a, in
		}
		in.release()
	}
}

// pick takes the less loaded of two instances drawn at random. Ejected instances
// are passed over, unless that leaves none: then they are better than nothing.
func pick(all, tried []*instance, now time.Time) *instance {
	if len(tried) == 0 && len(all) > 1 {
		i := rand.IntN(len(all))
		j := rand.IntN(len(all) - 1)
		if j >= i {
			j++
		}
		if !all[i].health.isEjected(now) && !all[j].health.isEjected(now) {
			return lessLoaded(all[i], all[j])
		}
	}
	usable := make([]*instance, 0, len(all))
	ejected := make([]*instance, 0, len(all))
	for _, in := range all {
		switch {
		case slices.Contains(tried, in):
		case in.health.isEjected(now):
			ejected = append(ejected, in)
		default:
			usable = append(usable, in)
		}
	}
	if len(usable) == 0 {
		usable = ejected
	}
	switch n := len(usable); n {
	case 0:
		return nil
	case 1:
		return usable[0]
	default:
		i := rand.IntN(n)
		return lessLoaded(usable[i], usable[(i+1+rand.IntN(n-1))%n])
	}
}

func lessLoaded(a, b *instance) *instance {
	if b.inFlight.Load() < a.inFlight.Load() {
		return b
	}
	return a
}
