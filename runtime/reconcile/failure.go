package reconcile

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

type causeKind int

const (
	causeExited     causeKind = iota + 1 // a newcomer ended before the release took over
	causeNotUp                           // it was not healthy within the startup time
	causeSick                            // it was healthy and stopped being so while rolling
	causeCrashed                         // it ended while it was watched
	causeTurnedSick                      // its probes failed while it was watched
	causeNoImage
	causeNoStart // the driver could not start it
)

// Cause is why a deployment failed, as observed.
type Cause struct {
	Kind     causeKind
	Instance Observation // zero for causeNoImage and causeNoStart
	Err      error
	Tries    int
}

// Evidence is what is asked for once a deployment has failed.
type Evidence struct {
	Ports       []string // what the instance listens on; nil = unknown
	Output      []string // its last lines
	MemoryBytes int64    // its limit
	Previous    int      // number of the release that is back; 0 = none
	Now         time.Time
}

// explain puts a cause into a sentence for people, with the next step.
func explain(c Cause, r *paas.Release, e Evidence) paas.Failure {
	f := paas.Failure{Output: e.Output}
	switch c.Kind {
	case causeExited:
		f.Code, f.Hint = exitCodeAndHint(c.Instance.Status)
		f.Message = exitSentence(c.Instance, e.MemoryBytes)
	case causeCrashed:
		f.Code, f.Hint = exitCodeAndHint(c.Instance.Status)
		if f.Code == "exited" {
			f.Code = "crashed"
		}
		up, reason := seconds(c.Instance.upTime(e.Now)), exitReason(c.Instance.Status, e.MemoryBytes)
		f.Message = fmt.Sprintf("crashed %s after start with %s; %s", up, reason, whatIsBack(e.Previous))
		if c.Instance.OOMKilled {
			f.Message = fmt.Sprintf("%s, %s after start; %s", reason, up, whatIsBack(e.Previous))
		}
	case causeSick, causeTurnedSick:
		f.Code, f.Hint = "unhealthy", "see the output and the health check's path"
		f.Message = fmt.Sprintf("turned unhealthy %s after start: %s, %d times in a row", seconds(c.Instance.upTime(e.Now)),
			c.Instance.Health.Bad, c.Instance.Health.Failures)
		if c.Kind == causeTurnedSick {
			f.Message += "; " + whatIsBack(e.Previous)
		}
	case causeNotUp:
		explainNotUp(&f, c, r, e)
	case causeNoImage:
		f.Code, f.Message = "image_missing", "the release's image is not in the image store any more"
		f.Hint = "deploy the source again"
	case causeNoStart:
		f.Code = "not_started"
		f.Message = fmt.Sprintf("could not be started, %d tries: %s", c.Tries, startReason(c.Err))
		f.Hint = "deploy again; `slipway status` shows the state of the platform"
	}
	return f
}

// explainNotUp tells an app that did not listen from one that listened in the
// wrong place and from one that gave bad answers.
func explainNotUp(f *paas.Failure, c Cause, r *paas.Release, e Evidence) {
	limit, h := startupTime(r), c.Instance.Health
	if h.Connected {
		f.Code = "unhealthy"
		f.Message = fmt.Sprintf("%s, %d times in %s; %s", h.Bad, h.BadCount, seconds(limit), expected(r))
		f.Hint = "see the output; the app must answer its health check"
		return
	}
	f.Code = "never_listened"
	f.Hint = "listen on 0.0.0.0 and the port in the environment variable PORT"
	port := strconv.Itoa(paas.InstancePort)
	if len(e.Ports) > 0 {
		f.Message = fmt.Sprintf("listened on %s, expected 0.0.0.0:%s (PORT)", strings.Join(e.Ports, ", "), port)
		if reachable(e.Ports, port) {
			f.Message = fmt.Sprintf("could not be reached within %s though it listened on %s: %s",
				seconds(limit), strings.Join(e.Ports, ", "), h.Answer)
		}
		return
	}
	f.Message = fmt.Sprintf("did not listen on port %s within %s", port, seconds(limit))
	if e.Ports != nil {
		f.Message += "; nothing listens"
	}
}

// reachable reports whether one of the listen addresses is the expected one.
func reachable(ports []string, port string) bool {
	for _, a := range ports {
		host, p, err := net.SplitHostPort(a)
		ip := net.ParseIP(host)
		if err == nil && p == port && (ip == nil || !ip.IsLoopback()) {
			return true
		}
	}
	return false
}

func expected(r *paas.Release) string {
	if r != nil && r.Health.Strict {
		return "expected 200"
	}
	return "expected below 500"
}

func exitCodeAndHint(s driver.Status) (code, hint string) {
	switch {
	case s.OOMKilled:
		return "out_of_memory", "raise the app's memory or make it use less"
	case s.ExitCode == 0:
		return "exited", "the start command must keep running in the foreground"
	case s.ExitCode == 127:
		return "exited", "the start command was not found; check it against the files of the archive"
	}
	return "exited", "see the output for the reason"
}

func exitSentence(o Observation, limit int64) string {
	if o.OOMKilled {
		return exitReason(o.Status, limit)
	}
	return fmt.Sprintf("exited with %s after %s", strings.TrimPrefix(exitReason(o.Status, limit), "exit "), seconds(o.upTime(o.ExitedAt)))
}

// exitReason is short and stable, for lists: "exit code 1".
func exitReason(s driver.Status, limit int64) string {
	if s.OOMKilled {
		reason := fmt.Sprintf("killed: memory limit %d MiB", limit>>20)
		if s.PeakMemory > 0 {
			reason += fmt.Sprintf(", peak %d MiB", s.PeakMemory>>20)
		}
		return reason
	}
	if name, ok := signals[s.ExitCode-128]; ok {
		return fmt.Sprintf("exit code %d (%s)", s.ExitCode, name)
	}
	return fmt.Sprintf("exit code %d", s.ExitCode)
}

// signals that end apps in practice; the others are shown as a code.
var signals = map[int]string{
	1: "SIGHUP", 2: "SIGINT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
	9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM", 31: "SIGSYS",
}

func startReason(err error) string {
	switch {
	case errors.Is(err, driver.ErrOutOfAddress):
		return "no free address for another instance"
	case err == nil:
		return "unknown"
	}
	return err.Error()
}

func whatIsBack(previous int) string {
	if previous == 0 {
		return "there is no earlier release to return to"
	}
	return fmt.Sprintf("release %d is back", previous)
}

// seconds prints a duration as people say it: "0.4 s", "30 s".
func seconds(d time.Duration) string {
	if d >= time.Second && d%time.Second == 0 {
		return fmt.Sprintf("%d s", int(d/time.Second))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
