package logfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/slipway-paas/slipway/internal/paas"
)

// cursor reads the files of one instance from old to new and goes on when the
// newest grows or is rotated.
type cursor struct {
	name   string
	paths  []string // as listed last, oldest first
	header Header

	f    *os.File // the file being read
	buf  *bufio.Reader
	off  int64 // of the first byte that was not taken as a line
	next *paas.LogLine
}

// newCursor opens in, tail lines before the end (0 = start, -1 = end).
func newCursor(in instanceFiles, tail int) (*cursor, error) {
	c := &cursor{name: in.name, paths: in.paths, header: Header{Instance: in.name, Slot: slotOf(in.name)}}
	start, off := 0, int64(0)
	switch {
	case tail < 0:
		start, off = len(in.paths)-1, -1
	case tail > 0:
		var err error
		if start, off, err = tailStart(in.paths, tail); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(in.paths[start])
	if err != nil {
		return nil, fmt.Errorf("read log of %s: %w", in.name, err)
	}
	if off < 0 {
		if off, _, err = backwards(f, 0); err != nil {
			f.Close()
			return nil, err
		}
	}
	c.use(f)
	c.seek(off)
	return c, nil
}

// use begins with f, whose header says the slot and release.
func (c *cursor) use(f *os.File) {
	c.close()
	c.f, c.off = f, 0
	c.buf = bufio.NewReaderSize(f, 16<<10)
	line, err := c.buf.ReadSlice('\n')
	if err == nil {
		if h, ok := parseHeader(bytes.TrimSuffix(line, []byte{'\n'})); ok {
			c.header = h
		}
	}
	c.seek(0)
}

func (c *cursor) seek(off int64) {
	c.off = off
	c.f.Seek(off, io.SeekStart) // a regular file: cannot fail
	c.buf.Reset(c.f)
}

// peek reports whether there is a next line now.
func (c *cursor) peek() (bool, error) {
	for c.next == nil {
		line, err := c.buf.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			// Half a line is read again when it is whole: the writer may take it back.
			c.seek(c.off)
			moved, err := c.advance(len(line) > 0)
			if !moved || err != nil {
				return false, err
			}
			continue
		}
		if err != nil {
			return false, fmt.Errorf("read log of %s: %w", c.name, err)
		}
		c.off += int64(len(line))
		c.parse(line[:len(line)-1])
	}
	return true, nil
}

func (c *cursor) parse(line []byte) {
	if h, ok := parseHeader(line); ok {
		c.header = h
		return
	}
	at, stream, text, ok := parseLine(line)
	if !ok {
		return // not written by a sink; nothing can be said about it
	}
	name := map[byte]string{Stdout: "stdout", Stderr: "stderr"}[stream]
	if name == "" {
		name = "slipway"
	}
	c.next = &paas.LogLine{At: at, Instance: c.name, Slot: c.header.Slot, Release: c.header.Release, Stream: name, Text: string(text)}
}

func (c *cursor) take() paas.LogLine {
	l := *c.next
	c.next = nil
	return l
}

func (c *cursor) before(o *cursor) bool {
	if c.next.At.Equal(o.next.At) {
		return c.name < o.name
	}
	return c.next.At.Before(o.next.At)
}

// advance moves to the next newer file if this one is finished. The writer
// leaves a file before it is renamed, so one that is not the newest is finished
// once its end was seen after that.
func (c *cursor) advance(torn bool) (moved bool, err error) {
	here, err := c.f.Stat()
	if err != nil {
		return false, fmt.Errorf("read log of %s: %w", c.name, err)
	}
	newest := len(c.paths) - 1
	at := slices.IndexFunc(c.paths, func(p string) bool { return same(p, here) })
	if at == newest {
		return false, nil
	}
	if !torn && here.Size() > c.off {
		return true, nil // grew between the end seen and the look at the names
	}
	// Not found means that it was rotated away: all that is listed is newer.
	f, err := os.Open(c.paths[at+1])
	if err != nil {
		return false, nil // renamed this moment; the next listing shows it
	}
	c.use(f)
	return true, nil
}

func (c *cursor) close() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
}

func same(path string, info os.FileInfo) bool {
	st, err := os.Stat(path)
	return err == nil && os.SameFile(st, info)
}

// tailStart finds the file and offset where the last n lines begin.
func tailStart(paths []string, n int) (index int, off int64, err error) {
	for i := len(paths) - 1; i >= 0; i-- {
		f, err := os.Open(paths[i])
		if err != nil {
			if i == len(paths)-1 {
				return 0, 0, err
			}
			return i + 1, 0, nil // an old file was pruned: what is newer is all there is
		}
		off, found, err := backwards(f, n)
		f.Close()
		if err != nil {
			return 0, 0, err
		}
		if found >= n || i == 0 {
			return i, off, nil
		}
		n -= found
	}
	return 0, 0, nil
}

// backwards finds where the last n whole lines of f begin and how many there are.
func backwards(f *os.File, n int) (off int64, found int, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 64<<10)
	feeds := 0
	for end := size; end > 0; {
		start := max(0, end-int64(len(buf)))
		b := buf[:end-start]
		if _, err := f.ReadAt(b, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != '\n' {
				continue
			}
			if feeds++; feeds == n+1 {
				return start + int64(i) + 1, n, nil
			}
		}
		end = start
	}
	// The header line is no line of the app.
	return 0, max(0, feeds-1), nil
}
