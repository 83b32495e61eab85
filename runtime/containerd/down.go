package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/runtime/network"
)

// shimName is the first argument's base name of the processes that hold tasks.
const shimName = "containerd-shim-runc-v2"

// Down removes what the installation's driver made outside containerd: instances'
// processes and cgroups, firewall, interfaces, namespaces. It needs neither a
// server nor containerd and is safe to repeat. Call it last: where containerd
// answers, Driver.Stop of every instance comes first, since that also removes
// containers and snapshots; where it cannot be started any more, EndShims does.
func Down(ctx context.Context, id, dataDir string) error {
	if !installationID.MatchString(id) || !filepath.IsAbs(dataDir) {
		return fmt.Errorf("down: installation ID %q or data folder %q is not valid", id, dataDir)
	}
	c := newCgroups("/sys/fs/cgroup", "/slipway-"+id+"/apps")
	var errs []error
	for _, instance := range c.ids() {
		errs = append(errs, c.remove(ctx, instance))
	}
	c.removeParents()
	errs = append(errs, network.Down(id, filepath.Join(dataDir, "run")))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("down: %w", err)
	}
	return nil
}

// EndShims kills the shims (and so the sinks) of the containerd whose socket and
// state folder these are, and removes the mounts that they held. containerd must
// not run: it would take the shims' end for that of its tasks. A shim that is left
// would wait for its containerd for ever. Safe to repeat.
func EndShims(ctx context.Context, address, stateDir string) error {
	const patience = 5 * time.Second
	for deadline := time.Now().Add(patience); ; {
		pids := shims(address)
		if len(pids) == 0 {
			return removeBundles(stateDir)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("shims %v are still there %v after SIGKILL", pids, patience)
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL) // gone already is fine
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func shims(address string) []int {
	var out []int
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil {
			continue // ended meanwhile
		}
		var args []string
		for a := range bytes.SplitSeq(b, []byte{0}) {
			args = append(args, string(a))
		}
		i := slices.Index(args, "-address")
		if filepath.Base(args[0]) != shimName || i < 0 || i+1 >= len(args) || args[i+1] != address {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

func removeBundles(stateDir string) error {
	dir := filepath.Join(stateDir, bundles, namespace)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, removeBundle(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// removeBundle unmounts and removes a task's folder.
func removeBundle(dir string) error {
	err := unix.Unmount(filepath.Join(dir, "rootfs"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove files: %w", err)
	}
	return nil
}
