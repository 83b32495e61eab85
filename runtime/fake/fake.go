// Package fake is a driver in memory for tests of everything above the driver.
// Its web instances are real HTTP listeners on 127.0.0.1, so that health probes
// and routing are real too; what they do is scripted by a Behaviour. It passes the
// same suite (drivertest) as the containerd driver.
//
// It imports runtime/driver and internal/paas only. Start reading at New, then
// behaviour.go.
package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
)

var _ driver.Driver = (*Driver)(nil)

// Driver is a fake machine seen through the Driver contract.
type Driver struct {
	m *machine
}

// machine is what outlives a Driver: Reopen shares it.
type machine struct {
	mu        sync.Mutex
	behave    func(driver.Spec) Behaviour
	images    map[string]bool
	instances map[string]*instance
	busy      map[string]chan struct{} // closed when the Start or Stop of that ID ends
	watchers  map[chan driver.Event]bool
	starts    []string
	failList  error
	failStart error
	failStop  error
	down      chan struct{} // closed by Disconnect
}

// New returns an empty machine. behave says what an instance does; nil means
// that every instance answers 200 until it is stopped. It is called once per
// instance, when it starts.
func New(behave func(driver.Spec) Behaviour) *Driver {
	if behave == nil {
		behave = func(driver.Spec) Behaviour { return Behaviour{} }
	}
	return &Driver{m: &machine{
		behave:    behave,
		images:    map[string]bool{},
		instances: map[string]*instance{},
		busy:      map[string]chan struct{}{},
		watchers:  map[chan driver.Event]bool{},
		down:      make(chan struct{}),
	}}
}

// Reopen returns a second Driver for the same machine, as a restarted server has.
func (d *Driver) Reopen() *Driver { return &Driver{m: d.m} }

// AddImage makes refs known; Start of any other ref is ErrNoImage.
func (d *Driver) AddImage(refs ...string) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	for _, r := range refs {
		d.m.images[r] = true
	}
}

// Start implements driver.Driver.
func (d *Driver) Start(ctx context.Context, s driver.Spec) (driver.Status, error) {
	unlock, err := d.m.lock(ctx, s.ID)
	if err != nil {
		return driver.Status{}, err
	}
	defer unlock()
	d.m.mu.Lock()
	if in := d.m.instances[s.ID]; in != nil {
		d.m.mu.Unlock()
		return in.status(), nil
	}
	known, fail, behave := d.m.images[s.ImageRef], d.m.failStart, d.m.behave
	d.m.mu.Unlock()
	if fail != nil {
		return driver.Status{}, fail
	}
	if !known {
		return driver.Status{}, fmt.Errorf("start instance %s: %w: %s", s.ID, driver.ErrNoImage, s.ImageRef)
	}
	b := behave(s)
	if err := sleep(ctx, b.StartDelay); err != nil {
		return driver.Status{}, fmt.Errorf("start instance %s: %w", s.ID, err)
	}
	if b.StartErr != nil {
		return driver.Status{}, fmt.Errorf("start instance %s: %w", s.ID, b.StartErr)
	}
	in, err := newInstance(s, b, func() { d.m.hint(s.ID) })
	if err != nil {
		return driver.Status{}, err
	}
	d.m.mu.Lock()
	d.m.instances[s.ID] = in
	d.m.starts = append(d.m.starts, s.ID)
	d.m.mu.Unlock()
	in.run()
	d.m.hint(s.ID)
	return in.status(), nil
}

// Stop implements driver.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	unlock, err := d.m.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	d.m.mu.Lock()
	in, fail := d.m.instances[id], d.m.failStop
	d.m.mu.Unlock()
	if fail != nil {
		return fail
	}
	if in == nil {
		return nil
	}
	if grace < 0 {
		grace = in.spec.Grace
	}
	if err := in.stop(ctx, grace); err != nil {
		return fmt.Errorf("stop instance %s: %w", id, err)
	}
	d.m.mu.Lock()
	delete(d.m.instances, id)
	d.m.mu.Unlock()
	d.m.hint(id)
	return nil
}

// List implements driver.Driver.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.m.failList != nil {
		return nil, d.m.failList
	}
	out := make([]driver.Status, 0, len(d.m.instances))
	for _, in := range d.m.instances {
		out = append(out, in.status())
	}
	slices.SortFunc(out, func(a, b driver.Status) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Watch implements driver.Driver.
func (d *Driver) Watch(ctx context.Context, hint func(driver.Event)) error {
	c := make(chan driver.Event, 256)
	d.m.mu.Lock()
	d.m.watchers[c] = true
	down := d.m.down
	d.m.mu.Unlock()
	defer d.m.set(func(m *machine) { delete(m.watchers, c) })
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-down:
			return fmt.Errorf("watch: %w", driver.ErrUnavailable)
		case e := <-c:
			hint(e)
		}
	}
}

// Exec implements driver.Driver.
func (d *Driver) Exec(ctx context.Context, id string, r paas.ExecRequest) (int, error) {
	in, err := d.running(id)
	if err != nil {
		return 0, err
	}
	if in.behaviour.Exec == nil {
		return 0, errors.New("fake: this Behaviour has no Exec")
	}
	return in.behaviour.Exec(ctx, in.spec, r)
}

// Stats implements driver.Driver.
func (d *Driver) Stats(_ context.Context, id string) (driver.Stats, error) {
	in, err := d.running(id)
	if err != nil {
		return driver.Stats{}, err
	}
	if in.behaviour.Stats != nil {
		return in.behaviour.Stats(), nil
	}
	return driver.Stats{MemoryBytes: 1 << 20, CPUTime: time.Millisecond, PIDs: 1}, nil
}

// ListenPorts implements driver.Driver.
func (d *Driver) ListenPorts(_ context.Context, id string) ([]string, error) {
	in, err := d.running(id)
	if err != nil {
		return nil, err
	}
	return in.ports(), nil
}

// RemoveImage implements driver.Driver.
func (d *Driver) RemoveImage(_ context.Context, ref string) error {
	d.m.set(func(m *machine) { delete(m.images, ref) })
	return nil
}

// Images implements driver.Driver.
func (d *Driver) Images(context.Context) ([]string, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	out := make([]string, 0, len(d.m.images))
	for r := range d.m.images {
		out = append(out, r)
	}
	slices.Sort(out)
	return out, nil
}

// Sweep implements driver.Driver; a fake machine has no left-overs.
func (d *Driver) Sweep(context.Context, time.Duration) ([]string, error) { return nil, nil }

func (d *Driver) running(id string) (*instance, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	in := d.m.instances[id]
	if in == nil {
		return nil, fmt.Errorf("%w: %s", driver.ErrNotFound, id)
	}
	if !in.status().Running {
		return nil, fmt.Errorf("%w: %s", driver.ErrNotRunning, id)
	}
	return in, nil
}

func (m *machine) set(f func(*machine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

// lock waits until no Start or Stop of id is under way.
func (m *machine) lock(ctx context.Context, id string) (unlock func(), err error) {
	for {
		m.mu.Lock()
		held := m.busy[id]
		if held == nil {
			mine := make(chan struct{})
			m.busy[id] = mine
			m.mu.Unlock()
			return func() {
				m.set(func(m *machine) { delete(m.busy, id) })
				close(mine)
			}, nil
		}
		m.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// hint tells the watchers; one that does not keep up loses hints, as it may.
func (m *machine) hint(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.watchers {
		select {
		case c <- driver.Event{ID: id}:
		default:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
