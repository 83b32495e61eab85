package containerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// mark is what must be known of an instance when its task is gone, because a
// shim was killed or the machine was restarted. It is not synced: after a power
// cut no task runs, and an instance without a mark is simply made again.
type mark struct {
	StartedAt  time.Time `json:"startedAt"`
	ExitedAt   time.Time `json:"exitedAt,omitzero"`
	ExitCode   int       `json:"exitCode,omitempty"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
	PeakMemory int64     `json:"peakMemoryBytes,omitempty"`
}

// marks are the state.json files. The zero value with dir set works.
type marks struct {
	dir string
	mu  sync.Mutex // makes one of two observers of an exit the first
}

func (m *marks) folder(id string) string { return filepath.Join(m.dir, id) }
func (m *marks) file(id string) string   { return filepath.Join(m.dir, id, "state.json") }

// read returns nil if id never ran.
func (m *marks) read(id string) (*mark, error) {
	b, err := os.ReadFile(m.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state of %s: %w", id, err)
	}
	k := &mark{}
	if err := json.Unmarshal(b, k); err != nil {
		return nil, nil // torn by a power cut: as good as absent
	}
	return k, nil
}

func (m *marks) write(id string, k mark) error {
	b, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("write state of %s: %w", id, err)
	}
	tmp := m.file(id) + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write state of %s: %w", id, err)
	}
	if err := os.Rename(tmp, m.file(id)); err != nil {
		return fmt.Errorf("write state of %s: %w", id, err)
	}
	return nil
}

// exited records an exit once; whoever comes later gets what the first one saw.
func (m *marks) exited(id string, seen func() mark) (mark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, err := m.read(id)
	if err != nil {
		return mark{}, err
	}
	if k != nil && !k.ExitedAt.IsZero() {
		return *k, nil
	}
	now := seen()
	if k != nil {
		now.StartedAt = k.StartedAt
	}
	if err := m.write(id, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return mark{}, err // a folder that is gone means that Stop is about to finish
	}
	return now, nil
}
