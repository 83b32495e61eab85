package fake

import (
	"context"
	"net/http"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// Behaviour is what one instance does. The zero value is a good citizen: it
// listens at once, answers 200 "ok" and ends with code 0 on SIGTERM.
type Behaviour struct {
	StartDelay time.Duration // Start takes this long
	StartErr   error         // Start fails with this and nothing is made

	Handler     http.Handler  // nil answers 200 "ok"
	ListenDelay time.Duration // the port opens this long after the start
	NoListen    bool          // the port never opens (always so for workers)
	ListenOn    []string      // what ListenPorts reports instead, e.g. "127.0.0.1:3000"

	Exit *Exit // ends by itself; nil = never

	IgnoreTERM bool          // only SIGKILL ends it: exit code 137
	TermDelay  time.Duration // time from SIGTERM to the end
	TermCode   int           // exit code after SIGTERM

	// Exec answers Driver.Exec; nil is an error.
	Exec func(ctx context.Context, s driver.Spec, r paas.ExecRequest) (int, error)
	// Stats answers Driver.Stats; nil gives small constants.
	Stats func() driver.Stats
}

// Exit is an end that the instance makes by itself.
type Exit struct {
	After time.Duration
	Code  int
	OOM   bool // killed at its memory limit; Code is then 137
}

// Answer is a Handler that gives every request this status.
func Answer(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
}
