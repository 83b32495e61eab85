package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/runtime/driver"
)

// cgroups reads and removes the instances' control groups, version 1 (one tree
// per controller) and version 2 (one tree). Files: the kernel's
// admin-guide/cgroup-v1 and cgroup-v2.
type cgroups struct {
	roots  []string // every tree
	memory string   // the tree of each controller; all the same in version 2
	cpu    string
	pids   string
	unite  bool   // version 2
	parent string // path of all instances' groups within a tree
}

func newCgroups(mount, parent string) cgroups {
	c := cgroups{parent: parent}
	if _, err := os.Stat(filepath.Join(mount, "cgroup.controllers")); err == nil {
		c.unite, c.roots = true, []string{mount}
		c.memory, c.cpu, c.pids = mount, mount, mount
		return c
	}
	c.memory, c.cpu, c.pids = filepath.Join(mount, "memory"), filepath.Join(mount, "cpuacct"), filepath.Join(mount, "pids")
	entries, err := os.ReadDir(mount)
	if err != nil {
		return c // no cgroups at all: runc will say so
	}
	for _, e := range entries {
		if e.IsDir() { // links are second names of joint controllers
			c.roots = append(c.roots, filepath.Join(mount, e.Name()))
		}
	}
	return c
}

// path is the OCI cgroupsPath of an instance.
func (c cgroups) path(id string) string { return filepath.Join(c.parent, id) }

// limitsSwap reports whether the kernel can count swap for a group.
func (c cgroups) limitsSwap() bool {
	if c.unite {
		return true
	}
	_, err := os.Stat(filepath.Join(c.memory, "memory.memsw.limit_in_bytes"))
	return err == nil
}

// ids lists the instances that have a group in any tree.
func (c cgroups) ids() []string {
	seen := map[string]bool{}
	var out []string
	for _, r := range c.roots {
		entries, err := os.ReadDir(filepath.Join(r, c.parent))
		if err != nil {
			continue // no instance has used this controller
		}
		for _, e := range entries {
			if e.IsDir() && !seen[e.Name()] {
				seen[e.Name()] = true
				out = append(out, e.Name())
			}
		}
	}
	return out
}

// memoryFacts tells whether the kernel killed something at the limit, and the
// peak; zeros when the group is gone.
func (c cgroups) memoryFacts(id string) (oomKilled bool, peakBytes int64) {
	dir := filepath.Join(c.memory, c.path(id))
	events, peak := "memory.oom_control", "memory.max_usage_in_bytes"
	if c.unite {
		events, peak = "memory.events", "memory.peak"
	}
	n, _ := field(filepath.Join(dir, events), "oom_kill")
	peakBytes, _ = number(filepath.Join(dir, peak))
	return n > 0, peakBytes
}

func (c cgroups) stats(id string) (driver.Stats, error) {
	dir := func(tree string) string { return filepath.Join(tree, c.path(id)) }
	usage, stat, inactive := "memory.usage_in_bytes", "memory.stat", "total_inactive_file"
	if c.unite {
		usage, inactive = "memory.current", "inactive_file"
	}
	mem, err := number(filepath.Join(dir(c.memory), usage))
	if err != nil {
		return driver.Stats{}, err
	}
	// File cache that can be dropped at once is no use of the app's.
	if cache, err := field(filepath.Join(dir(c.memory), stat), inactive); err == nil && cache < mem {
		mem -= cache
	}
	pids, err := number(filepath.Join(dir(c.pids), "pids.current"))
	if err != nil {
		return driver.Stats{}, err
	}
	cpu, err := c.cpuTime(dir(c.cpu))
	if err != nil {
		return driver.Stats{}, err
	}
	return driver.Stats{MemoryBytes: mem, CPUTime: cpu, PIDs: pids}, nil
}

func (c cgroups) cpuTime(dir string) (time.Duration, error) {
	if c.unite {
		us, err := field(filepath.Join(dir, "cpu.stat"), "usage_usec")
		return time.Duration(us) * time.Microsecond, err
	}
	ns, err := number(filepath.Join(dir, "cpuacct.usage"))
	return time.Duration(ns), err
}

// remove kills everything in the instance's groups and removes them. Absent: nil.
func (c cgroups) remove(ctx context.Context, id string) error {
	for _, r := range c.roots {
		dir := filepath.Join(r, c.path(id))
		if err := removeGroup(ctx, dir); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// removeParents removes the installation's own groups if nothing is in them.
func (c cgroups) removeParents() {
	for _, r := range c.roots {
		unix.Rmdir(filepath.Join(r, c.parent))               // not empty or not there:
		unix.Rmdir(filepath.Join(r, filepath.Dir(c.parent))) // somebody else's turn
	}
}

func removeGroup(ctx context.Context, dir string) error {
	const patience = 5 * time.Second // a killed process in a slow system call
	for deadline := time.Now().Add(patience); ; {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		killGroup(dir)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// killGroup kills all processes of the group and of those below it.
func killGroup(dir string) {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // went away meanwhile
		}
		b, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
				unix.Kill(pid, unix.SIGKILL) // gone already is fine
			}
		}
		if path != dir {
			unix.Rmdir(path) // still busy: the next round
		}
		return nil
	})
}

func number(file string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// field reads "name value" lines.
func field(file, name string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}
