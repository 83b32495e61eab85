package logfile

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// maxPending bounds what waits for the disk. Beyond it lines are dropped and
	// counted: an app must never block on its own log.
	maxPending = 1 << 20
	// DefaultRate is what one instance may write per second before lines are
	// dropped, with as much again as a burst.
	DefaultRate = 10 << 20
)

// Writer turns the output of one instance into its log file. Write never waits
// for the disk; Run does the writing. Safe for concurrent use.
type Writer struct {
	out  *rotating
	rate int64
	now  func() time.Time
	wake chan struct{} // 1 deep: something is pending

	mu      sync.Mutex
	pending []byte
	spare   []byte // the other half of the double buffer
	partial [2]partialLine
	dropped drops
	shut    bool  // dropping until there is room for a while
	tokens  int64 // bytes that may still be written
	filled  time.Time
	closed  bool
}

type partialLine struct {
	text []byte
	cut  int64 // bytes beyond MaxLine that were left out
}

type drops struct {
	lines, bytes int64
	why          string
}

// NewWriter opens (or continues) the file at path, whose folder must exist.
// bytesPerSecond 0 means DefaultRate.
func NewWriter(path string, h Header, bytesPerSecond int64) *Writer {
	if bytesPerSecond == 0 {
		bytesPerSecond = DefaultRate
	}
	w := &Writer{
		out:  &rotating{path: path, header: h.append(nil), max: MaxFileBytes, keep: KeepFiles},
		rate: bytesPerSecond, now: time.Now, wake: make(chan struct{}, 1), tokens: 2 * bytesPerSecond,
	}
	w.filled = w.now()
	return w
}

// Write splits what stream (Stdout or Stderr) said into lines and queues them.
func (w *Writer) Write(stream byte, p []byte) {
	w.mu.Lock()
	now := w.now()
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.extend(stream, p)
			break
		}
		w.extend(stream, p[:i])
		w.endLine(now, stream)
		p = p[i+1:]
	}
	w.mu.Unlock()
	w.poke()
}

// Close ends lines that have no line feed yet and lets Run return once all is
// written.
func (w *Writer) Close() {
	w.mu.Lock()
	now := w.now()
	for _, s := range []byte{Stdout, Stderr} {
		if len(w.line(s).text) > 0 {
			w.endLine(now, s)
		}
	}
	w.closed = true
	w.mu.Unlock()
	w.poke()
}

// Run writes what is queued until Close. What the disk refuses is dropped and
// counted; the mark follows when there is room again.
func (w *Writer) Run() {
	defer w.out.close()
	for {
		<-w.wake
		for w.flush() {
		}
		w.mu.Lock()
		done := w.closed && len(w.pending) == 0
		w.mu.Unlock()
		if done {
			return
		}
	}
}

// flush writes one batch and reports whether there was any.
func (w *Writer) flush() bool {
	w.mu.Lock()
	w.markDrops(w.now())
	batch := w.pending
	w.pending = w.spare[:0]
	w.mu.Unlock()
	if len(batch) == 0 {
		w.giveBack(batch)
		return false
	}
	lost, why := w.out.write(batch)
	if len(lost) > 0 {
		w.mu.Lock()
		w.dropped.add(int64(bytes.Count(lost, []byte{'\n'})), int64(len(lost)), why)
		w.mu.Unlock()
	}
	w.giveBack(batch)
	return true
}

// giveBack keeps the batch's memory for the next one unless a burst made it big.
func (w *Writer) giveBack(batch []byte) {
	if cap(batch) > maxPending/4 {
		batch = nil
	}
	w.mu.Lock()
	w.spare = batch[:0]
	w.mu.Unlock()
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Writer) line(stream byte) *partialLine {
	if stream == Stderr {
		return &w.partial[1]
	}
	return &w.partial[0]
}

func (w *Writer) extend(stream byte, p []byte) {
	l := w.line(stream)
	if room := MaxLine - len(l.text); len(p) > room {
		l.cut += int64(len(p) - room)
		p = p[:room]
	}
	l.text = append(l.text, p...)
}

func (w *Writer) endLine(now time.Time, stream byte) {
	l := w.line(stream)
	w.queue(now, stream, l.text)
	if l.cut > 0 {
		w.queue(now, Mark, []byte("the line above was cut at 64 KiB, "+strconv.FormatInt(l.cut, 10)+" bytes left out"))
	}
	if l.text, l.cut = l.text[:0], 0; cap(l.text) > MaxLine/4 {
		l.text = nil // one long line is no reason to keep 64 KiB for ever
	}
}

func (w *Writer) queue(now time.Time, stream byte, text []byte) {
	size := int64(textStart + len(text) + 1)
	w.refill(now)
	// Once shut it stays so until there is room for a while: a mark at every other
	// line would itself fill the disk.
	if w.shut && w.tokens >= w.rate/4 && len(w.pending) < maxPending/2 {
		w.shut = false
	}
	switch {
	case w.shut:
		w.dropped.add(1, size, "")
		return
	case w.tokens < size:
		w.shut = true
		w.dropped.add(1, size, "more than "+strconv.FormatInt(w.rate>>20, 10)+" MiB per second")
		return
	case len(w.pending)+int(size) > maxPending:
		w.shut = true
		w.dropped.add(1, size, "the disk is too slow")
		return
	}
	w.tokens -= size
	w.markDrops(now)
	w.pending = appendLine(w.pending, now, stream, text)
}

func (w *Writer) refill(now time.Time) {
	gain := now.Sub(w.filled).Microseconds() * w.rate / 1e6
	if gain <= 0 {
		return
	}
	w.tokens, w.filled = min(w.tokens+gain, 2*w.rate), now
}

// markDrops tells in the log itself what is missing at this place.
func (w *Writer) markDrops(now time.Time) {
	d := w.dropped
	if d.lines == 0 || len(w.pending)+256 > maxPending {
		return
	}
	// While the disk refuses, the mark would be lost as well: wait for room.
	if w.out.failing() || w.shut && !w.closed {
		return
	}
	w.dropped = drops{}
	w.pending = appendLine(w.pending, now, Mark, []byte(strconv.FormatInt(d.lines, 10)+" lines ("+
		strconv.FormatInt(d.bytes, 10)+" bytes) were dropped here: "+d.why))
}

func (d *drops) add(lines, bytes int64, why string) {
	d.lines += lines
	d.bytes += bytes
	if why != "" {
		d.why = why
	}
}

// failure is the sentence of a refused write.
func failure(err error) string {
	if pe, ok := err.(*os.PathError); ok {
		err = pe.Err
	}
	return "writing the log failed: " + err.Error()
}
