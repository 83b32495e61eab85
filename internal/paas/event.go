package paas

import "time"

// Event is what happened, to what, by whom, when. ID grows by one stream-wide
// order, so that a client can resume after the last one it saw.
type Event struct {
	ID         int64
	At         time.Time
	AppID      string // "" for the platform
	AppName    string
	Kind       string // noun.verb, e.g. "deployment.live", "instance.crashed", "app.scaled"
	Deployment int64  // 0 = none
	Message    string // one sentence
	By         string // user, or "slipway"
}
