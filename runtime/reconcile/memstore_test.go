package reconcile

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// memStore is the part of a store that reconcile uses, in memory, with the same
// transitions as internal/store.
type memStore struct {
	mu          sync.Mutex
	apps        []paas.App
	deployments []paas.Deployment
	releases    []paas.Release
	events      []paas.Event
	images      map[string]bool
	changed     chan struct{}
	now         func() time.Time
	failing     error // what Work returns
}

var _ Store = (*memStore)(nil)

func newMemStore(now func() time.Time) *memStore {
	return &memStore{changed: make(chan struct{}), now: now, images: map[string]bool{}}
}

// commit runs f under the lock and wakes whoever waits.
func (s *memStore) commit(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *memStore) addApp(name string, n int) {
	s.commit(func() {
		s.apps = append(s.apps, paas.App{ID: "id-" + name, Name: name, Type: paas.TypeWeb, Instances: n})
	})
}

// deploy adds a rolling deployment of a new release and ends the one before.
func (s *memStore) deploy(app string, r paas.Release) (id int64) {
	s.commit(func() {
		a := s.app(app)
		id = int64(len(s.deployments) + 1)
		for i := range s.deployments {
			d := &s.deployments[i]
			switch {
			case d.AppName != app:
			case d.State == paas.DeploymentRolling:
				d.State = paas.DeploymentSuperseded
			case d.State == paas.DeploymentLive:
				d.State = paas.DeploymentSucceeded
			}
		}
		r.ID, r.Number, r.AppID = id, int(id), a.ID
		s.releases = append(s.releases, r)
		s.deployments = append(s.deployments, paas.Deployment{
			ID: id, AppID: a.ID, AppName: app, State: paas.DeploymentRolling, ReleaseID: id, Release: int(id),
			Previous: a.LiveDeployment, RollingAt: s.now(),
		})
	})
	return id
}

func (s *memStore) change(app string, f func(*paas.App)) { s.commit(func() { f(s.app(app)) }) }

func (s *memStore) cancel(id int64) {
	s.commit(func() {
		if d := s.deployment(id); d.State == paas.DeploymentRolling {
			d.State = paas.DeploymentCanceled
		}
	})
}

func (s *memStore) get(id int64) paas.Deployment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.deployment(id)
}

func (s *memStore) Work(context.Context) ([]paas.AppWork, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing != nil {
		return nil, s.failing
	}
	var list []paas.AppWork
	for _, a := range s.apps {
		w := paas.AppWork{App: a}
		w.Live, w.LiveRelease = s.pair(a.LiveDeployment)
		for i := range s.deployments {
			d := s.deployments[i]
			if d.AppID == a.ID && (d.State == paas.DeploymentRolling || d.State == paas.DeploymentLive) {
				w.Active, w.ActiveRelease = s.pair(d.ID)
				w.Previous, w.PreviousRelease = s.pair(d.Previous)
			}
		}
		list = append(list, w)
	}
	return list, nil
}

func (s *memStore) Deployments(_ context.Context, app string, limit int) ([]paas.Deployment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []paas.Deployment
	for _, d := range slices.Backward(s.deployments) {
		if d.AppName == app && len(list) < limit {
			list = append(list, d)
		}
	}
	return list, nil
}

func (s *memStore) MoveDeployment(_ context.Context, id int64, from, to paas.DeploymentState, watch time.Time, f *paas.Failure) (moved bool, err error) {
	s.commit(func() {
		d := s.deployment(id)
		if moved = d.State == from; !moved {
			return
		}
		d.State, d.Failure = to, f
		a := s.app(d.AppName)
		switch {
		case to == paas.DeploymentLive:
			a.LiveDeployment, d.LiveAt, d.WatchUntil = id, s.now(), watch
		case from == paas.DeploymentLive && to == paas.DeploymentFailed && a.LiveDeployment == id:
			a.LiveDeployment = d.Previous
		}
	})
	return moved, nil
}

func (s *memStore) SetWaiting(_ context.Context, id int64, waiting string) error {
	s.commit(func() { s.deployment(id).Waiting = waiting })
	return nil
}

func (s *memStore) RemoveApp(_ context.Context, appID string) ([]string, error) {
	s.commit(func() {
		s.apps = slices.DeleteFunc(s.apps, func(a paas.App) bool { return a.ID == appID })
	})
	return []string{"archives/" + appID}, nil
}

func (s *memStore) ImagesInUse(context.Context) (map[string]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[string]bool{}
	for ref := range s.images {
		used[ref] = true
	}
	return used, nil
}

func (s *memStore) PruneReleases(context.Context, int) ([]string, error) { return nil, nil }

func (s *memStore) AddEvent(_ context.Context, e paas.Event) error {
	s.commit(func() { s.events = append(s.events, e) })
	return nil
}

func (s *memStore) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *memStore) Leader(context.Context, string, string, time.Duration) (bool, error) {
	return true, nil
}

func (s *memStore) app(name string) *paas.App {
	i := slices.IndexFunc(s.apps, func(a paas.App) bool { return a.Name == name })
	if i < 0 {
		return &paas.App{} // it was removed meanwhile
	}
	return &s.apps[i]
}

func (s *memStore) deployment(id int64) *paas.Deployment { return &s.deployments[id-1] }

func (s *memStore) pair(id int64) (*paas.Deployment, *paas.Release) {
	if id == 0 {
		return nil, nil
	}
	d, r := s.deployments[id-1], s.releases[id-1]
	return &d, &r
}
