package supervise

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// maxLine cuts lines in memory; the log file keeps them whole.
const maxLine = 4096

// tail follows a child's log file: it keeps the last lines, hands each line to
// emit and rotates the file. poll and lines may be called by any goroutine.
type tail struct {
	path     string
	maxBytes int64
	emit     func(line string)

	pollMu  sync.Mutex
	offset  int64  // guarded by pollMu
	partial []byte // guarded by pollMu: a line without its end yet

	mu   sync.Mutex
	ring []string // guarded by mu, oldest first
	keep int
}

// newTail starts at the file's end, with what stands before it as the first
// last lines: those were emitted by an earlier server.
func newTail(path string, maxBytes int64, keep int, emit func(string)) *tail {
	t := &tail{path: path, maxBytes: maxBytes, keep: keep, emit: func(string) {}}
	if info, err := os.Stat(path); err == nil {
		t.offset = max(0, info.Size()-int64(keep)*256)
		t.poll()
	}
	t.partial = nil
	t.emit = emit
	return t
}

func (t *tail) lines() []string {
	t.poll()
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.ring...)
}

// poll takes in what was appended since the last call. A file that is missing
// or cannot be read has no lines: the child's life does not hang on its log.
func (t *tail) poll() {
	t.pollMu.Lock()
	defer t.pollMu.Unlock()
	f, err := os.OpenFile(t.path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return
	}
	if info.Size() < t.offset { // somebody truncated it
		t.offset, t.partial = 0, nil
	}
	if info.Size() == t.offset {
		return
	}
	t.read(f)
	if t.offset > t.maxBytes {
		t.rotate(f)
	}
}

func (t *tail) read(f *os.File) {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.ReadAt(buf, t.offset)
		t.offset += int64(n)
		t.take(buf[:n])
		if err != nil || n == 0 {
			return
		}
	}
}

func (t *tail) take(data []byte) {
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			room := max(0, maxLine-len(t.partial))
			t.partial = append(t.partial, data[:min(room, len(data))]...)
			return
		}
		line := append(t.partial, data[:min(i, maxLine)]...)
		t.partial, data = nil, data[i+1:]
		if line = bytes.TrimRight(line, "\r"); len(line) > 0 {
			t.add(string(line))
		}
	}
}

func (t *tail) add(line string) {
	t.mu.Lock()
	t.ring = append(t.ring, line)
	if len(t.ring) > t.keep {
		t.ring = append([]string(nil), t.ring[len(t.ring)-t.keep:]...)
	}
	t.mu.Unlock()
	t.emit(line)
}

// rotate copies the log aside and empties it. The child holds the file open for
// appending and goes on at its new end; a line written between copy and
// truncation is lost from the old file, having been emitted or not: accepted,
// since asking every daemon to reopen its log is not possible.
func (t *tail) rotate(f *os.File) {
	old, err := os.OpenFile(t.path+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	defer old.Close()
	if _, err := io.Copy(old, io.NewSectionReader(f, 0, t.offset)); err != nil {
		return
	}
	t.read(f)
	if f.Truncate(0) == nil {
		t.offset = 0
	}
}
