package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/internal/paas"
)

// killWait bounds the wait for a process that got SIGKILL.
const killWait = 10 * time.Second

// Stop implements driver.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	if err := d.stop(inNamespace(ctx), id, grace); err != nil {
		return fmt.Errorf("stop instance %s: %w", id, mapped(err))
	}
	return nil
}

func (d *Driver) stop(ctx context.Context, id string, grace time.Duration) error {
	unlock, err := d.ids.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	seen, err := d.look(ctx, id)
	if err != nil {
		return err
	}
	if seen.container != nil && grace < 0 {
		if grace, err = time.ParseDuration(seen.container.Labels[labelGrace]); err != nil {
			grace = paas.DefaultShutdownGrace
		}
	}
	if seen.ran() && seen.task != nil && seen.task.Status == task.Status_RUNNING && grace > 0 {
		if err := d.ask(ctx, id, grace); err != nil {
			return err
		}
	}
	return d.remove(ctx, id)
}

// ask sends SIGTERM to process 1 and waits up to grace for the end.
func (d *Driver) ask(ctx context.Context, id string, grace time.Duration) error {
	t := d.client.TaskService()
	_, err := t.Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(unix.SIGTERM)})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return nil // ended by itself
	}
	if err != nil {
		return fmt.Errorf("send SIGTERM: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	_, err = t.Wait(waiting, &tasks.WaitRequest{ContainerID: id})
	if ctx.Err() != nil {
		return ctx.Err() // the caller gave up: nobody asked for a kill yet
	}
	if err = errgrpc.ToNative(err); errdefs.IsUnavailable(err) {
		return err
	}
	return nil // ended, gone, or out of time: remove does the rest
}

// remove takes away all of id, whatever is left of it. The order matters: first
// what runs, then what it used, last the container, whose absence means done;
// only network and files come after, and Sweep knows them by name.
func (d *Driver) remove(ctx context.Context, id string) error {
	if err := d.removeTask(ctx, id); err != nil {
		return err
	}
	if err := d.cgroups.remove(ctx, id); err != nil {
		return err
	}
	if err := d.removeRemains(id); err != nil {
		return err
	}
	if err := d.net.Detach(id); err != nil {
		return err
	}
	err := d.client.ContainerService().Delete(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete container: %w", err)
	}
	err = d.client.SnapshotService(snapshotter).Remove(ctx, d.snapshotKey(id))
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	if err := os.RemoveAll(d.marks.folder(id)); err != nil {
		return fmt.Errorf("remove files: %w", err)
	}
	return nil
}

// removeTask kills what runs and deletes the task with its shim and sink.
func (d *Driver) removeTask(ctx context.Context, id string) error {
	t := d.client.TaskService()
	_, err := t.Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: true})
	if err = errgrpc.ToNative(err); errdefs.IsUnavailable(err) {
		return err
	}
	if err == nil {
		waiting, cancel := context.WithTimeout(ctx, killWait)
		defer cancel()
		t.Wait(waiting, &tasks.WaitRequest{ContainerID: id}) // Delete below says if it did not end
	}
	if err := d.recordEnd(ctx, id); err != nil {
		return err
	}
	return d.deleteTask(ctx, id)
}

// deleteTask tries again for a while: when a shim has just died, containerd takes
// a moment to see it and to clear up itself.
func (d *Driver) deleteTask(ctx context.Context, id string) error {
	const patience, interval = 5 * time.Second, 50 * time.Millisecond
	for deadline := time.Now().Add(patience); ; {
		_, err := d.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		if err = errgrpc.ToNative(err); err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		if errdefs.IsUnavailable(err) || time.Now().After(deadline) {
			return fmt.Errorf("delete task: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
	}
}

// recordEnd keeps a List that runs beside us from taking the missing task for a
// lost one.
func (d *Driver) recordEnd(ctx context.Context, id string) error {
	p, err := d.task(ctx, id)
	if err != nil || p == nil || p.Status != task.Status_STOPPED {
		return err
	}
	k, err := d.marks.read(id)
	if err != nil || k == nil {
		return err
	}
	_, err = d.marks.exited(id, func() mark { return d.ending(id, k.StartedAt, p) })
	return err
}

// bundles is where containerd keeps the folders of tasks, below its state.
const bundles = "io.containerd.runtime.v2.task"

// removeRemains takes away what a killed shim leaves: runc's state and the bundle
// with its mounted root (containerd issue 13293).
func (d *Driver) removeRemains(id string) error {
	if err := os.RemoveAll(filepath.Join(d.cfg.DataDir, "run", "runc", namespace, id)); err != nil {
		return fmt.Errorf("remove files: %w", err)
	}
	if d.cfg.StateDir == "" {
		return nil
	}
	return removeBundle(filepath.Join(d.cfg.StateDir, bundles, namespace, id))
}
