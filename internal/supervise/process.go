// Package supervise keeps the daemons under `slipway server` running: it starts
// them, waits until their API answers, restarts them with back-off and ends
// them. The children outlive the server on purpose: a stopped or killed server
// leaves them running and the next one adopts them.
//
// Of Slipway's it imports internal/atomicfile only: it knows processes, not components.
// Start reading at Process, then Supervisor.
package supervise

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// The variables every supervised child carries. A leftover is recognised by
// them, so they must reach the child whatever its own environment is.
const (
	// MarkerEnv holds Process.Marker.
	MarkerEnv = "SLIPWAY_COMPONENT"
	// detailEnv holds "<hash of the configuration>:<executable>".
	detailEnv = "SLIPWAY_COMPONENT_DETAIL"
)

// Process describes one child. Zero durations and sizes mean the default that
// is named at the field.
type Process struct {
	Name   string   // for logs and Status, e.g. "containerd"
	Path   string   // executable; symbolic links are resolved
	Args   []string // without the program name
	Env    []string // the whole environment; nothing is inherited
	Dir    string   // working folder; "" means "/"
	Config []byte   // what the daemon reads from files; a change replaces a leftover

	Marker  string // unique on the machine: "<hash of data folder>/<name>"
	PIDFile string // absolute
	LogFile string // absolute; the child appends its output here

	// Before runs ahead of every start, not ahead of an adoption: sweep here
	// what a killed predecessor left. An error counts as a failed start.
	Before func(ctx context.Context) error
	// Started is called with the pid right after every start (cgroup, nice
	// value). An error counts as a failed start. Optional.
	Started func(pid int) error
	// Ready returns nil once the child's API answers. It is also the health
	// check afterwards, so it must be cheap and obey ctx. Optional.
	Ready func(ctx context.Context) error

	StartTimeout   time.Duration // from start to ready; 30 s
	StopGrace      time.Duration // between SIGTERM and SIGKILL; 10 s
	HealthInterval time.Duration // 2 s
	HealthFailures int           // in a row until the child is killed; 5
	BackoffMin     time.Duration // 200 ms
	BackoffMax     time.Duration // 30 s
	StableAfter    time.Duration // up this long: back-off starts anew; 60 s
	LogMaxBytes    int64         // log is rotated beyond this; 16 MiB
	KeepLines      int           // last lines in Status; 50
}

// Validate says what is missing. New calls it.
func (p *Process) Validate() error {
	switch {
	case p.Name == "":
		return errors.New("process has no name")
	case !filepath.IsAbs(p.Path):
		return fmt.Errorf("%s: path %q is not absolute", p.Name, p.Path)
	case p.Marker == "":
		return fmt.Errorf("%s: no marker; a leftover could not be recognised", p.Name)
	case !filepath.IsAbs(p.PIDFile) || !filepath.IsAbs(p.LogFile):
		return fmt.Errorf("%s: PID file %q and log file %q must be absolute", p.Name, p.PIDFile, p.LogFile)
	}
	return nil
}

func (p *Process) setDefaults() {
	setDefault(&p.Dir, "/")
	setDefault(&p.StartTimeout, 30*time.Second)
	setDefault(&p.StopGrace, 10*time.Second)
	setDefault(&p.HealthInterval, 2*time.Second)
	setDefault(&p.HealthFailures, 5)
	setDefault(&p.BackoffMin, 200*time.Millisecond)
	setDefault(&p.BackoffMax, 30*time.Second)
	setDefault(&p.StableAfter, 60*time.Second)
	setDefault(&p.LogMaxBytes, 16<<20)
	setDefault(&p.KeepLines, 50)
	if p.Ready == nil {
		p.Ready = func(context.Context) error { return nil }
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// resolve returns the executable as the kernel will name it and the hash that
// tells whether a leftover runs what would be started now. The program's size
// and modification time stand for its content.
func (p *Process) resolve() (exe, hash string, err error) {
	exe, err = filepath.EvalSymlinks(p.Path)
	if err != nil {
		return "", "", fmt.Errorf("find program of %s: %w", p.Name, err)
	}
	info, err := os.Stat(exe)
	if err != nil {
		return "", "", fmt.Errorf("find program of %s: %w", p.Name, err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %d %q %q %q ", exe, info.Size(), info.ModTime().UnixNano(), p.Args, p.Env, p.Dir)
	_, _ = io.Writer(h).Write(p.Config) // a hash never returns an error
	return exe, hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// State of a supervised child.
type State string

// The states of Status.
const (
	StateStarting State = "starting" // the process runs, its API does not answer yet
	StateReady    State = "ready"
	StateBackoff  State = "backoff" // waits before the next start
	StateStopped  State = "stopped" // not supervised (any more)
)

// Status is what a Supervisor knows at one moment.
type Status struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	PID      int       `json:"pid,omitempty"` // 0: no process
	Adopted  bool      `json:"adopted,omitempty"`
	Since    time.Time `json:"since"`              // of State
	Restarts int       `json:"restarts"`           // since Start
	LastExit string    `json:"lastExit,omitempty"` // why it ended or was killed last, or did not start
	Lines    []string  `json:"lines,omitempty"`    // last output, oldest first; the caller's copy
}
