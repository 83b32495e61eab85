// Package blob keeps archives, logs and backups in an S3 bucket with minio-go.
//
// Store implements paas.Blobs. Archives lie under archives/sha256/<hex> and are
// written once per content; uploads too large for memory go through uploads/ first
// (upload.go) and are read back by cached ranges (reader.go). What a killed process
// leaves under uploads/ is removed by Sweep. Start with New.
//
// It imports internal/paas and minio-go, and nothing else of Slipway.
package blob

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	// partSize is S3's smallest part; one buffer of it is held per upload.
	partSize = 5 << 20
	// maxUploads bounds the buffers: 48 × 5 MiB. Later uploads wait for slotWait.
	maxUploads = 48
	slotWait   = 15 * time.Second
	// Waits between tries grow from 0.2 to 1 s with jitter: together they outlast a
	// restart of the gateway.
	maxTries = 6
	// cleanupTime bounds the removal of leftovers after a failure.
	cleanupTime = 10 * time.Second
)

// Options say where the bucket is.
type Options struct {
	Endpoint  string // host:port, required
	AccessKey string // required
	SecretKey string // required
	Bucket    string // required
	Region    string // default "us-east-1"
	Secure    bool   // TLS
	RootCAs   *x509.CertPool
}

// Validate reports the first missing field.
func (o Options) Validate() error {
	for _, f := range []struct{ name, value string }{
		{"endpoint", o.Endpoint}, {"access key", o.AccessKey}, {"secret key", o.SecretKey}, {"bucket", o.Bucket},
	} {
		if f.value == "" {
			return fmt.Errorf("object storage: no %s given", f.name)
		}
	}
	return nil
}

// Store is a bucket. It is safe for concurrent use.
type Store struct {
	s3     *minio.Core
	bucket string
	region string
	slots  chan struct{}
}

var _ paas.Blobs = (*Store)(nil)

// New returns a store; it does not connect. Call EnsureBucket before the first use.
func New(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	core, err := minio.NewCore(o.Endpoint, &minio.Options{
		Creds:      credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""),
		Secure:     o.Secure,
		Region:     o.Region, // given: saves a look-up per process and works while the server is down
		Transport:  transport(o.RootCAs),
		MaxRetries: maxTries,
	})
	if err != nil {
		return nil, fmt.Errorf("object storage at %s: %w", o.Endpoint, err)
	}
	return &Store{s3: core, bucket: o.Bucket, region: o.Region, slots: make(chan struct{}, maxUploads)}, nil
}

// transport never asks a proxy: object storage is ours, on this machine or beside it.
func transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		DisableCompression:    true, // objects are bytes; never unpack them on the way
	}
}

// EnsureBucket makes the bucket; one that is there is kept.
func (s *Store) EnsureBucket(ctx context.Context) error {
	ok, err := s.s3.BucketExists(ctx, s.bucket)
	if err == nil && !ok {
		err = s.s3.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{Region: s.region})
		if code := minio.ToErrorResponse(err).Code; code == "BucketAlreadyOwnedByYou" || code == "BucketAlreadyExists" {
			err = nil
		}
	}
	return s.wrap(ctx, err, "make bucket "+s.bucket)
}

// Put stores r under key and replaces what is there; size is its length or -1.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if size >= 0 && size <= partSize {
		// From memory it can be sent again when the connection breaks.
		buf := make([]byte, size)
		if _, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("store %s: read content: %w", key, err)
		}
		r = bytes.NewReader(buf)
	}
	_, err := s.s3.Client.PutObject(ctx, s.bucket, key, r, size, minio.PutObjectOptions{PartSize: partSize})
	return s.wrap(ctx, err, "store "+key)
}

// Get opens an object from its first byte. CodeNotFound if it is absent.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	body, _, _, err := s.s3.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.wrap(ctx, err, "read "+key)
	}
	return body, nil
}

// Delete removes an object; an absent one is nil.
func (s *Store) Delete(ctx context.Context, key string) error {
	err := s.wrap(ctx, s.s3.RemoveObject(ctx, s.bucket, key, minio.RemoveObjectOptions{}), "delete "+key)
	if paas.CodeOf(err) == paas.CodeNotFound {
		return nil
	}
	return err
}

// List returns the objects whose keys begin with prefix, sorted by key.
func (s *Store) List(ctx context.Context, prefix string) ([]paas.BlobInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the lister when we return early
	var list []paas.BlobInfo
	for o := range s.s3.Client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, s.wrap(ctx, o.Err, "list "+prefix)
		}
		list = append(list, paas.BlobInfo{Key: o.Key, SizeBytes: o.Size, ModTime: o.LastModified})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Key < list[j].Key })
	return list, nil
}

// storageFull are the codes by which servers say that their disk is full; without
// one of them the status 507 or the system's own words tell.
var storageFull = map[string]bool{
	"XMinioStorageFull": true, "InsufficientStorage": true, "QuotaExceeded": true, "XMinioAdminBucketQuotaExceeded": true, "EntityTooLargeForDisk": true,
}

// wrap sorts the errors of S3 into those of paas.Blobs.
func (s *Store) wrap(ctx context.Context, err error, doing string) error {
	if err == nil {
		return nil
	}
	var already *paas.Error
	if errors.As(err, &already) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", doing, cause)
	}
	var res minio.ErrorResponse
	if !errors.As(err, &res) {
		return paas.Errorf(paas.CodeUnavailable, "object storage does not answer").
			WithHint("slipway status shows what it is doing; try again").WithCause(fmt.Errorf("%s: %w", doing, err))
	}
	cause := fmt.Errorf("%s: %w", doing, err)
	switch {
	case res.Code == "NoSuchKey" || res.Code == "NotFound" || res.StatusCode == http.StatusNotFound && res.Code != "NoSuchBucket":
		return paas.Errorf(paas.CodeNotFound, "no object %s in storage", res.Key).WithCause(cause)
	case res.StatusCode == http.StatusInsufficientStorage || storageFull[res.Code] || bytes.Contains([]byte(res.Message), []byte("no space left")):
		return paas.Errorf(paas.CodeStorageFull, "the platform's object storage is full").
			WithHint("free space: delete apps or releases, or ask the operator for a larger disk").WithCause(cause)
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests:
		return paas.Errorf(paas.CodeUnavailable, "object storage answers %d %s", res.StatusCode, res.Code).
			WithHint("slipway status shows what it is doing; try again").WithCause(cause)
	}
	return cause
}
