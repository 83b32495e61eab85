package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
)

// Sweep implements driver.Driver.
func (d *Driver) Sweep(ctx context.Context, grace time.Duration) ([]string, error) {
	removed, err := d.sweep(inNamespace(ctx), grace)
	if err != nil {
		return removed, fmt.Errorf("sweep: %w", mapped(err))
	}
	return removed, nil
}

func (d *Driver) sweep(ctx context.Context, grace time.Duration) (removed []string, err error) {
	// Traces first, containers second: whatever got a container in between counts as
	// owned.
	traces, err := d.traces(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := d.lookAll(ctx)
	if err != nil {
		return nil, err
	}
	owned := map[string]bool{}
	old := time.Now().Add(-grace)
	for _, s := range seen {
		if s.ran() || s.container.CreatedAt.After(old) {
			owned[s.container.ID] = true
			continue
		}
		traces[s.container.ID] = "half made container"
	}
	var errs []error
	for _, id := range sorted(traces) {
		if owned[id] || d.young(id, old) {
			owned[id] = true
			continue
		}
		done, err := d.sweepOne(ctx, id)
		if done {
			removed = append(removed, traces[id]+" "+id)
		}
		errs = append(errs, err)
	}
	// Whoever is being started right now holds its lock and is not ours to judge.
	stray, err := d.net.Sweep(func(id string) bool { return owned[id] || d.young(id, old) || d.busy(id) })
	return append(removed, stray...), errors.Join(append(errs, err)...)
}

// traces maps the ID of everything that carries our name outside containerd's
// list of containers to what was found of it.
func (d *Driver) traces(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	entries, err := os.ReadDir(d.marks.dir)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	for _, e := range entries {
		out[e.Name()] = "files of"
	}
	for _, id := range d.cgroups.ids() {
		out[id] = "cgroup of"
	}
	filter := fmt.Sprintf("labels.%q==%s", labelInstallation, d.cfg.ID)
	err = d.client.SnapshotService(snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if id, ok := strings.CutPrefix(info.Name, d.snapshotKey("")); ok {
			out[id] = "snapshot of"
		}
		return nil
	}, filter)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return out, nil
}

// sweepOne removes id unless somebody works on it or it has come to life.
func (d *Driver) sweepOne(ctx context.Context, id string) (done bool, err error) {
	unlock, _ := d.ids.try(id)
	if unlock == nil {
		return false, nil
	}
	defer unlock()
	seen, err := d.look(ctx, id)
	if err != nil || seen.ran() {
		return false, err
	}
	if err := d.remove(ctx, id); err != nil {
		return false, fmt.Errorf("remove %s: %w", id, err)
	}
	return true, nil
}

// young reports whether a start of id began after old: its folder comes first.
func (d *Driver) young(id string, old time.Time) bool {
	st, err := os.Stat(d.marks.folder(id))
	return err == nil && st.ModTime().After(old)
}

func (d *Driver) busy(id string) bool {
	unlock, _ := d.ids.try(id)
	if unlock == nil {
		return true
	}
	unlock()
	return false
}

func sorted(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
