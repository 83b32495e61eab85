package network

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// addresses knows who holds which address and which ones rest, also after a
// restart.
type addresses struct {
	path   string
	subnet netip.Prefix
	rest   time.Duration
	now    func() time.Time

	mu   sync.Mutex
	next netip.Addr // where the search goes on, so that reuse comes as late as possible
	by   map[netip.Addr]holder
}

type holder struct {
	ID      string    `json:"id"`
	FreedAt time.Time `json:"freedAt,omitzero"` // zero while held
}

type addressFile struct {
	Subnet    netip.Prefix          `json:"subnet"` // for Down, which has no configuration
	Next      netip.Addr            `json:"next"`
	Addresses map[netip.Addr]holder `json:"addresses"`
}

// openAddresses reads path. A file that is missing or torn (it is not synced:
// after a power cut nothing holds an address) means that nothing is held.
func openAddresses(path string, subnet netip.Prefix, rest time.Duration, now func() time.Time) *addresses {
	a := &addresses{path: path, subnet: subnet, rest: rest, now: now, by: map[netip.Addr]holder{}}
	var f addressFile
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &f) == nil && f.Addresses != nil {
		a.next, a.by = f.Next, f.Addresses
	}
	return a
}

// take returns the address of id, a fresh one if it has none.
func (a *addresses) take(id string) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.find(id); ok {
		return at, nil
	}
	a.forgetRested()
	at, ok := a.free()
	if !ok {
		return netip.Addr{}, fmt.Errorf("%w in %s: %d are held or rest for %v after use", ErrNoAddress, a.subnet, len(a.by), a.rest)
	}
	a.by[at] = holder{ID: id}
	a.next = at.Next()
	if err := a.save(); err != nil {
		delete(a.by, at)
		return netip.Addr{}, err
	}
	return at, nil
}

// release lets the address of id rest. Absent: nil.
func (a *addresses) release(id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.find(id)
	if !ok {
		return nil
	}
	a.by[at] = holder{ID: id, FreedAt: a.now()}
	return a.save()
}

func (a *addresses) of(id string) (netip.Addr, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.find(id)
}

func (a *addresses) held() map[string]netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]netip.Addr{}
	for at, h := range a.by {
		if h.FreedAt.IsZero() {
			out[h.ID] = at
		}
	}
	return out
}

func (a *addresses) ids() []string { return slices.Sorted(maps.Keys(a.held())) }

// sharing returns another holder for which name gives the same as for id.
func (a *addresses) sharing(id string, name func(string) string) string {
	for other := range a.held() {
		if other != id && name(other) == name(id) {
			return other
		}
	}
	return ""
}

func (a *addresses) find(id string) (netip.Addr, bool) {
	for at, h := range a.by {
		if h.ID == id && h.FreedAt.IsZero() {
			return at, true
		}
	}
	return netip.Addr{}, false
}

// forgetRested drops what has rested. A clock set back must not make an address
// rest for ever, so a time in the future counts as now.
func (a *addresses) forgetRested() {
	now := a.now()
	for at, h := range a.by {
		if h.FreedAt.IsZero() {
			continue
		}
		if h.FreedAt.After(now) {
			a.by[at] = holder{ID: h.ID, FreedAt: now}
		} else if now.Sub(h.FreedAt) >= a.rest {
			delete(a.by, at)
		}
	}
}

// free finds an address from next on: neither the network, the gateway (its first)
// nor the broadcast address.
func (a *addresses) free() (netip.Addr, bool) {
	first := a.subnet.Addr().Next().Next()
	at := a.next
	if !at.IsValid() || !a.subnet.Contains(at) || at.Less(first) {
		at = first
	}
	for range 1 << (32 - a.subnet.Bits()) {
		if !a.subnet.Contains(at.Next()) { // at is the broadcast address
			at = first
		}
		if _, used := a.by[at]; !used {
			return at, true
		}
		at = at.Next()
	}
	return netip.Addr{}, false
}

// sync writes the file as it is known now.
func (a *addresses) sync() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.save()
}

func savedSubnet(path string) (netip.Prefix, bool) {
	var f addressFile
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &f) != nil {
		return netip.Prefix{}, false
	}
	return f.Subnet, f.Subnet.IsValid()
}

func (a *addresses) save() error {
	b, err := json.Marshal(addressFile{Subnet: a.subnet, Next: a.next, Addresses: a.by})
	if err != nil {
		return fmt.Errorf("save addresses: %w", err)
	}
	tmp := a.path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("save addresses: %w", err)
	}
	if err := os.Rename(tmp, a.path); err != nil {
		return fmt.Errorf("save addresses: %w", err)
	}
	return nil
}
