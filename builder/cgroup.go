package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Limits of all build steps together, whatever each may use.
const (
	stepPIDs        = 2048 // per concurrent build
	hostMemoryShare = 80   // percent of the machine's memory
)

const cgroupRoot = "/sys/fs/cgroup"

// stepGroups lists the folders of the parent cgroup: one under v2, one per
// controller under v1.
func (w *Worker) stepGroups() []string {
	if _, err := os.Stat(cgroupRoot + "/cgroup.controllers"); err == nil {
		return []string{filepath.Join(cgroupRoot, w.o.CgroupParent)}
	}
	var out []string
	for _, controller := range []string{"memory", "pids", "cpu"} {
		if _, err := os.Stat(filepath.Join(cgroupRoot, controller)); err == nil {
			out = append(out, filepath.Join(cgroupRoot, controller, w.o.CgroupParent))
		}
	}
	return out
}

// limitSteps bounds all steps together, so that no number of builds starves apps:
// memory, processes, and a quarter of an app's share of the CPU when it is short.
func (w *Worker) limitSteps() error {
	memory := min(w.o.Limits.MemoryBytes*int64(w.o.Concurrency), hostMemory()*hostMemoryShare/100)
	pids := fmt.Sprint(stepPIDs * w.o.Concurrency)
	values := map[string]string{ // files that do not exist under this version are skipped
		"memory.limit_in_bytes": fmt.Sprint(memory), "memory.max": fmt.Sprint(memory),
		"pids.max": pids, "cpu.shares": "256", "cpu.weight": "25",
	}
	var failed []error
	for _, dir := range w.stepGroups() {
		delegate(dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			failed = append(failed, err)
			continue
		}
		for name, value := range values {
			file := filepath.Join(dir, name)
			if _, err := os.Stat(file); err != nil {
				continue
			}
			failed = append(failed, os.WriteFile(file, []byte(value), 0o644))
		}
	}
	return errors.Join(failed...)
}

// delegate enables the controllers for a v2 folder in those above it. Where that is
// not possible, the limit's file is missing and the limit is not set.
func delegate(dir string) {
	for up := filepath.Dir(dir); strings.HasPrefix(up, cgroupRoot); up = filepath.Dir(up) {
		defer func() { // from the root down
			_ = os.MkdirAll(up, 0o755)
			if file := filepath.Join(up, "cgroup.subtree_control"); fileExists(file) {
				_ = os.WriteFile(file, []byte("+cpu +memory +pids"), 0o644)
			}
		}()
	}
}

func fileExists(name string) bool { _, err := os.Stat(name); return err == nil }

func hostMemory() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 4 << 30
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// killSteps kills every process of a build step. It is called when no build of
// ours runs: then whatever is left outlived a killed buildkitd or server.
func (w *Worker) killSteps() {
	killed := map[int]bool{}
	for _, dir := range w.stepGroups() {
		// A folder that vanishes while it is walked is a step that ended.
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.Name() != "cgroup.procs" {
				return nil
			}
			text, _ := os.ReadFile(path)
			for _, field := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 1 && !killed[pid] {
					killed[pid] = syscall.Kill(pid, syscall.SIGKILL) == nil
				}
			}
			return nil
		})
	}
	if len(killed) > 0 {
		w.o.Log.Warn("killed leftover build steps", "processes", len(killed))
	}
}
