package containerd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

// lostCode is the exit code of an instance whose task went away without a word: a
// killed shim takes its instance with it by SIGKILL.
const lostCode = 128 + 9

// sighting is all that is known of an instance at one moment.
type sighting struct {
	container *containers.Container // nil: absent
	task      *task.Process         // nil: none
	mark      *mark                 // nil: never ran
}

// ran reports whether the instance was started, whatever became of it.
func (s sighting) ran() bool {
	if s.container == nil {
		return false
	}
	return s.mark != nil || s.task != nil && s.task.Status != task.Status_CREATED && s.task.Status != task.Status_UNKNOWN
}

// look asks for one instance. An error means that nothing is known.
func (d *Driver) look(ctx context.Context, id string) (sighting, error) {
	c, err := d.client.ContainerService().Get(ctx, id)
	if errdefs.IsNotFound(err) {
		return sighting{}, nil
	}
	if err != nil {
		return sighting{}, err
	}
	if c.Labels[labelInstallation] != d.cfg.ID {
		return sighting{}, fmt.Errorf("container %s exists, but is not of this installation", id)
	}
	s := sighting{container: &c}
	if s.task, err = d.task(ctx, id); err != nil {
		return sighting{}, err
	}
	s.mark, err = d.marks.read(id)
	return s, err
}

// task returns nil if there is none.
func (d *Driver) task(ctx context.Context, id string) (*task.Process, error) {
	r, err := d.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.Process, nil
}

// List implements driver.Driver. It costs two calls, however many instances run.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	seen, err := d.lookAll(inNamespace(ctx))
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", mapped(err))
	}
	out := make([]driver.Status, 0, len(seen))
	for _, s := range seen {
		st, err := d.status(s)
		if err != nil {
			return nil, fmt.Errorf("list instances: %w", err)
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b driver.Status) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func (d *Driver) lookAll(ctx context.Context) ([]sighting, error) {
	all, err := d.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q==%s", labelInstallation, d.cfg.ID))
	if err != nil {
		return nil, err
	}
	r, err := d.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, errgrpc.ToNative(err)
	}
	byID := map[string]*task.Process{}
	for _, t := range r.Tasks {
		byID[t.ID] = t
	}
	out := make([]sighting, 0, len(all))
	for _, c := range all {
		s := sighting{container: &c, task: byID[c.ID]}
		if s.mark, err = d.marks.read(c.ID); err != nil {
			return nil, err
		}
		// containerd's list leaves out tasks whose shim did not answer: those are
		// unknown, not gone. Asking for the one tells them apart.
		if s.task == nil && s.mark != nil && s.mark.ExitedAt.IsZero() {
			if s.task, err = d.task(ctx, c.ID); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// status says what a sighting means, and records an exit that is seen first.
func (d *Driver) status(s sighting) (driver.Status, error) {
	st := fromLabels(*s.container)
	addr := st.Addr
	st.Addr = ""
	if !s.ran() {
		return st, nil // half made
	}
	st.StartedAt = st.CreatedAt
	if s.mark != nil {
		st.StartedAt = s.mark.StartedAt
	}
	if s.task != nil && s.task.Status != task.Status_STOPPED {
		st.Running, st.Addr, st.PID = true, addr, int(s.task.Pid)
		return st, nil
	}
	k, err := d.marks.exited(st.ID, func() mark { return d.ending(st.ID, st.StartedAt, s.task) })
	if err != nil {
		return st, err
	}
	st.ExitedAt, st.ExitCode, st.OOMKilled, st.PeakMemory = k.ExitedAt, k.ExitCode, k.OOMKilled, k.PeakMemory
	return st, nil
}

// ending reads how an instance ended; t is nil when its task is gone.
func (d *Driver) ending(id string, started time.Time, t *task.Process) mark {
	k := mark{StartedAt: started, ExitedAt: time.Now(), ExitCode: lostCode}
	if t != nil {
		k.ExitCode = int(t.ExitStatus)
		if at := t.ExitedAt.AsTime(); at.Unix() > 0 {
			k.ExitedAt = at
		}
	}
	k.OOMKilled, k.PeakMemory = d.cgroups.memoryFacts(id)
	return k
}

// fromLabels is what never changes about an instance.
func fromLabels(c containers.Container) driver.Status {
	number := func(label string) int {
		n, _ := strconv.Atoi(c.Labels[label]) // ours: always a number
		return n
	}
	t := paas.AppType(c.Labels[labelType])
	return driver.Status{
		ID: c.ID, AppID: c.Labels[labelApp], AppName: c.Labels[labelAppName], Deployment: int64(number(labelDeployment)),
		Release: number(labelRelease), Slot: number(labelSlot), Attempt: number(labelAttempt), Type: t,
		Addr: portOf(t, c.Labels[labelAddr]), CreatedAt: c.CreatedAt,
	}
}
