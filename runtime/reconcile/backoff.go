package reconcile

import "time"

const (
	backoffFirst = time.Second
	backoffMax   = 5 * time.Minute
	// backoffReset is the time up after which a crash counts as the first again.
	backoffReset = 10 * time.Minute
)

// restart says when an exited instance is tried again and as which attempt: at
// once after the first crash, then after 1 s, 2 s … 5 min. How often it crashed is
// read from its attempt number, so a restarted server goes on counting.
func restart(o Observation) (at time.Time, attempt int) {
	if o.upTime(o.ExitedAt) >= backoffReset {
		if o.Attempt == 0 {
			return o.ExitedAt, 1 // 0 is still held by the one that exited
		}
		return o.ExitedAt, 0
	}
	if o.Attempt == 0 {
		return o.ExitedAt, 1
	}
	wait := backoffMax
	if o.Attempt <= 9 { // 1 s << 9 is past the limit
		wait = min(backoffFirst<<(o.Attempt-1), backoffMax)
	}
	return o.ExitedAt.Add(wait), o.Attempt + 1
}
