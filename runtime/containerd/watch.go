package containerd

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"

	"github.com/slipway-paas/slipway/runtime/driver"
)

// Watch implements driver.Driver: it passes on containerd's task events.
func (d *Driver) Watch(ctx context.Context, hint func(driver.Event)) error {
	ctx, cancel := context.WithCancel(inNamespace(ctx))
	defer cancel() // ends the subscription
	changes, failed := d.client.EventService().Subscribe(ctx, `namespace==`+namespace+`,topic~="^/tasks/"`)
	for {
		select {
		case e := <-changes:
			if id := instanceOf(e.Event); id != "" {
				hint(driver.Event{ID: id})
			}
		case err := <-failed:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil { // the stream ended without a reason: containerd stops
				return fmt.Errorf("watch: %w", driver.ErrUnavailable)
			}
			return fmt.Errorf("watch: %w", mapped(err))
		}
	}
}

// instanceOf is the instance that an event is about; "" for one of no interest,
// such as the end of a command that Exec ran.
func instanceOf(a typeurl.Any) string {
	e, err := typeurl.UnmarshalAny(a)
	if err != nil {
		return "" // a newer containerd's event; List tells the truth anyway
	}
	switch e := e.(type) {
	case *events.TaskStart:
		return e.ContainerID
	case *events.TaskOOM:
		return e.ContainerID
	case *events.TaskDelete:
		return e.ContainerID
	case *events.TaskExit:
		if e.ID == e.ContainerID {
			return e.ContainerID
		}
	}
	return ""
}
