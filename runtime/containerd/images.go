package containerd

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/slipway-paas/slipway/runtime/driver"
)

// buildRef is what paas.ImageRef gives; bases and the builder's own images have
// other names.
var buildRef = regexp.MustCompile(`^slipway\.local/a[a-z0-9]+:b[0-9]+$`)

// layers remembers the top layer of each image by its digest, which never
// changes; reading it anew takes four calls. The zero value works.
type layers struct {
	mu  sync.Mutex
	top map[digest.Digest]string
}

func (l *layers) get(d digest.Digest) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.top[d]
}

func (l *layers) put(d digest.Digest, top string) {
	const enough = 1000 // images; beyond it begin anew
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.top == nil || len(l.top) > enough {
		l.top = map[digest.Digest]string{}
	}
	l.top[d] = top
}

// rootFS returns the name of the snapshot that holds the image's files.
func (d *Driver) rootFS(ctx context.Context, ref string) (string, error) {
	img, err := d.image(ctx, ref)
	if err != nil {
		return "", err
	}
	if top := d.images.get(img.Target.Digest); top != "" {
		return top, nil
	}
	ids, err := client.NewImage(d.client, img).RootFS(ctx)
	if err != nil {
		return "", fmt.Errorf("read image %s: %w", ref, err)
	}
	top := identity.ChainID(ids).String()
	d.images.put(img.Target.Digest, top)
	return top, nil
}

func (d *Driver) image(ctx context.Context, ref string) (images.Image, error) {
	img, err := d.client.ImageService().Get(ctx, ref)
	if errdefs.IsNotFound(err) {
		return img, fmt.Errorf("%w: %s", driver.ErrNoImage, ref)
	}
	return img, err
}

func (d *Driver) unpack(ctx context.Context, ref string) error {
	img, err := d.image(ctx, ref)
	if err != nil {
		return err
	}
	if err := client.NewImage(d.client, img).Unpack(ctx, snapshotter); err != nil {
		return fmt.Errorf("unpack image %s: %w", ref, err)
	}
	return nil
}

// RemoveImage implements driver.Driver. It returns after containerd has collected
// what nothing else uses.
func (d *Driver) RemoveImage(ctx context.Context, ref string) error {
	err := d.client.ImageService().Delete(inNamespace(ctx), ref, images.SynchronousDelete())
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %s: %w", ref, mapped(err))
	}
	return nil
}

// Images implements driver.Driver.
func (d *Driver) Images(ctx context.Context) ([]string, error) {
	all, err := d.client.ImageService().List(inNamespace(ctx))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", mapped(err))
	}
	var refs []string
	for _, img := range all {
		if buildRef.MatchString(img.Name) {
			refs = append(refs, img.Name)
		}
	}
	slices.Sort(refs)
	return refs, nil
}
