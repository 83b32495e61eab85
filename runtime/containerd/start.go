package containerd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/network"
)

// Labels of our containers (docs/contracts.md). None is ever taken from an image.
const (
	labelInstallation = "slipway.installation"
	labelApp          = "slipway.app"
	labelAppName      = "slipway.app-name"
	labelOrg          = "slipway.org"
	labelDeployment   = "slipway.deployment"
	labelRelease      = "slipway.release"
	labelSlot         = "slipway.slot"
	labelAttempt      = "slipway.attempt"
	labelType         = "slipway.type"
	labelAddr         = "slipway.addr"
	labelGrace        = "slipway.grace"

	// labelRoot on a snapshot keeps containerd's collector away from it from the
	// same call on that makes it, as a lease would with two calls more.
	labelRoot = "containerd.io/gc.root"
)

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, s driver.Spec) (driver.Status, error) {
	st, err := d.start(inNamespace(ctx), s)
	if err != nil {
		return driver.Status{}, fmt.Errorf("start instance %s: %w", s.ID, mapped(err))
	}
	return st, nil
}

func (d *Driver) start(ctx context.Context, s driver.Spec) (driver.Status, error) {
	if err := validate(s); err != nil {
		return driver.Status{}, err
	}
	unlock, err := d.ids.lock(ctx, s.ID)
	if err != nil {
		return driver.Status{}, err
	}
	defer unlock()
	seen, err := d.look(ctx, s.ID)
	if err != nil {
		return driver.Status{}, err
	}
	if seen.ran() {
		return d.status(seen)
	}
	if seen.container != nil {
		if err := d.remove(ctx, s.ID); err != nil {
			return driver.Status{}, fmt.Errorf("remove what a cut off start left: %w", err)
		}
	}
	st, err := d.make(ctx, s)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		if undo := d.remove(ctx, s.ID); undo != nil {
			d.cfg.Log.Warn("half an instance is left for the sweep", "instance", s.ID, "err", undo)
		}
		return driver.Status{}, err
	}
	return st, nil
}

func validate(s driver.Spec) error {
	switch {
	case s.ID == "" || len(s.ID) > 63 || strings.Trim(s.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return fmt.Errorf("instance ID %q is not a host name of at most 63 characters", s.ID)
	case len(s.Command) == 0:
		return errors.New("the command is empty")
	case s.MemoryBytes <= 0 || s.CPUMillis <= 0:
		return fmt.Errorf("memory %d bytes and CPU %d millis must be positive", s.MemoryBytes, s.CPUMillis)
	}
	return nil
}

// make is the way from nothing to a running instance. The firewall entry, the
// namespace and the veth exist before the task does.
func (d *Driver) make(ctx context.Context, s driver.Spec) (driver.Status, error) {
	layer, err := d.rootFS(ctx, s.ImageRef)
	if err != nil {
		return driver.Status{}, err
	}
	at, err := d.net.Reserve(s.ID)
	if errors.Is(err, network.ErrNoAddress) {
		return driver.Status{}, fmt.Errorf("%w: %w", driver.ErrOutOfAddress, err)
	}
	if err != nil {
		return driver.Status{}, err
	}
	if at.UserNS != "" && !d.users.supported(ctx, d) {
		at.UserNS, at.FirstUID = "", 0
	}
	if err := d.writeFiles(s, at); err != nil {
		return driver.Status{}, err
	}
	var rootfs []mount.Mount
	container := d.container(s, at)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.net.Attach(gctx, s.ID, at) })
	g.Go(func() error {
		var err error
		if rootfs, err = d.snapshot(gctx, s, at, layer); err != nil {
			return err
		}
		if container.Spec, err = typeurl.MarshalAnyToProto(d.buildSpec(s, at)); err != nil {
			return err
		}
		if container, err = d.client.ContainerService().Create(gctx, container); err != nil {
			return fmt.Errorf("make container: %w", err)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return driver.Status{}, err
	}
	return d.run(ctx, s, at, container, rootfs)
}

func (d *Driver) container(s driver.Spec, at network.Attachment) containers.Container {
	return containers.Container{
		ID: s.ID, Image: s.ImageRef, Snapshotter: snapshotter, SnapshotKey: d.snapshotKey(s.ID),
		Runtime: containers.RuntimeInfo{Name: runtimeName, Options: d.runtime},
		Labels: map[string]string{
			labelInstallation: d.cfg.ID, labelApp: s.AppID, labelAppName: s.AppName, labelOrg: s.Org,
			labelDeployment: strconv.FormatInt(s.Deployment, 10), labelRelease: strconv.Itoa(s.Release),
			labelSlot: strconv.Itoa(s.Slot), labelAttempt: strconv.Itoa(s.Attempt), labelType: string(s.Type),
			labelAddr: at.Addr.String(), labelGrace: s.Grace.String(),
		},
	}
}

// run makes the task, starts it and marks the instance as one that ran.
func (d *Driver) run(ctx context.Context, s driver.Spec, at network.Attachment, c containers.Container, rootfs []mount.Mount) (driver.Status, error) {
	log := d.logURI(s, at)
	t := d.client.TaskService()
	_, err := t.Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: s.ID, Rootfs: mount.ToProto(rootfs), Stdout: log, Stderr: log, Options: typeurl.MarshalProto(d.runtime),
	})
	if err != nil {
		return driver.Status{}, fmt.Errorf("make task: %w", errgrpc.ToNative(err))
	}
	began, err := t.Start(ctx, &tasks.StartRequest{ContainerID: s.ID})
	if err != nil {
		return driver.Status{}, fmt.Errorf("start task: %w", errgrpc.ToNative(err))
	}
	k := mark{StartedAt: time.Now()}
	if err := d.marks.write(s.ID, k); err != nil {
		return driver.Status{}, err
	}
	st := fromLabels(c)
	st.Running, st.PID, st.StartedAt = true, int(began.Pid), k.StartedAt
	return st, nil
}

// snapshot makes the instance's own writable layer on top of the image's.
func (d *Driver) snapshot(ctx context.Context, s driver.Spec, at network.Attachment, layer string) ([]mount.Mount, error) {
	sn, key := d.client.SnapshotService(snapshotter), d.snapshotKey(s.ID)
	all := map[string]string{labelInstallation: d.cfg.ID, labelRoot: time.Now().UTC().Format(time.RFC3339)}
	if at.UserNS != "" { // the image's owners are shifted by the mount, nothing is copied
		ids := fmt.Sprintf("0:%d:%d", at.FirstUID, network.UserRange)
		all[snapshots.LabelSnapshotUIDMapping], all[snapshots.LabelSnapshotGIDMapping] = ids, ids
	}
	labels := snapshots.WithLabels(all)
	m, err := sn.Prepare(ctx, key, layer, labels)
	if errdefs.IsAlreadyExists(err) { // of a start that was cut off before the container
		if err := sn.Remove(ctx, key); err != nil {
			return nil, fmt.Errorf("remove an old snapshot: %w", err)
		}
		m, err = sn.Prepare(ctx, key, layer, labels)
	}
	if errdefs.IsNotFound(err) { // collected since, or never unpacked
		if err := d.unpack(ctx, s.ImageRef); err != nil {
			return nil, err
		}
		m, err = sn.Prepare(ctx, key, layer, labels)
	}
	if err != nil {
		return nil, fmt.Errorf("make snapshot: %w", err)
	}
	return m, nil
}

// snapshotKey begins with the installation, so that a sweep knows its own.
func (d *Driver) snapshotKey(id string) string { return "slipway-" + d.cfg.ID + "/" + id }

// logURI names the sink that the shim starts; it outlives us and containerd.
func (d *Driver) logURI(s driver.Spec, at network.Attachment) string {
	q := url.Values{}
	q.Set("file", d.logs.Path(s.AppName, s.ID))
	q.Set("slot", strconv.Itoa(s.Slot))
	q.Set("release", strconv.Itoa(s.Release))
	q.Set("uid", strconv.FormatInt(int64(at.FirstUID)+uid, 10))
	// binary-v2: the shim fails the start if the sink dies before it is ready.
	return (&url.URL{Scheme: "binary-v2", Path: d.cfg.Sink, RawQuery: q.Encode()}).String()
}

// writeFiles makes the files that are mounted into the instance, and the folder
// of its logs.
func (d *Driver) writeFiles(s driver.Spec, at network.Attachment) error {
	dir := d.marks.folder(s.ID)
	for path, mode := range map[string]os.FileMode{dir: 0o711, filepath.Dir(d.logs.Path(s.AppName, s.ID)): 0o700} {
		if err := os.MkdirAll(path, mode); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	var resolv strings.Builder
	for _, r := range d.net.Resolvers() {
		resolv.WriteString("nameserver " + r.String() + "\n")
	}
	for name, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost\n" + at.Addr.String() + " " + s.ID + "\n",
		"hostname":    s.ID + "\n",
		"resolv.conf": resolv.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func portOf(t paas.AppType, addr string) string {
	if t == paas.TypeWorker || addr == "" {
		return ""
	}
	return addr + ":" + strconv.Itoa(paas.InstancePort)
}
