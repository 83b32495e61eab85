package logfile

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

// rotating is an append-only file that moves aside at max bytes. Used by one
// goroutine, but for failing.
type rotating struct {
	path   string
	header []byte
	max    int64
	keep   int

	f    *os.File
	size int64
	bad  atomic.Bool // the last write was refused
}

func (r *rotating) failing() bool { return r.bad.Load() }

// write appends whole lines and returns those that did not get in, with the
// reason. After a refusal the next write tries again.
func (r *rotating) write(p []byte) (lost []byte, why string) {
	for len(p) > 0 {
		if err := r.ready(); err != nil {
			return r.refuse(p, err)
		}
		n := chunk(p, r.max-r.size)
		done, err := r.f.Write(p[:n])
		if err != nil {
			// Take back the half line, so that the file stays whole lines.
			whole := bytes.LastIndexByte(p[:done], '\n') + 1
			r.size += int64(whole)
			r.f.Truncate(r.size) // nothing else can be done if this fails too
			return r.refuse(p[whole:], err)
		}
		r.size += int64(done)
		p = p[n:]
	}
	r.bad.Store(false)
	return nil, ""
}

func (r *rotating) refuse(p []byte, err error) ([]byte, string) {
	r.bad.Store(true)
	return p, failure(err)
}

// chunk is the length of as many whole lines of p as fit in room, at least one.
func chunk(p []byte, room int64) int {
	if int64(len(p)) <= room {
		return len(p)
	}
	if room > 0 {
		if i := bytes.LastIndexByte(p[:room], '\n'); i >= 0 {
			return i + 1
		}
	}
	return bytes.IndexByte(p, '\n') + 1
}

// ready makes sure that an open file with room is there. A file that Prune
// removed under us is made anew; a folder that Remove removed is not.
func (r *rotating) ready() error {
	if r.f != nil && r.size >= r.max {
		r.close()
		for i := r.keep - 2; i >= 0; i-- {
			os.Rename(r.numbered(i), r.numbered(i+1)) // a missing number is normal
		}
	}
	if r.f != nil && unlinked(r.f) {
		r.close()
	}
	if r.f != nil {
		return nil
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	r.f, r.size = f, st.Size()
	if r.size > 0 {
		return nil
	}
	n, err := f.Write(r.header)
	if err != nil {
		f.Truncate(0)
		r.close()
		return err
	}
	r.size = int64(n)
	return nil
}

func (r *rotating) numbered(i int) string {
	if i == 0 {
		return r.path
	}
	return r.path + "." + strconv.Itoa(i)
}

func (r *rotating) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

func unlinked(f *os.File) bool {
	var st syscall.Stat_t
	return syscall.Fstat(int(f.Fd()), &st) == nil && st.Nlink == 0
}
