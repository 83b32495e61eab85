package builder

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Intervals of following a log.
const (
	tailInterval  = 150 * time.Millisecond
	stateInterval = time.Second
)

// Logs reads build logs: from the local file while there is one, else from the
// object store. It needs no Worker in its process.
type Logs struct {
	Dir   string // DATA/logs/builds
	Store paas.Store
	Blobs paas.Blobs
}

var _ paas.BuildLogs = (*Logs)(nil)

// Read implements paas.BuildLogs.
func (l *Logs) Read(ctx context.Context, b paas.Build, skip int, follow bool, emit func(paas.BuildLine) error) error {
	out := &lineReader{skip: skip, emit: emit}
	for {
		f, err := os.Open(logPath(l.Dir, b.ID))
		if err == nil {
			defer f.Close()
			return l.tail(ctx, f, b.ID, follow, out)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		now, err := l.Store.Build(ctx, b.ID)
		if err != nil {
			return err
		}
		switch {
		case now.LogKey != "":
			return l.finished(ctx, now.LogKey, out)
		case now.State.Final() || !follow:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.Store.Changed():
		case <-time.After(stateInterval):
		}
	}
}

func (l *Logs) finished(ctx context.Context, key string, out *lineReader) error {
	r, err := l.Blobs.Get(ctx, key)
	if err != nil {
		return err
	}
	defer r.Close()
	return out.drain(r)
}

// tail reads the growing file to the end; the end is when the build is final and
// nothing is left to read.
func (l *Logs) tail(ctx context.Context, f *os.File, id int64, follow bool, out *lineReader) error {
	final, asked := false, time.Time{}
	for {
		changed := l.Store.Changed() // taken before the look, so that no change falls between
		if err := out.drain(f); err != nil || !follow || final {
			return err
		}
		if time.Since(asked) > stateInterval {
			b, err := l.Store.Build(ctx, id)
			if err != nil && paas.CodeOf(err) != paas.CodeNotFound {
				return err
			}
			final, asked = err != nil || b.State.Final(), time.Now()
			if final {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed: // most likely this build's end: somebody waits for it
			asked = time.Time{}
		case <-time.After(tailInterval):
		}
	}
}

// lineReader turns bytes into lines; one cut off by a kill is left out.
type lineReader struct {
	skip int
	emit func(paas.BuildLine) error
	part []byte
}

func (r *lineReader) drain(from io.Reader) error {
	br := bufio.NewReader(from)
	for {
		chunk, err := br.ReadBytes('\n')
		r.part = append(r.part, chunk...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line := bytes.TrimSpace(r.part)
		r.part = nil
		var bl paas.BuildLine
		if len(line) == 0 || json.Unmarshal(line, &bl) != nil {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		if err := r.emit(bl); err != nil {
			return err
		}
	}
}
