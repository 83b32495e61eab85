package logfile

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// recheckLines is after how many lines cursors that had none are asked again, so
// that one instance that never stops writing does not hide the others.
const recheckLines = 4096

// Read implements paas.Logs. With Follow it returns nil when ctx ends.
func (d *Dir) Read(ctx context.Context, q paas.LogQuery, emit func(paas.LogLine) error) error {
	dir, err := d.appDir(q.App)
	if err != nil {
		return err
	}
	r := &reader{dir: d, app: dir, query: q, cursors: map[string]*cursor{}}
	defer r.close()
	if err := r.open(q.Tail); err != nil {
		return err
	}
	if err := r.tell(ctx, emit); err != nil {
		return err
	}
	for q.Follow {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d.poll):
		}
		if err := r.open(0); err != nil { // newcomers are told from their start
			return err
		}
		if err := r.drain(ctx, emit); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// reader merges the cursors of one query by time.
type reader struct {
	dir     *Dir
	app     string // folder
	query   paas.LogQuery
	cursors map[string]*cursor // by instance ID
}

// open adds cursors for instances that have none yet, tail lines before their end
// (0 = at their start, -1 = at their end), and drops those whose files are gone.
func (r *reader) open(tail int) error {
	all, err := r.dir.instances(r.app)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, in := range all {
		kept[in.name] = true
		if c := r.cursors[in.name]; c != nil {
			c.paths = in.paths
			continue
		}
		if !r.wants(in.name) {
			continue
		}
		c, err := newCursor(in, tail)
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned or rotated this moment; Follow finds it next time
		}
		if err != nil {
			return err
		}
		r.cursors[in.name] = c
	}
	for name, c := range r.cursors {
		if !kept[name] {
			c.close()
			delete(r.cursors, name)
		}
	}
	return nil
}

// wants matches the query's instance: empty, an ID, or "web.1".
func (r *reader) wants(name string) bool {
	q := r.query.Instance
	if q == "" || q == name {
		return true
	}
	i := strings.LastIndexByte(q, '.')
	if i < 0 {
		return false
	}
	slot, err := strconv.Atoi(q[i+1:])
	return err == nil && slot == slotOf(name)
}

// slotOf reads the slot out of <app>-<deployment>-<slot>-<attempt>; 0 if it is
// no such name.
func slotOf(name string) int {
	parts := strings.Split(name, "-")
	if len(parts) < 4 {
		return 0
	}
	n, _ := strconv.Atoi(parts[len(parts)-2])
	return n
}

// tell emits what is there now; with Tail only the last lines over all instances.
func (r *reader) tell(ctx context.Context, emit func(paas.LogLine) error) error {
	if r.query.Tail <= 0 {
		return r.drain(ctx, emit)
	}
	last := make([]paas.LogLine, 0, min(r.query.Tail, 1024))
	next := 0 // the oldest, once last is full
	err := r.drain(ctx, func(l paas.LogLine) error {
		if len(last) < r.query.Tail {
			last = append(last, l)
			return nil
		}
		last[next] = l
		next = (next + 1) % len(last)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range last {
		if err := emit(last[(next+i)%len(last)]); err != nil {
			return err
		}
	}
	return nil
}

// drain emits the oldest line of all cursors until none has any. A cursor at its
// end costs system calls to ask, and an app keeps the files of many instances
// that are gone: it is asked again only after recheckLines others.
func (r *reader) drain(ctx context.Context, emit func(paas.LogLine) error) error {
	var ready []*cursor
	for told := 0; ; told++ {
		if err := ctx.Err(); err != nil {
			if r.query.Follow {
				return nil
			}
			return err
		}
		if told%recheckLines == 0 {
			ready = slices.AppendSeq(ready[:0], maps.Values(r.cursors))
		}
		oldest, left, err := oldestOf(ready)
		if err != nil {
			return err
		}
		if oldest == nil {
			return nil
		}
		ready = left
		line := oldest.take()
		if line.At.Before(r.query.Since) {
			continue
		}
		if err := emit(line); err != nil {
			return err
		}
	}
}

// oldestOf finds the cursor whose next line is the oldest (nil: none has any) and
// keeps of ready those that have one; it reuses its array.
func oldestOf(ready []*cursor) (oldest *cursor, left []*cursor, err error) {
	left = ready[:0]
	for _, c := range ready {
		ok, err := c.peek()
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			continue
		}
		left = append(left, c)
		if oldest == nil || c.before(oldest) {
			oldest = c
		}
	}
	return oldest, left, nil
}

func (r *reader) close() {
	for _, c := range r.cursors {
		c.close()
	}
}
