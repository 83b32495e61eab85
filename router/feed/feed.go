// Package feed is the publishing side of the router stream: it keeps the newest
// table, hands it to every router that asks and knows what each router did with
// it. It implements paas.Router, keeps everything in memory (a restarted server
// publishes anew under a new epoch, routers serve their saved table meanwhile)
// and imports internal/paas only. The stream's format is in docs/contracts.md.
//
// Start reading at Feed, then http.go.
package feed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	// DefaultGoneAfter is how long a router holds its lease after a report.
	DefaultGoneAfter = 10 * time.Second
	// DefaultHeartbeat is the silence after which a stream says that it is alive.
	DefaultHeartbeat = time.Second
	// forgetAfter bounds the list of routers that were seen once.
	forgetAfter = time.Hour
)

// Options of a Feed. The zero value works.
type Options struct {
	GoneAfter time.Duration // 0 means DefaultGoneAfter
	Heartbeat time.Duration // 0 means DefaultHeartbeat
	// Expect names the routers that ought to exist. After a start nothing counts as
	// acknowledged until each of them has reported or GoneAfter has passed, because
	// a router that has not come back yet may still serve an older table.
	Expect []string
	Log    *slog.Logger     // nil discards
	Now    func() time.Time // nil means time.Now
}

// Feed is safe for concurrent use.
type Feed struct {
	opts    Options
	epoch   string
	started time.Time

	mu        sync.Mutex
	table     paas.Table
	content   string        // of table.Apps, to see whether a Publish changes anything
	line      []byte        // the stream's line for table; nil before the first Publish
	published chan struct{} // closed at the next Publish that changes something
	changed   chan struct{} // closed at the next report that changes something
	routers   map[string]*paas.SeenRouter
	boots     map[string]time.Time // every boot that was seen, by router/boot
}

var _ paas.Router = (*Feed)(nil)

// New returns a Feed with a fresh epoch and no table.
func New(o Options) *Feed {
	if o.GoneAfter == 0 {
		o.GoneAfter = DefaultGoneAfter
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var epoch [8]byte
	_, _ = rand.Read(epoch[:]) // crypto/rand.Read never fails since Go 1.24
	return &Feed{
		opts: o, epoch: hex.EncodeToString(epoch[:]), started: o.Now(),
		published: make(chan struct{}), changed: make(chan struct{}),
		routers: map[string]*paas.SeenRouter{}, boots: map[string]time.Time{},
	}
}

// Publish makes apps the newest table, sorted by App, and returns its version.
// The same content again returns the version that holds it already.
func (f *Feed) Publish(_ context.Context, apps []paas.RouteTable) (uint64, error) {
	sorted := slices.Clone(apps)
	slices.SortFunc(sorted, func(a, b paas.RouteTable) int { return strings.Compare(a.App, b.App) })
	content, err := json.Marshal(sorted)
	if err != nil {
		return 0, fmt.Errorf("encode table of %d apps: %w", len(apps), err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.line != nil && f.content == string(content) {
		return f.table.Version, nil
	}
	// Decoding the encoded form detaches the table from the caller's slices.
	var own []paas.RouteTable
	if err := json.Unmarshal(content, &own); err != nil {
		return 0, fmt.Errorf("decode table of %d apps: %w", len(apps), err)
	}
	next := paas.Table{Epoch: f.epoch, Version: f.table.Version + 1, Apps: own}
	line, err := json.Marshal(message{Table: &next})
	if err != nil {
		return 0, fmt.Errorf("encode table version %d: %w", next.Version, err)
	}
	f.table, f.content, f.line = next, string(content), append(line, '\n')
	close(f.published)
	f.published = make(chan struct{})
	return next.Version, nil
}

// Table returns the newest table; its Version is 0 before the first Publish.
func (f *Feed) Table() paas.Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table
}

// Acked reports whether every live router has applied version or a newer one of
// this epoch. A router that serves an older epoch is live and has not. With no
// live router it turns true GoneAfter after the last one was seen (or after the
// start): until then one may exist that is merely silent.
func (f *Feed) Acked(version uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.opts.Now()
	live := 0
	for _, r := range f.routers {
		if !f.isLive(r, now) {
			continue
		}
		live++
		if r.Epoch != f.epoch || r.Version < version {
			return false
		}
	}
	if version > f.table.Version {
		return false
	}
	if now.Sub(f.started) >= f.opts.GoneAfter {
		return true
	}
	return live > 0 && f.expectedSeen()
}

// InFlight sums what the live routers reported for an instance.
func (f *Feed) InFlight(instance string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, n := f.opts.Now(), 0
	for _, r := range f.routers {
		if f.isLive(r, now) {
			n += r.InFlight[instance]
		}
	}
	return n
}

// Reports lists the routers that reported within the last hour, sorted by name.
func (f *Feed) Reports() []paas.SeenRouter {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.opts.Now()
	list := make([]paas.SeenRouter, 0, len(f.routers))
	for _, r := range f.routers {
		c := *r
		c.Live = f.isLive(r, now)
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b paas.SeenRouter) int {
		return strings.Compare(a.Router+"/"+a.Boot, b.Router+"/"+b.Boot)
	})
	return list
}

// Changed returns a channel that is closed at the next report that changes
// something. Take it before reading, or a change is missed.
func (f *Feed) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// record takes a report over and wakes whoever waits for a change.
func (f *Feed) record(r paas.RouterReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, key := f.opts.Now(), r.Router+"/"+r.Boot
	if _, known := f.boots[key]; !known {
		f.opts.Log.Info("router connected", "router", r.Router, "boot", r.Boot, "pid", r.PID, "addr", r.Addr)
		// A new boot of a name normally means that the old process is dead: waiting out
		// its lease would hold up deployments. If it does live (two during an
		// upgrade), its next report within a second brings it back.
		for k, old := range f.routers {
			if old.Router == r.Router {
				delete(f.routers, k)
			}
		}
	}
	f.boots[key] = now
	old := f.routers[key]
	f.routers[key] = &paas.SeenRouter{RouterReport: r, SeenAt: now, Live: true}
	f.forget(now)
	if old == nil || !f.isLive(old, now) || differs(old.RouterReport, r) {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

func (f *Feed) isLive(r *paas.SeenRouter, now time.Time) bool {
	return now.Sub(r.SeenAt) < f.opts.GoneAfter
}

// expectedSeen reports whether each expected router has reported since the start.
func (f *Feed) expectedSeen() bool {
	for _, name := range f.opts.Expect {
		found := false
		for _, r := range f.routers {
			found = found || r.Router == name
		}
		if !found {
			return false
		}
	}
	return true
}

func (f *Feed) forget(now time.Time) {
	for k, seen := range f.boots {
		if now.Sub(seen) > forgetAfter {
			delete(f.boots, k)
			delete(f.routers, k)
		}
	}
}

// differs reports whether anything changed that a waiter could wait for.
func differs(a, b paas.RouterReport) bool {
	if a.Epoch != b.Epoch || a.Version != b.Version || len(a.Unhealthy) != len(b.Unhealthy) {
		return true
	}
	for instance, n := range b.InFlight {
		if a.InFlight[instance] != n {
			return true
		}
	}
	for instance, n := range a.InFlight {
		if b.InFlight[instance] != n {
			return true
		}
	}
	return false
}
