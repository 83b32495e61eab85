// Package drivertest is the suite that every driver passes: what runtime/driver
// promises, tested with instances that serve, exit, ignore SIGTERM and listen on
// the wrong port. The instances run the program in probe/; drivers without real
// processes act out the same words (see Serve and the functions below it).
//
// It imports runtime/driver and internal/paas only. Start reading at Run.
package drivertest

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// Bound is how long the suite waits for anything that must happen.
const Bound = 20 * time.Second

// The words of the probe program: Subject.Program followed by one of these.
var (
	// Serve answers HTTP 200 with the host name on 0.0.0.0:$PORT; ends with 0 on SIGTERM.
	Serve = []string{"serve"}
	// IgnoreTERM is Serve that only SIGKILL ends.
	IgnoreTERM = []string{"ignore-term"}
	// WrongPort listens on 127.0.0.1:3000 and nowhere else.
	WrongPort = []string{"wrong-port"}
	// Cat copies standard input to standard output (for Exec).
	Cat = []string{"cat"}
	// TTY prints "tty" or "no tty" (for Exec).
	TTY = []string{"tty"}
)

// ExitWith ends at once with this code.
func ExitWith(code int) []string { return []string{"exit", strconv.Itoa(code)} }

// Subject is a driver under test.
type Subject struct {
	Driver driver.Driver
	// Reopen returns another driver object for the same machine, as a restarted
	// server makes one.
	Reopen func(t *testing.T) driver.Driver
	// Image holds the program; Spare is another known image that nothing uses.
	Image, Spare string
	Program      string // argv[0], e.g. "/probe"
}

var serial atomic.Int64

// Spec returns a web instance with an ID of its own that runs words.
func (s *Subject) Spec(words ...string) driver.Spec {
	n := serial.Add(1)
	return driver.Spec{
		ID: paas.InstanceID("probe", n, 1, 0), AppID: "aprobeprobe22", AppName: "probe", Org: paas.DefaultOrg,
		Deployment: n, Release: 7, Slot: 1, Attempt: 0, Type: paas.TypeWeb,
		ImageRef: s.Image, Command: append([]string{s.Program}, words...),
		Env:         []string{"PATH=/bin", "PORT=" + strconv.Itoa(paas.InstancePort)},
		MemoryBytes: 128 << 20, CPUMillis: 1000, Grace: 5 * time.Second,
	}
}

// Run runs the suite. Each test uses instances of its own and removes them.
func Run(t *testing.T, s *Subject) {
	tests := []struct {
		name string
		f    func(*testing.T, *Subject)
	}{
		{"StartTwice_GivesTheSameInstance", startTwice},
		{"StartConcurrently_GivesOneInstance", startConcurrently},
		{"StartUnknownImage_IsErrNoImage", startUnknownImage},
		{"StartAfterExit_GivesTheExitedStatus", startAfterExit},
		{"Exit_IsListedWithItsCode", exitCodes},
		{"Stop_SendsTERMAndRemoves", stopGraceful},
		{"StopOfOneThatIgnoresTERM_KillsAfterGrace", stopKills},
		{"StopWithoutGrace_UsesTheSpecs", stopSpecGrace},
		{"StopOfNothing_IsNil", stopAbsent},
		{"ListFromAnotherDriver_TellsTheSame", listAfterReopen},
		{"List_IsSorted", listSorted},
		{"Watch_HintsAtStartExitAndStop", watchHints},
		{"Watch_EndsWithItsContext", watchEnds},
		{"Exec_CarriesInputOutputAndCode", execStreams},
		{"Exec_WithTTY", execTTY},
		{"Exec_UnknownOrExited_SaysSo", execErrors},
		{"Stats_OfRunningInstance", stats},
		{"ListenPorts_TellsWhereItListens", listenPorts},
		{"Worker_HasNoAddress", worker},
		{"RemoveImage_ForgetsIt", removeImage},
		{"Sweep_LeavesTheLivingAlone", sweepLive},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.f(t, s)
		})
	}
}
