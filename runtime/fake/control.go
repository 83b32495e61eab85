package fake

import (
	"slices"

	"github.com/slipway-paas/slipway/runtime/driver"
)

// FailList makes List return err until it is called with nil.
func (d *Driver) FailList(err error) { d.m.set(func(m *machine) { m.failList = err }) }

// FailStart makes every Start return err, with nothing made, until nil.
func (d *Driver) FailStart(err error) { d.m.set(func(m *machine) { m.failStart = err }) }

// FailStop makes every Stop return err, with nothing stopped, until nil.
func (d *Driver) FailStop(err error) { d.m.set(func(m *machine) { m.failStop = err }) }

// SetBehave replaces the function given to New for instances started from now on.
func (d *Driver) SetBehave(f func(driver.Spec) Behaviour) { d.m.set(func(m *machine) { m.behave = f }) }

// Disconnect ends every Watch with ErrUnavailable, as a killed containerd does.
func (d *Driver) Disconnect() {
	d.m.set(func(m *machine) {
		close(m.down)
		m.down = make(chan struct{})
	})
}

// Starts lists the IDs that were really started, in order.
func (d *Driver) Starts() []string {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return slices.Clone(d.m.starts)
}

// Exit ends a running instance by itself with this code. Unknown ID: nothing.
func (d *Driver) Exit(id string, code int) {
	d.m.mu.Lock()
	in := d.m.instances[id]
	d.m.mu.Unlock()
	if in != nil {
		in.exit(code, false)
	}
}

// Close ends all instances; call it at the end of the test.
func (d *Driver) Close() {
	d.m.mu.Lock()
	all := make([]*instance, 0, len(d.m.instances))
	for _, in := range d.m.instances {
		all = append(all, in)
	}
	d.m.instances = map[string]*instance{}
	d.m.mu.Unlock()
	for _, in := range all {
		in.exit(137, false)
		in.wait()
	}
}
