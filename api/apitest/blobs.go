package apitest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Blobs is an object store in memory.
type Blobs struct {
	mu      sync.Mutex
	objects map[string][]byte
	putErr  error
}

var _ paas.Blobs = (*Blobs)(nil)

// NewBlobs returns an empty store.
func NewBlobs() *Blobs { return &Blobs{objects: map[string][]byte{}} }

// FailPuts makes every following PutArchive fail; nil mends it.
func (b *Blobs) FailPuts(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putErr = err
}

// Keys lists what is stored.
func (b *Blobs) Keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := make([]string, 0, len(b.objects))
	for k := range b.objects {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (b *Blobs) PutArchive(_ context.Context, r io.Reader, size, maxBytes int64, want string) (paas.Archive, error) {
	b.mu.Lock()
	err := b.putErr
	b.mu.Unlock()
	if err != nil {
		return paas.Archive{}, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return paas.Archive{}, err
	}
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	switch {
	case int64(len(data)) > maxBytes:
		return paas.Archive{}, paas.Errorf(paas.CodeTooLarge, "the archive is larger than %d bytes", maxBytes)
	case size >= 0 && int64(len(data)) != size:
		return paas.Archive{}, paas.Errorf(paas.CodeInvalid, "got %d bytes of %d", len(data), size)
	case want != "" && want != digest:
		return paas.Archive{}, paas.Errorf(paas.CodeInvalid, "the archive is %s, not %s", digest, want)
	}
	key := "archives/sha256/" + digest[7:] // as internal/blob names it
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = data
	return paas.Archive{Digest: digest, SizeBytes: int64(len(data)), Key: key, CreatedAt: time.Now()}, nil
}

func (b *Blobs) OpenArchive(_ context.Context, key string) (paas.ArchiveReader, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.objects[key]
	if !ok {
		return nil, paas.Errorf(paas.CodeNotFound, "there is no object %s", key)
	}
	return reader{bytes.NewReader(data)}, nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

func (b *Blobs) Put(_ context.Context, key string, r io.Reader, _ int64) error {
	data, err := io.ReadAll(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = data
	return err
}

func (b *Blobs) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := b.OpenArchive(ctx, key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(r, 0, r.Size())), nil
}

func (b *Blobs) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
	return nil
}

func (b *Blobs) List(_ context.Context, prefix string) (list []paas.BlobInfo, err error) {
	for _, k := range b.Keys() {
		if strings.HasPrefix(k, prefix) {
			list = append(list, paas.BlobInfo{Key: k})
		}
	}
	return list, nil
}

func (b *Blobs) Sweep(context.Context, time.Time) error { return errors.ErrUnsupported }

// Buffer is a log that may be written and read at once.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
