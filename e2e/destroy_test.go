package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	slipway "github.com/slipway-paas/slipway/e2e/platform"
)

// footprint lists everything on the machine that belongs to this Slipway's apps:
// name → sorted list.
func (p *platform) footprint(t testing.TB, id string) map[string][]string {
	t.Helper()
	ctr := func(args ...string) []string {
		args = append([]string{"--address", filepath.Join(p.Data, "containerd", "containerd.sock"), "-n", "slipway"}, args...)
		out, err := exec.CommandContext(context.Background(), filepath.Join(filepath.Dir(p.Bin), "engine", "ctr"), args...).Output()
		if err != nil {
			t.Fatalf("ctr %v: %v", args, err)
		}
		return strings.Fields(string(out))
	}
	glob := func(patterns ...string) []string {
		var all []string
		for _, g := range patterns {
			m, err := filepath.Glob(g)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, m...)
		}
		return all
	}
	var snapshots []string // of instances; BuildKit's belong to its cache
	for _, key := range ctr("snapshots", "ls") {
		if strings.HasPrefix(key, "slipway-"+id+"/") {
			snapshots = append(snapshots, key)
		}
	}
	f := map[string][]string{
		"snapshots":  snapshots,
		"containers": ctr("containers", "ls", "-q"),
		"tasks":      ctr("tasks", "ls", "-q"),
		"images":     ctr("images", "ls", "-q"),
		"interfaces": glob("/sys/class/net/sl" + id + "*"),
		"namespaces": glob(filepath.Join(p.Data, "run", "netns", "*")),
		"cgroups":    glob("/sys/fs/cgroup/*/slipway-"+id+"/apps/*", "/sys/fs/cgroup/slipway-"+id+"/apps/*"),
		"logs":       glob(filepath.Join(p.Data, "logs", "apps", "*")),
		"mounts":     mountsBelow(t, p.Data),
		"objects":    objects(t, filepath.Join(p.Data, "s3")),
	}
	for k := range f {
		sort.Strings(f[k])
	}
	return f
}

func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir) {
			out = append(out, f[1])
		}
	}
	return out
}

func objects(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.Contains(name, "/archives/") || strings.Contains(name, "/builds/") || strings.Contains(name, "/uploads/")) {
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// extra returns what is in now but not in before and should not be there.
func extra(before, now map[string][]string) []string {
	var out []string
	for kind, list := range now {
		was := map[string]bool{}
		for _, x := range before[kind] {
			was[x] = true
		}
		for _, x := range list {
			if !was[x] && !keptOnPurpose(kind, x) {
				out = append(out, kind+": "+x)
			}
		}
	}
	sort.Strings(out)
	return out
}

// keptOnPurpose: base images belong to the installation, and BuildKit keeps a
// step's network namespace for its next step for five minutes (util/network/netpool,
// aboveTargetGracePeriod).
func keptOnPurpose(kind, name string) bool {
	return kind == "images" && strings.Contains(name, "/base/") || kind == "mounts" && strings.Contains(name, "/buildkit/root/net/cni/")
}

func TestDestroy_LeavesNothing(t *testing.T) {
	const app = "gone"
	shared.must(t, "deploy", answering("warm-up").dir(t), "--app", app) // bases exist from here on
	shared.must(t, "destroy", app, "--yes")
	id := shared.InstallationID()
	quiet := func() error { return shared.settled(t) }
	if err := slipway.Until(60*time.Second, quiet); err != nil {
		t.Fatal(err)
	}
	before := shared.footprint(t, id)
	shared.must(t, "deploy", answering("one").dir(t), "--app", app)
	shared.must(t, "deploy", answering("two").dir(t), "--app", app)
	shared.must(t, "scale", "web=2", "-a", app)
	shared.must(t, "destroy", app, "--yes")
	err := slipway.Until(60*time.Second, func() error {
		if left := extra(before, shared.footprint(t, id)); len(left) > 0 {
			return fmt.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if status, _, err := shared.Get(app, "/"); err != nil || status != 404 {
		t.Errorf("a destroyed app answers %d %v", status, err)
	}
}

// settled reports an app that is still being removed.
func (p *platform) settled(t testing.TB) error {
	var a struct {
		Apps []struct{ Name, State string }
	}
	p.mustJSON(t, &a, "apps")
	for _, app := range a.Apps {
		if app.State == "deleting" {
			return fmt.Errorf("%s is still being removed", app.Name)
		}
	}
	return nil
}
