package reconcile

import (
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Steps are what may be done now to come closer to a Plan. They are independent
// of each other and each is safe to repeat.
type Steps struct {
	Start []Want
	Stop  []string // IDs
	Next  time.Time
}

// Diff compares a plan with what is observed. It is pure. An instance is stopped
// only when every live router has confirmed a table without it and its last
// request has ended or the drain limit has passed since then.
func Diff(plan Plan, in Input) Steps {
	s := Steps{Next: plan.Next}
	for _, w := range plan.Want {
		f, failed := in.Unstartable[w.ID]
		switch {
		case !startable(w.ID, in.Observed):
		case w.NotBefore.After(in.Now): // Desired asked to look again then
		case failed && f.Retry.After(in.Now):
			s.lookAt(f.Retry)
		default:
			s.Start = append(s.Start, w)
		}
	}
	for _, o := range in.Observed {
		if plan.wants(o.ID) && !o.Stopping || plan.routes(o.ID) {
			continue
		}
		if s.mayStop(o, in) {
			s.Stop = append(s.Stop, o.ID)
		}
	}
	return s
}

// startable reports whether the instance is absent or never ran.
func startable(id string, observed []Observation) bool {
	for _, o := range observed {
		if o.ID == id {
			return !o.Running && !o.exited() && !o.Stopping
		}
	}
	return true
}

func (s *Steps) mayStop(o Observation, in Input) bool {
	switch {
	case o.Stopping, o.Type == paas.TypeWorker:
		return true
	case o.Traffic.Routed, !o.Traffic.Released:
		return false
	case o.exited(), o.Traffic.InFlight == 0:
		return true
	}
	limit := o.Traffic.ReleasedAt.Add(in.Policy.Drain)
	if in.Now.Before(limit) {
		s.lookAt(limit)
		return false
	}
	return true
}

func (s *Steps) lookAt(t time.Time) {
	if s.Next.IsZero() || t.Before(s.Next) {
		s.Next = t
	}
}
