package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// sweepBuilds ends what a killed buildkitd left: running steps (they are
// containerd's children and live on), their containers, mounts and addresses.
// buildkitd must not run.
func (e *Engine) sweepBuilds(ctx context.Context) error {
	if e.addr.Buildkit == "" || e.cfg.BuildkitAddress != "" {
		return nil
	}
	err := SweepBuilds(ctx, Sweep{
		Cgroup: e.addr.BuildCgroup, Dir: e.dir("buildkit"),
		Containerd: e.addr.Containerd, Namespace: Namespace, Addresses: e.dir("buildkit", "cni"), Network: e.networkName(),
	})
	return errors.Join(err, e.sweepShims(ctx))
}

// Sweep names what belongs to builds.
type Sweep struct {
	Cgroup     string // parent of the steps' cgroups
	Dir        string // buildkitd's folder; mounts below it are left-overs
	Containerd string // socket; not answering is no error if it is not there
	Namespace  string
	Addresses  string // folder of host-local's reservations
	Network    string // name of the builds' CNI network
}

// SweepBuilds kills every process in the builds' cgroup, deletes the steps'
// containers, removes the cgroups, unmounts what is left below buildkitd's
// folder and frees the steps' addresses. Call it only while buildkitd is not
// running; it is safe to repeat.
func SweepBuilds(ctx context.Context, s Sweep) error {
	if err := killCgroup(ctx, s.Cgroup); err != nil {
		return err
	}
	if err := s.deleteContainers(ctx); err != nil {
		return err
	}
	if err := unmountBelow(s.Dir); err != nil {
		return err
	}
	removeCgroup(s.Cgroup)
	if err := removeReservations(s.Addresses); err != nil {
		return err
	}
	return removeResults(s.Network)
}

// deleteContainers forgets the steps. Apps live in the same namespace: a step is
// known by its cgroup.
func (s Sweep) deleteContainers(ctx context.Context) error {
	if _, err := os.Stat(s.Containerd); err != nil {
		return nil // never started, or stopped: nothing can be deleted now
	}
	client, err := containerd.New(s.Containerd, containerd.WithTimeout(2*time.Second))
	if err != nil {
		return nil // stopped with its socket left; its next start sweeps again
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, s.Namespace), 20*time.Second)
	defer cancel()
	list, err := client.Containers(ctx)
	if err != nil {
		if errdefs.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) {
			return nil // as above
		}
		return fmt.Errorf("list containers of builds: %w", err)
	}
	for _, c := range list {
		spec, err := c.Spec(ctx)
		if err != nil || spec.Linux == nil || !strings.HasPrefix(spec.Linux.CgroupsPath, s.Cgroup+"/") {
			continue
		}
		if task, err := c.Task(ctx, nil); err == nil {
			if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("end build step %s: %w", c.ID(), err)
			}
		}
		if err := c.Delete(ctx); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("delete build step %s: %w", c.ID(), err)
		}
	}
	return nil
}

// hierarchies are the roots below which a cgroup path exists: one per
// controller in version 1, the root itself in version 2.
func hierarchies() []string {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil
	}
	var roots []string
	for _, e := range entries {
		roots = append(roots, filepath.Join(cgroupRoot, e.Name()))
	}
	return roots
}

// killCgroup kills until nothing is left: a process may fork while it is being
// killed.
func killCgroup(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		pids := cgroupPIDs(path)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // gone already is fine; the next round tells
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes of builds are still in cgroup %s after 15 s of SIGKILL (first: %d)", len(pids), path, pids[0])
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func cgroupPIDs(path string) []int {
	var pids []int
	for _, root := range hierarchies() {
		_ = filepath.WalkDir(filepath.Join(root, path), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil // absent, or removed while we look
			}
			data, err := os.ReadFile(p)
			if err != nil {
				return nil
			}
			for _, f := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// removeCgroup removes the emptied cgroup and those below it. One that is busy
// for a moment is removed by the next sweep.
func removeCgroup(path string) {
	for _, root := range hierarchies() {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(root, path), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = unix.Rmdir(dirs[i])
		}
		_ = unix.Rmdir(filepath.Dir(filepath.Join(root, path))) // the engine's own; busy while apps run
	}
}

// unmountBelow detaches every mount below dir, the youngest first.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 5 {
			continue
		}
		if p := unescapeMount(fields[4]); strings.HasPrefix(p, dir+"/") {
			points = append(points, p)
		}
	}
	for i := len(points) - 1; i >= 0; i-- {
		err := unix.Unmount(points[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", points[i], err)
		}
	}
	return nil
}

// unescapeMount turns the octal escapes of proc(5) into bytes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// removeReservations frees all addresses: no step is left to use one.
func removeReservations(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// cniResults is where libcni remembers what it set up; BuildKit offers no option.
const cniResults = "/var/lib/cni/results"

// removeResults forgets the network's steps there. A file is named
// <network>-<step>-<interface>; the step's loopback has one of its own.
func removeResults(network string) error {
	files, err := filepath.Glob(filepath.Join(cniResults, network+"-*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		step, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(f), network+"-"), "-")
		for _, f := range []string{f, filepath.Join(cniResults, "cni-loopback-"+step+"-lo")} {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// removeBuildNetwork deletes the bridge and the firewall table.
func (e *Engine) removeBuildNetwork() error {
	if e.cfg.BuildkitAddress != "" {
		return nil
	}
	var missing netlink.LinkNotFoundError
	link, err := netlink.LinkByName(e.addr.BuildBridge)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if errors.As(err, &missing) {
		err = nil
	}
	return errors.Join(err, RemoveBuildFirewall(e.addr.BuildBridge))
}
