package blob

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	blockSize   = 1 << 20
	maxBlocks   = 32 // kept per open archive: 32 MiB
	maxRun      = 8  // blocks fetched by one request when reading goes forward
	fetchTime   = time.Minute
	wholeBlocks = 8 // archives of up to this many blocks are fetched by one request
)

// OpenArchive implements paas.Blobs. Reads go through a cache of 1 MiB blocks, so
// that a zip's directory and many small files cost few requests. ctx bounds
// opening only; Close ends reads that wait.
func (s *Store) OpenArchive(ctx context.Context, key string) (paas.ArchiveReader, error) {
	info, err := s.s3.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return nil, s.wrap(ctx, err, "open archive "+key)
	}
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	return &reader{
		size: info.Size, life: life, cancel: cancel, blocks: map[int64]*list.Element{}, order: list.New(),
		fetch: func(ctx context.Context, p []byte, off int64) error {
			opts := minio.GetObjectOptions{}
			if err := opts.SetRange(off, off+int64(len(p))-1); err != nil {
				return err
			}
			// The same object from first to last read.
			if err := opts.SetMatchETag(info.ETag); err != nil {
				return err
			}
			return s.readRange(ctx, key, opts, p)
		},
	}, nil
}

// readRange fills p, once more when the connection breaks in the middle.
func (s *Store) readRange(ctx context.Context, key string, opts minio.GetObjectOptions, p []byte) error {
	var err error
	for range 2 {
		var body io.ReadCloser
		if body, _, _, err = s.s3.GetObject(ctx, s.bucket, key, opts); err != nil {
			break // tried several times already
		}
		_, err = io.ReadFull(body, p)
		_ = body.Close() // read to its end, or given up
		if err == nil {
			return nil
		}
	}
	return s.wrap(ctx, err, "read archive "+key)
}

// VerifyArchive reads a whole archive and returns CodeInvalid if its content is
// not that of its key's digest.
func (s *Store) VerifyArchive(ctx context.Context, key string) error {
	body, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	defer body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, body); err != nil {
		return s.wrap(ctx, err, "verify archive "+key)
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), strings.TrimPrefix(key, archivePrefix); got != want {
		return paas.Errorf(paas.CodeInvalid, "the stored archive %s has the digest %s: it is damaged", key, got).WithHint("upload it again")
	}
	return nil
}

// block is a piece of the object. Its fetcher fills it and closes ready; data and
// err are read after that only.
type block struct {
	number int64
	ready  chan struct{}
	data   []byte
	err    error
}

// reader reads one object through a cache.
type reader struct {
	size  int64
	fetch func(ctx context.Context, p []byte, off int64) error
	// life ends with Close: ReadAt has no context of its own.
	life   context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex // guards what follows
	blocks map[int64]*list.Element
	order  *list.List // of *block, last used first
	next   int64      // the block behind the last fetched one
	run    int64      // blocks fetched last time, in one go
}

var _ paas.ArchiveReader = (*reader)(nil)

var errClosed = fmt.Errorf("archive reader: closed")

func (r *reader) Size() int64 { return r.size }

// Close ends all reads. It is safe to call twice.
func (r *reader) Close() error {
	r.cancel(errClosed)
	return nil
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("archive reader: negative offset %d", off)
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= r.size {
			return n, io.EOF
		}
		data, err := r.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data[at%blockSize:])
	}
	return n, nil
}

// block returns the content of a block, from the cache or the server.
func (r *reader) block(number int64) ([]byte, error) {
	if err := context.Cause(r.life); err != nil {
		return nil, err
	}
	r.mu.Lock()
	el, ok := r.blocks[number]
	if ok {
		r.order.MoveToFront(el)
		r.mu.Unlock()
		b := el.Value.(*block)
		<-b.ready
		return b.data, b.err
	}
	run := r.reserve(number)
	r.mu.Unlock()
	r.load(run)
	return run[0].data, run[0].err
}

// reserve puts blocks to be fetched into the cache, more when reading goes forward.
// The caller holds the lock and loads them.
func (r *reader) reserve(number int64) []*block {
	count := (r.size + blockSize - 1) / blockSize
	want := int64(1)
	if count <= wholeBlocks {
		want = count
	} else if number == r.next {
		want = min(max(1, 2*r.run), maxRun) // nothing has been fetched before the first read
	}
	var run []*block
	for i := number; i < min(number+want, count); i++ {
		if _, ok := r.blocks[i]; ok {
			break
		}
		b := &block{number: i, ready: make(chan struct{})}
		r.blocks[i] = r.order.PushFront(b)
		run = append(run, b)
	}
	r.next, r.run = number+int64(len(run)), int64(len(run))
	for r.order.Len() > maxBlocks {
		oldest := r.order.Back()
		delete(r.blocks, oldest.Value.(*block).number)
		r.order.Remove(oldest) // whoever waits for it holds it still
	}
	return run
}

// load fetches a run of blocks by one request and wakes those who wait.
func (r *reader) load(run []*block) {
	ctx, cancel := context.WithTimeout(r.life, fetchTime)
	defer cancel()
	off := run[0].number * blockSize
	end := min((run[len(run)-1].number+1)*blockSize, r.size)
	buf := make([]byte, end-off)
	err := r.fetch(ctx, buf, off)
	for i, b := range run {
		if err != nil {
			b.err = err
			r.forget(b)
		} else {
			b.data = buf[i*blockSize : min((i+1)*blockSize, len(buf))]
		}
		close(b.ready)
	}
}

// forget drops a block that could not be read: the next reader tries again.
func (r *reader) forget(b *block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if el, ok := r.blocks[b.number]; ok && el.Value == b {
		delete(r.blocks, b.number)
		r.order.Remove(el)
	}
}
