package store

import "context"

// ArchiveInUse implements paas.Store. A row lives as long as a build or a
// release refers to it; see tx.orphan.
func (s *Store) ArchiveInUse(ctx context.Context, digest string) (used bool, err error) {
	err = s.read(ctx, func(t *tx) error {
		row, err := find[archiveRow](t, "digest = ?", digest)
		used = row != nil
		return err
	})
	return used, err
}
