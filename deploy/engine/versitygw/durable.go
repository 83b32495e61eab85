package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3response"
)

// durable is the posix backend with each acknowledged write on disk first. The
// data is synced before its name appears, so that an overwritten object is
// never replaced by an empty one; then its attributes and every folder up to the root,
// since a name lives in its folder.
type durable struct {
	*posix.Posix
	root string
}

var _ backend.Backend = (*durable)(nil)

func (d *durable) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	if err := d.Posix.CreateBucket(ctx, in, acl); err != nil {
		return err
	}
	return d.sync(deref(in.Bucket))
}

func (d *durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	out, err := d.PutObjectWithPostFunc(ctx, in, (*os.File).Sync)
	if err != nil {
		return out, err
	}
	return out, d.sync(deref(in.Bucket), deref(in.Key))
}

// UploadPart syncs each part, so that completing a large upload need not write
// it all at once.
func (d *durable) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	return d.UploadPartWithPostFunc(ctx, in, (*os.File).Sync)
}

func (d *durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	out, version, err := d.Posix.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return out, version, err
	}
	return out, version, d.sync(deref(in.Bucket), deref(in.Key))
}

func (d *durable) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	out, err := d.Posix.CopyObject(ctx, in)
	if err != nil {
		return out, err
	}
	return out, d.sync(deref(in.Bucket), deref(in.Key))
}

// sync writes the named file or folder and the folders above it, up to the
// root, to disk. A file removed meanwhile by another request needs no sync.
func (d *durable) sync(elem ...string) error {
	path := filepath.Join(append([]string{d.root}, elem...)...)
	root := filepath.Clean(d.root)
	for {
		if err := syncPath(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if path == root || path == filepath.Dir(path) {
			return nil
		}
		path = filepath.Dir(path)
	}
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
