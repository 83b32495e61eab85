package containerd

import (
	"context"
	"sync"
)

// locks keeps Start, Stop and Sweep of one instance apart. The zero value works.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed at unlock
}

// lock waits for id until ctx ends.
func (l *locks) lock(ctx context.Context, id string) (unlock func(), err error) {
	for {
		unlock, wait := l.try(id)
		if unlock != nil {
			return unlock, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try locks id, or returns what to wait for.
func (l *locks) try(id string) (unlock func(), wait <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.held[id]; c != nil {
		return nil, c
	}
	if l.held == nil {
		l.held = map[string]chan struct{}{}
	}
	c := make(chan struct{})
	l.held[id] = c
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, id)
		close(c)
	}, nil
}
