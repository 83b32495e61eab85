package builder

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// maxLogBytes is where a build log is cut, visibly.
const maxLogBytes = 16 << 20

// logReserve keeps room behind the cut for the lines that say how it ended.
const logReserve = 64 << 10

// logWriter appends JSON lines to a build's log. It is safe for concurrent use.
type logWriter struct {
	path string

	mu   sync.Mutex
	f    *os.File // nil after close
	size int64
	cut  bool
	err  error // the first
}

func logPath(dir string, id int64) string { return filepath.Join(dir, fmt.Sprintf("%d.log", id)) }

// openLog continues the log of an earlier attempt if there is one.
func openLog(dir string, id int64) (*logWriter, error) {
	path := logPath(dir, id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	l := &logWriter{path: path, f: f, size: info.Size()}
	last := make([]byte, 1)
	if l.size > 0 {
		if _, err := f.ReadAt(last, l.size-1); err == nil && last[0] != '\n' {
			l.write([]byte("\n")) // the line that a kill cut off
		}
	}
	return l, nil
}

// say adds a line. Errors show at close: a full disk must not end a build.
func (l *logWriter) say(step, text string) {
	line, err := json.Marshal(paas.BuildLine{At: time.Now().UTC(), Step: step, Text: text})
	if err != nil {
		return // a BuildLine always encodes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	room := l.size+int64(len(line)) < maxLogBytes
	ours := step == logSlipway && l.size+int64(len(line)) < maxLogBytes+logReserve
	if !room && !ours {
		if !l.cut {
			l.cut = true
			mark, _ := json.Marshal(paas.BuildLine{At: time.Now().UTC(), Step: logSlipway, Text: fmt.Sprintf("… the log is cut here: more than %d MiB", maxLogBytes>>20)})
			l.write(append(mark, '\n'))
		}
		return
	}
	l.write(append(line, '\n'))
}

func (l *logWriter) write(b []byte) {
	if l.f == nil {
		return
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	if err != nil && l.err == nil {
		l.err = err
	}
}

// close ends writing and returns the first error; later calls return the same.
func (l *logWriter) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		if err := l.f.Close(); err != nil && l.err == nil {
			l.err = err
		}
		l.f = nil
	}
	return l.err
}

// remove deletes the local file once the object has it. A leftover is removed by
// the next start.
func (l *logWriter) remove() { _ = os.Remove(l.path) }
