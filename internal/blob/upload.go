package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/slipway-paas/slipway/internal/paas"
)

const (
	archivePrefix = "archives/sha256/"
	uploadPrefix  = "uploads/"
	// A marker is written before a multipart upload begins, under its key plus this.
	// Not every S3 server lists the unfinished uploads of a prefix; all list them
	// for one key, and the marker tells Sweep that key.
	markerSuffix = ".begun"
)

// PutArchive implements paas.Blobs. Up to one part (5 MiB) is held in memory and
// written to its final key in one request, or not at all if that content is
// there; larger archives are streamed to uploads/ and copied inside the server.
//
// Errors: CodeTooLarge, CodeInvalid (digest, length), CodeTooMany when too many
// uploads run at once, CodeStorageFull, CodeUnavailable; r's own error otherwise.
func (s *Store) PutArchive(ctx context.Context, r io.Reader, size, maxBytes int64, wantDigest string) (paas.Archive, error) {
	if size > maxBytes {
		return paas.Archive{}, tooLarge(maxBytes)
	}
	if err := s.takeSlot(ctx); err != nil {
		return paas.Archive{}, err
	}
	defer func() { <-s.slots }()
	in := &intake{r: r, size: size, max: maxBytes, hash: sha256.New()}
	buf := make([]byte, firstBuffer(size))
	n, buf, err := in.fill(buf)
	if err != nil {
		return paas.Archive{}, err
	}
	if in.done {
		return s.putSmall(ctx, in, buf[:n], wantDigest)
	}
	return s.putLarge(ctx, in, buf, wantDigest)
}

// firstBuffer is no larger than needed when the length is known.
func firstBuffer(size int64) int64 {
	if size >= 0 && size < partSize {
		return size + 1 // one more, so that the end is seen
	}
	return 64 << 10
}

func (s *Store) takeSlot(ctx context.Context) error {
	wait := time.NewTimer(slotWait)
	defer wait.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wait.C:
		return paas.Errorf(paas.CodeTooMany, "%d uploads are running already", maxUploads).WithHint("try again in a minute")
	}
}

func tooLarge(maxBytes int64) error {
	return paas.Errorf(paas.CodeTooLarge, "the archive is larger than the %d bytes allowed", maxBytes).
		WithHint("leave out what the app does not need (.slipwayignore), or ask the operator to raise the limit")
}

// intake reads an upload while hashing and counting.
type intake struct {
	r         io.Reader
	size, max int64 // announced length or -1; limit
	hash      hash.Hash
	n         int64
	done      bool // r is at its end and passed all checks
}

// fill reads one part into buf, growing it to a part's size only if there is that
// much to read.
func (in *intake) fill(buf []byte) (int, []byte, error) {
	n := 0
	for n < partSize {
		if n == len(buf) {
			grown := make([]byte, min(partSize, max(2*len(buf), 64<<10)))
			copy(grown, buf)
			buf = grown
		}
		m, err := in.r.Read(buf[n:])
		in.hash.Write(buf[n : n+m])
		n += m
		if in.n += int64(m); in.n > in.max {
			return n, buf, tooLarge(in.max)
		}
		if in.size >= 0 && in.n > in.size {
			return n, buf, paas.Errorf(paas.CodeInvalid, "the upload is longer than the %d bytes announced", in.size).WithHint("upload it again")
		}
		if err == io.EOF {
			in.done = true
			return n, buf, in.checkLength()
		}
		if err != nil {
			return n, buf, in.readError(err)
		}
	}
	return n, buf, nil
}

func (in *intake) checkLength() error {
	if in.size >= 0 && in.n != in.size {
		return paas.Errorf(paas.CodeInvalid, "the upload stopped after %d of %d bytes", in.n, in.size).WithHint("upload it again")
	}
	return nil
}

func (in *intake) readError(err error) error {
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return tooLarge(limit.Limit)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return paas.Errorf(paas.CodeInvalid, "the upload stopped after %d bytes", in.n).WithHint("upload it again").WithCause(err)
	}
	return fmt.Errorf("read upload after %d bytes: %w", in.n, err)
}

// archive is the result, once done.
func (in *intake) archive(wantDigest string) (paas.Archive, error) {
	sum := hex.EncodeToString(in.hash.Sum(nil))
	a := paas.Archive{Digest: "sha256:" + sum, SizeBytes: in.n, Key: archivePrefix + sum}
	if wantDigest != "" && !strings.EqualFold(wantDigest, a.Digest) {
		return paas.Archive{}, paas.Errorf(paas.CodeInvalid, "the upload has the digest %s, announced was %s", a.Digest, wantDigest).
			WithHint("the file was changed or damaged on the way: upload it again")
	}
	return a, nil
}

func (s *Store) putSmall(ctx context.Context, in *intake, body []byte, wantDigest string) (paas.Archive, error) {
	a, err := in.archive(wantDigest)
	if err != nil {
		return paas.Archive{}, err
	}
	at, err := s.stored(ctx, a)
	if err == nil && at.IsZero() {
		at = time.Now()
		_, err = s.s3.Client.PutObject(ctx, s.bucket, a.Key, bytes.NewReader(body), a.SizeBytes, minio.PutObjectOptions{DisableMultipart: true})
	}
	if err != nil {
		return paas.Archive{}, s.wrap(ctx, err, "store archive "+a.Digest)
	}
	a.CreatedAt = at.UTC()
	return a, nil
}

// stored tells since when an archive of this content is there, zero if it is not.
func (s *Store) stored(ctx context.Context, a paas.Archive) (time.Time, error) {
	info, err := s.s3.StatObject(ctx, s.bucket, a.Key, minio.StatObjectOptions{})
	if err = s.wrap(ctx, err, "look for archive "+a.Digest); paas.CodeOf(err) == paas.CodeNotFound {
		return time.Time{}, nil
	}
	if err != nil || info.Size != a.SizeBytes {
		return time.Time{}, err
	}
	return info.LastModified, nil
}

// putLarge streams parts to a key of its own, whose first part is full already.
func (s *Store) putLarge(ctx context.Context, in *intake, buf []byte, wantDigest string) (_ paas.Archive, err error) {
	key := uploadPrefix + rand.Text()
	if err := s.Put(ctx, key+markerSuffix, strings.NewReader("upload"), int64(len("upload"))); err != nil {
		return paas.Archive{}, err
	}
	uploadID := ""
	defer func() {
		// Also after a success: the copy under the final key is what counts.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		s.removeUpload(ctx, key, uploadID)
	}()
	if uploadID, err = s.s3.NewMultipartUpload(ctx, s.bucket, key, minio.PutObjectOptions{}); err != nil {
		return paas.Archive{}, s.wrap(ctx, err, "begin upload")
	}
	if err := s.sendParts(ctx, in, buf, key, uploadID); err != nil {
		return paas.Archive{}, err
	}
	uploadID = "" // completed: now it is an object
	a, err := in.archive(wantDigest)
	if err != nil {
		return paas.Archive{}, err
	}
	at, err := s.stored(ctx, a)
	if err == nil && at.IsZero() {
		at, err = time.Now(), s.copy(ctx, key, a)
	}
	if err != nil {
		return paas.Archive{}, s.wrap(ctx, err, "store archive "+a.Digest)
	}
	a.CreatedAt = at.UTC()
	return a, nil
}

func (s *Store) sendParts(ctx context.Context, in *intake, buf []byte, key, uploadID string) error {
	var parts []minio.CompletePart
	for n := len(buf); n > 0; {
		p, err := s.s3.PutObjectPart(ctx, s.bucket, key, uploadID, len(parts)+1, bytes.NewReader(buf[:n]), int64(n), minio.PutObjectPartOptions{})
		if err != nil {
			return s.wrap(ctx, err, "store upload")
		}
		parts = append(parts, minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag})
		if in.done {
			break
		}
		if n, _, err = in.fill(buf); err != nil {
			return err
		}
	}
	_, err := s.s3.CompleteMultipartUpload(ctx, s.bucket, key, uploadID, parts, minio.PutObjectOptions{})
	return s.wrap(ctx, err, "complete upload")
}

// copy puts an upload under its final key, inside the server.
func (s *Store) copy(ctx context.Context, key string, a paas.Archive) error {
	const largestCopy = 5 << 30 // of one CopyObject; ComposeObject copies by parts
	dst, src := minio.CopyDestOptions{Bucket: s.bucket, Object: a.Key}, minio.CopySrcOptions{Bucket: s.bucket, Object: key}
	if a.SizeBytes > largestCopy {
		_, err := s.s3.ComposeObject(ctx, dst, src)
		return err
	}
	_, err := s.s3.Client.CopyObject(ctx, dst, src)
	return err
}

// removeUpload removes what an upload left, the marker last and only if the rest
// is gone: what fails here is found by Sweep through it.
func (s *Store) removeUpload(ctx context.Context, key, uploadID string) error {
	if uploadID != "" {
		if err := s.abort(ctx, key, uploadID); err != nil {
			return err
		}
	}
	if err := s.Delete(ctx, key); err != nil {
		return err
	}
	return s.Delete(ctx, key+markerSuffix)
}

func (s *Store) abort(ctx context.Context, key, uploadID string) error {
	err := s.s3.AbortMultipartUpload(ctx, s.bucket, key, uploadID)
	if minio.ToErrorResponse(err).Code == "NoSuchUpload" {
		return nil
	}
	return s.wrap(ctx, err, "abort upload "+key)
}

// Sweep removes uploads that began before the time given: parts, objects and
// markers under uploads/. Uploads that run longer than that are cut off, so before
// should be hours ago while the server runs; right after its start, now is right.
func (s *Store) Sweep(ctx context.Context, before time.Time) error {
	list, err := s.List(ctx, uploadPrefix)
	if err != nil {
		return err
	}
	for _, o := range list {
		if !o.ModTime.Before(before) {
			continue
		}
		key := strings.TrimSuffix(o.Key, markerSuffix)
		if err := s.abortAll(ctx, key, time.Time{}); err != nil {
			return err
		}
		if err := s.removeUpload(ctx, key, ""); err != nil {
			return err
		}
	}
	// Servers that list by prefix also tell of uploads without a marker (Put).
	return s.abortAll(ctx, "", before)
}

// abortAll aborts unfinished uploads under prefix begun before the time given
// (zero = all).
func (s *Store) abortAll(ctx context.Context, prefix string, before time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for u := range s.s3.ListIncompleteUploads(ctx, s.bucket, prefix, true) {
		if u.Err != nil {
			return s.wrap(ctx, u.Err, "list uploads")
		}
		if !before.IsZero() && !u.Initiated.Before(before) {
			continue
		}
		if err := s.abort(ctx, u.Key, u.UploadID); err != nil {
			return err
		}
	}
	return nil
}
