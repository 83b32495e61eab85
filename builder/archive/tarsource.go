package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/slipway-paas/slipway/internal/paas"
)

// tarSource is the uncompressed tar.
type tarSource struct {
	ctx context.Context
	r   io.Reader
	n   int64 // bytes given out
	max int64 // at most: headers and padding inflate, too (rule A-4)
}

func uncompressed(ctx context.Context, r io.ReaderAt, size int64, format Format, lim Limits) (*tarSource, error) {
	section := source{io.NewSectionReader(r, 0, size)}
	s := &tarSource{ctx: ctx, r: bufio.NewReaderSize(section, 1<<20), max: size}
	if format == FormatTar {
		last := make([]byte, 512)
		if size%512 != 0 || size < 1024 {
			return nil, refuse(ruleBroken, hintUpload, "the tar has %d bytes, which is no multiple of 512: it is cut off", size)
		}
		if _, err := r.ReadAt(last, size-512); err != nil && !errors.Is(err, io.EOF) {
			return nil, readError(err, "the tar's last block")
		}
		if !allZero(last) {
			return nil, refuse(ruleBroken, hintUpload, "the tar does not end in a block of zeros: it is cut off")
		}
		return s, nil
	}
	gz, err := gzip.NewReader(s.r)
	if err != nil {
		return nil, tarError(err, "the gzip header")
	}
	// Headers are up to a KiB per file and compress better than content: twice the
	// ratio leaves room for honest trees of small files.
	s.r, s.max = gz, min(2*ratioFloorBytes+2*lim.MaxRatio*size, 2*lim.MaxTotalBytes+ratioFloorBytes)
	return s, nil
}

// source marks the errors of the archive's own reader: archive/tar has private
// errors for damaged input, which could not be told from them otherwise.
type source struct{ r io.Reader }

type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

func (s source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = sourceError{err}
	}
	return n, err
}

func (s *tarSource) Read(p []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, sourceError{err}
	}
	n, err := s.r.Read(p)
	if s.n += int64(n); s.n > s.max {
		return 0, tooLarge("the tar unpacks to more than %d bytes, headers included", s.max)
	}
	return n, err
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// checkTarEnd reads what follows the end mark: zeros up to the block size of the
// tool that wrote it (10 KiB by default, tape drives up to 1 MiB).
func checkTarEnd(src *tarSource) error {
	const most = 16 << 20
	buf := make([]byte, 32<<10)
	for total := 0; ; {
		n, err := src.Read(buf)
		total += n
		if !allZero(buf[:n]) {
			return refuse(ruleAmbiguous, hintRezip, "there is data behind the end of the tar")
		}
		if total > most {
			return tooLarge("more than %d bytes of padding follow the tar", most)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return tarError(err, "the end of the tar")
		}
	}
}

// tarError sorts the errors of gzip and tar.
func tarError(err error, what string) error {
	var ours sourceError
	var refused *paas.Error
	switch {
	case errors.As(err, &ours):
		return fmt.Errorf("read archive: %s: %w", what, ours.error)
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, gzip.ErrHeader):
		return refuse(ruleBroken, hintUpload, "the gzip data is damaged, or foreign data follows it (at %s)", what)
	case errors.Is(err, gzip.ErrChecksum):
		return refuse(ruleBroken, hintUpload, "the gzip checksum is wrong (at %s)", what)
	case errors.Is(err, tar.ErrHeader):
		return refuse(ruleBroken, hintFormats, "there is no valid tar header at %s", what)
	case errors.Is(err, tar.ErrFieldTooLong):
		return tooLarge("a tar header is too long (at %s)", what)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return readError(err, what)
	}
	return refuse(ruleBroken, hintUpload, "its data is damaged at %s: %v", what, err)
}
