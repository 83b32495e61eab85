package containerd

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/vishvananda/netlink"
)

// remains lists what instances may leave behind: containers, snapshots,
// processes, interfaces, namespaces, cgroups, mounts, files.
func (m *machine) remains(t testing.TB) []string {
	t.Helper()
	var out []string
	c, err := client.New(m.path("c.sock"), client.WithDefaultNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := inNamespace(context.Background())
	cs, err := c.Containers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range cs {
		out = append(out, "container "+x.ID())
	}
	c.SnapshotService(snapshotter).Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		if i.Kind != snapshots.KindCommitted {
			out = append(out, "snapshot "+i.Name)
		}
		return nil
	})
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "sl"+m.id) {
			out = append(out, "interface "+l.Attrs().Name)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, m.data) {
			out = append(out, "mount "+line)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/slipway-" + m.id + "/apps/*/cgroup.procs")
	out = append(out, groups...)
	for _, dir := range []string{"run/instances", "run/netns", "run/runc/slipway", "run/fifo", "state/io.containerd.runtime.v2.task/slipway"} {
		left, _ := filepath.Glob(m.path(dir, "*"))
		out = append(out, left...)
	}
	return append(out, m.processes()...)
}

// processes lists shims, sinks, inits and probes of this machine.
func (m *machine) processes() []string {
	var out []string
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		line := string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
		group, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cgroup"))
		ours := strings.Contains(line, m.data) && !strings.Contains(line, "config.toml")
		if ours || strings.Contains(string(group), "slipway-"+m.id) {
			out = append(out, "process "+line)
		}
	}
	return out
}
