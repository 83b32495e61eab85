package base

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// find returns the image if it is whole: a name whose content was removed is no
// image. A zero Image means absent.
func (b *Bases) find(ctx context.Context, ref string) (Image, error) {
	img, err := b.o.Containerd.GetImage(ctx, ref)
	if errdefs.IsNotFound(err) {
		return Image{}, nil
	}
	if err != nil {
		return Image{}, fmt.Errorf("look for %s: %w", ref, err)
	}
	manifest, err := images.Manifest(ctx, b.o.Containerd.ContentStore(), img.Target(), nil)
	if errdefs.IsNotFound(err) {
		return Image{}, nil
	}
	if err != nil {
		return Image{}, fmt.Errorf("look at %s: %w", ref, err)
	}
	for _, l := range append(manifest.Layers, manifest.Config) {
		if _, err := b.o.Containerd.ContentStore().Info(ctx, l.Digest); errdefs.IsNotFound(err) {
			return Image{}, nil
		}
	}
	return Image{Ref: ref, Digest: img.Target().Digest.String()}, nil
}

// load imports a tar as an image of one layer. It is atomic: the name appears
// last, and until then a lease keeps the content.
func (b *Bases) load(ctx context.Context, ref, tarFile string) (Image, error) {
	f, err := os.Open(tarFile)
	if err != nil {
		return Image{}, err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return Image{}, err
	}
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, h), Size: size}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Image{}, err
	}
	ctx, done, err := b.o.Containerd.WithLease(ctx)
	if err != nil {
		return Image{}, err
	}
	defer done(context.WithoutCancel(ctx))
	cs := b.o.Containerd.ContentStore()
	if err := content.WriteBlob(ctx, cs, "slipway-"+layer.Digest.Encoded(), f, layer); err != nil {
		return Image{}, err
	}
	created := time.Unix(epoch, 0).UTC()
	config, err := b.writeJSON(ctx, ocispec.MediaTypeImageConfig, ocispec.Image{
		Created:  &created,
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
		History:  []ocispec.History{{Created: &created, CreatedBy: "slipway base"}},
	})
	if err != nil {
		return Image{}, err
	}
	manifest, err := b.writeJSON(ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layer},
	}, content.WithLabels(map[string]string{
		"containerd.io/gc.ref.content.config": config.Digest.String(),
		"containerd.io/gc.ref.content.l.0":    layer.Digest.String(),
	}))
	if err != nil {
		return Image{}, err
	}
	return Image{Ref: ref, Digest: manifest.Digest.String()}, b.name(ctx, ref, manifest)
}

func (b *Bases) writeJSON(ctx context.Context, mediaType string, v any, opts ...content.Opt) (ocispec.Descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	return d, content.WriteBlob(ctx, b.o.Containerd.ContentStore(), "slipway-"+d.Digest.Encoded(), bytes.NewReader(text), d, opts...)
}

func (b *Bases) name(ctx context.Context, ref string, target ocispec.Descriptor) error {
	img := images.Image{Name: ref, Target: target, Labels: map[string]string{"slipway.base": "true"}}
	_, err := b.o.Containerd.ImageService().Create(ctx, img)
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		_, err = b.o.Containerd.ImageService().Update(ctx, img)
	}
	return err
}

// Tag gives an image of a build a second name, for a build that would make the
// same. It reports false when the image is not there, not whole, not unpacked, or
// is no longer the one with that digest.
func (b *Bases) Tag(ctx context.Context, from, wantDigest, to string) (bool, error) {
	img, err := b.find(ctx, from)
	if err != nil || img.Digest == "" || img.Digest != wantDigest {
		return false, err
	}
	old, err := b.o.Containerd.GetImage(ctx, from)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	unpacked, err := old.IsUnpacked(ctx, b.o.Snapshotter)
	if err != nil || !unpacked {
		return false, ignoreNotFound(err)
	}
	copied := images.Image{Name: to, Target: old.Target(), Labels: old.Labels()}
	_, err = b.o.Containerd.ImageService().Create(ctx, copied)
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		_, err = b.o.Containerd.ImageService().Update(ctx, copied)
	}
	return err == nil, err
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
