package api

import (
	"context"
	"strings"
	"sync"

	"github.com/slipway-paas/slipway/internal/paas"
)

// archivePrefix begins the keys of archives, as Blobs names them.
const archivePrefix = "archives/sha256/"

// holds counts, per object, the uploads that rely on it but have not written
// their deployment yet. The same content is stored once, so a refused upload may
// remove its object only if no other one holds it: whoever holds it looks
// afterwards whether it is still there, and whoever removes it does so under mu.
type holds struct {
	mu sync.Mutex
	n  map[string]int
}

func (h *holds) hold(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n[key]++
}

func (h *holds) release(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n[key]--; h.n[key] == 0 {
		delete(h.n, key)
	}
}

// ifFree runs remove while nobody can take hold of key, unless somebody has.
func (h *holds) ifFree(key string, remove func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n[key] > 0 {
		return nil
	}
	return remove()
}

// discard removes the object of a refused upload unless something refers to it.
func (s *Server) discard(ctx context.Context, a paas.Archive) {
	if err := s.RemoveObject(ctx, a.Key); err != nil {
		s.Log.Warn("the archive of a refused upload was not removed", "key", a.Key, "err", err)
	}
}

// RemoveObject deletes an object that nothing needed when it was looked for.
// An archive stays if an upload of the same content is under way or has become a
// deployment meanwhile; that is no error. An absent object is none either.
func (s *Server) RemoveObject(ctx context.Context, key string) error {
	hex, isArchive := strings.CutPrefix(key, archivePrefix)
	if !isArchive {
		return s.Blobs.Delete(ctx, key)
	}
	return s.holds.ifFree(key, func() error {
		used, err := s.Store.ArchiveInUse(ctx, "sha256:"+hex)
		if used || err != nil {
			return err
		}
		return s.Blobs.Delete(ctx, key)
	})
}
