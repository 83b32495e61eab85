package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/internal/atomicfile"
)

// errNotOurs: the pid lives but belongs to somebody else, or is gone.
var errNotOurs = errors.New("not the process that was started")

// pidRecord is the PID file's content. Boot and StartTicks together name a
// process beyond the reuse of its number.
type pidRecord struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"startTicks"` // field 22 of /proc/PID/stat, proc(5)
	Boot       string `json:"boot"`
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func writePIDFile(path string, pid int) error {
	ticks, _, err := procStat(pid)
	if err != nil {
		return err
	}
	data, err := json.Marshal(pidRecord{PID: pid, StartTicks: ticks, Boot: bootID()})
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}

func readPIDFile(path string) (pidRecord, error) {
	var rec pidRecord
	data, err := os.ReadFile(path)
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fmt.Errorf("read %s: %w", path, err)
	}
	return rec, nil
}

// procStat returns the start time and the session of a living process; a
// zombie counts as gone.
func procStat(pid int) (ticks uint64, session int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The command name may hold blanks and parentheses: fields count from the last ")".
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields after the name, want at least 20", pid, len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, 0, errNotOurs
	}
	session, err = strconv.Atoi(fields[3])
	if err != nil {
		return 0, 0, err
	}
	ticks, err = strconv.ParseUint(fields[19], 10, 64)
	return ticks, session, err
}

// leftover is a living process that carries our marker.
type leftover struct {
	pid   int
	pidfd int
	hash  string
}

// identify opens pid and checks that it is the child with this marker. The
// process's own children inherit the variables (a containerd shim carries its
// daemon's), so the executable must match as well and the process must lead the
// session it was started in. The caller closes pidfd.
func identify(pid int, marker string) (leftover, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return leftover{}, fmt.Errorf("open pid %d: %w", pid, err)
	}
	// The descriptor pins the process: what /proc says from here on is about it
	// as long as it lives, and signals by the descriptor cannot hit another one.
	hash, err := checkMarker(pid, marker)
	if err == nil {
		err = unix.PidfdSendSignal(pidfd, 0, nil, 0)
	}
	if err != nil {
		unix.Close(pidfd)
		return leftover{}, err
	}
	return leftover{pid: pid, pidfd: pidfd, hash: hash}, nil
}

func checkMarker(pid int, marker string) (hash string, err error) {
	_, session, err := procStat(pid)
	if err != nil {
		return "", err
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", err
	}
	var found bool
	var detail string
	for _, kv := range bytes.Split(env, []byte{0}) {
		key, value, _ := strings.Cut(string(kv), "=")
		switch key {
		case MarkerEnv:
			found = value == marker
		case detailEnv:
			detail = value
		}
	}
	hash, wantExe, ok := strings.Cut(detail, ":")
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", err
	}
	// The kernel appends this when the file was replaced by an upgrade.
	exe = strings.TrimSuffix(exe, " (deleted)")
	if !found || !ok || exe != wantExe || session != pid {
		return "", errNotOurs
	}
	return hash, nil
}

// findLeftover looks for a living child with this marker: first by the PID
// file, then in /proc, because the server may have been killed between starting
// the child and writing the file. ok is false when there is none.
func findLeftover(pidFile, marker string) (l leftover, ok bool) {
	if rec, err := readPIDFile(pidFile); err == nil && rec.Boot == bootID() {
		if l, err := identify(rec.PID, marker); err == nil {
			if ticks, _, err := procStat(rec.PID); err == nil && ticks == rec.StartTicks {
				return l, true
			}
			unix.Close(l.pidfd)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return leftover{}, false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, err := checkMarker(pid, marker); err != nil {
			continue
		}
		if l, err := identify(pid, marker); err == nil {
			return l, true
		}
	}
	return leftover{}, false
}

func removePIDFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
