package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// logPrefix begins the keys of finished builds' logs, see docs/contracts.md.
const logPrefix = "builds/"

// SweepObjects removes archives and build logs from before the time given that no
// row refers to: what an upload or a build left that was killed before it could
// write its row. The bucket must be this store's alone. A store without any app
// has more likely lost its memory: then nothing is touched.
func (s *Server) SweepObjects(ctx context.Context, before time.Time) (removed []string, err error) {
	apps, err := s.Store.Apps(ctx)
	if err != nil || len(apps) == 0 {
		return nil, err
	}
	var errs []error
	for prefix, lost := range map[string]func(context.Context, string) (bool, error){
		archivePrefix: s.archiveLost, logPrefix: s.logLost,
	} {
		list, err := s.Blobs.List(ctx, prefix)
		errs = append(errs, err)
		for _, o := range list {
			if !o.ModTime.Before(before) {
				continue
			}
			gone, err := lost(ctx, strings.TrimPrefix(o.Key, prefix))
			if gone && err == nil {
				err = s.RemoveObject(ctx, o.Key)
				removed = append(removed, o.Key)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("sweep %s: %w", o.Key, err))
			}
		}
	}
	return removed, errors.Join(errs...)
}

func (s *Server) archiveLost(ctx context.Context, hex string) (bool, error) {
	used, err := s.Store.ArchiveInUse(ctx, "sha256:"+hex)
	return !used, err
}

// logLost: a build that is not final may be about to record its log.
func (s *Server) logLost(ctx context.Context, name string) (bool, error) {
	id, err := strconv.ParseInt(strings.TrimSuffix(name, ".log"), 10, 64)
	if err != nil {
		return false, nil // not ours
	}
	b, err := s.Store.Build(ctx, id)
	if paas.CodeOf(err) == paas.CodeNotFound {
		return true, nil
	}
	return b.State.Final() && b.LogKey == "", err
}
