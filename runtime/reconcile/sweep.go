package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	sweepGrace = 60 * time.Second // younger left-overs may be somebody's work
	blobGrace  = time.Hour        // uploads may take long
	sweepLimit = 2 * time.Minute
)

// sweep removes what belongs to nothing, under the lease.
func (l *Loop) sweep(ctx context.Context) {
	suspects := map[string]bool{} // images that nothing used at the last sweep
	for sleep(ctx, l.opts.SweepEvery) {
		if l.leading.Load() {
			suspects = l.sweepOnce(ctx, suspects)
		}
	}
}

// sweepOnce does one round; each part is tried though another failed.
func (l *Loop) sweepOnce(ctx context.Context, suspects map[string]bool) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	removed, err := l.opts.Driver.Sweep(ctx, sweepGrace)
	if len(removed) > 0 {
		l.opts.Log.Info("left-overs removed", "count", len(removed), "what", removed)
	}
	keys, pruneErr := l.opts.Store.PruneReleases(ctx, l.opts.KeepReleases)
	l.deleteBlobs(ctx, keys)
	suspects, imageErr := l.sweepImagesIfSane(ctx, suspects)
	blobErr := l.opts.Blobs.Sweep(ctx, time.Now().Add(-blobGrace))
	if err := errors.Join(err, pruneErr, imageErr, blobErr); err != nil && ctx.Err() == nil {
		l.opts.Log.Warn("sweep not complete, it goes on next time", "err", err)
	}
	return suspects
}

// sweepImagesIfSane leaves all images alone while instances run and the store has
// no app: that store has lost its memory (see batch.garbage), and whoever gives it
// back needs the images.
func (l *Loop) sweepImagesIfSane(ctx context.Context, suspects map[string]bool) (map[string]bool, error) {
	work, err := l.opts.Store.Work(ctx)
	if err != nil {
		return nil, fmt.Errorf("read apps: %w", err)
	}
	if len(work) == 0 && !l.opts.ConfirmUnknown {
		list, err := l.opts.Driver.List(ctx)
		if err != nil || len(list) > 0 {
			return nil, err
		}
	}
	return l.sweepImages(ctx, suspects)
}

// sweepImages removes images that neither a kept release nor an unfinished build
// uses. An image must be unused at two sweeps in a row: one that a build has just
// exported may not be recorded yet.
func (l *Loop) sweepImages(ctx context.Context, suspects map[string]bool) (map[string]bool, error) {
	images, err := l.opts.Driver.Images(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	// Read after the listing: whatever was listed and is in use is found in use.
	used, err := l.opts.Store.ImagesInUse(ctx)
	if err != nil {
		return nil, fmt.Errorf("read images in use: %w", err)
	}
	next := map[string]bool{}
	var errs []error
	for _, ref := range images {
		switch {
		case used[ref]:
		case !suspects[ref]:
			next[ref] = true
		default:
			if err := l.opts.Driver.RemoveImage(ctx, ref); err != nil {
				errs = append(errs, fmt.Errorf("remove image %s: %w", ref, err))
				next[ref] = true
				continue
			}
			l.opts.Log.Info("image removed", "image", ref)
		}
	}
	return next, errors.Join(errs...)
}
