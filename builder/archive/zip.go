package archive

import (
	"bufio"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"sync"
)

func openZip(ctx context.Context, r io.ReaderAt, size int64, lim Limits) (*Archive, error) {
	end, err := findEnd(r, size)
	if err != nil {
		return nil, err
	}
	headers, err := readDirectory(ctx, r, end, lim)
	if err != nil {
		return nil, err
	}
	items, dropped, err := checkHeaders(headers, size, lim)
	if err != nil {
		return nil, err
	}
	if err := checkRanges(headers, end.dirOffset); err != nil {
		return nil, err
	}
	offsets, err := checkLocals(ctx, r, headers, end.dirOffset)
	if err != nil {
		return nil, err
	}
	places := make(map[uint64]int64, len(headers))
	for i := range headers {
		places[headers[i].offset] = offsets[i]
	}
	z := &zipContent{r: r}
	a := &Archive{format: FormatZip, tree: newTree(lim.MaxEntries), dropped: dropped, openRaw: z.open, close: func() error { return nil }}
	for _, it := range items {
		it.offset = places[uint64(it.offset)]
		if it.Mode&fs.ModeSymlink != 0 {
			if err := a.readLink(it); err != nil {
				return nil, err
			}
		}
		if err := a.tree.add(it); err != nil {
			return nil, err
		}
	}
	return a, a.tree.finish(ctx)
}

// checkHeaders checks all that the directory alone can tell. The items' offset is
// that of the local header still.
func checkHeaders(headers []header, size int64, lim Limits) (items []*item, dropped []string, err error) {
	sum := sums{lim: lim, archiveBytes: size}
	for i := range headers {
		h := &headers[i]
		name, err := cleanName(h.name, lim.MaxDepth)
		if err != nil {
			return nil, nil, err
		}
		if err := checkMethod(h); err != nil {
			return nil, nil, err
		}
		mode, err := h.mode()
		if err != nil {
			return nil, nil, err
		}
		if err := sum.add(h.raw, h.uncompressed); err != nil {
			return nil, nil, err
		}
		if name == "" {
			if !mode.IsDir() {
				return nil, nil, refuseEntry(ruleName, h.raw, hintRezip, "the name stands for the archive itself")
			}
			continue
		}
		if isMacJunk(name) {
			dropped = append(dropped, name)
			continue
		}
		it := &item{Entry: Entry{Path: name, Mode: mode, Size: int64(h.uncompressed)}, offset: int64(h.offset), compressed: int64(h.compressed), method: h.method}
		if !mode.IsDir() {
			it.CRC32 = h.crc
		}
		items = append(items, it)
	}
	sort.Strings(dropped)
	return items, dropped, nil
}

// sums counts content against the limits (rule A-4).
type sums struct {
	lim          Limits
	archiveBytes int64
	total        uint64
}

func (s *sums) add(name string, n uint64) error {
	if n > uint64(s.lim.MaxFileBytes) {
		return tooLarge("entry %s: it has %d bytes unpacked, %d at most", quoteName(name), n, s.lim.MaxFileBytes)
	}
	s.total += n
	if s.total > uint64(s.lim.MaxTotalBytes) {
		return tooLarge("its files have more than %d bytes unpacked", s.lim.MaxTotalBytes)
	}
	if ratio := s.total / uint64(s.archiveBytes); s.total > ratioFloorBytes && ratio > uint64(s.lim.MaxRatio) {
		return tooLarge("its %d bytes unpack to more than %d, over %d times as much", s.archiveBytes, s.total, s.lim.MaxRatio)
	}
	return nil
}

// readLink reads a symlink's target, which zip keeps as content.
func (a *Archive) readLink(it *item) error {
	if it.Size > maxPathBytes {
		return refuseEntry(ruleLink, it.Path, hintLinks, "the link's target has %d bytes, %d at most", it.Size, maxPathBytes)
	}
	r, err := a.open(it)
	if err != nil {
		return err
	}
	defer r.Close()
	target, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	it.LinkTarget, it.CRC32 = string(target), 0
	return checkTarget(it.Path, it.LinkTarget)
}

// zipContent opens the content of entries.
type zipContent struct {
	r    io.ReaderAt
	pool sync.Pool // of *inflater
}

// inflater is the costly part of reading an entry, used again and again.
type inflater struct {
	br   *bufio.Reader
	flat io.ReadCloser
}

func (z *zipContent) open(it *item) (io.ReadCloser, error) {
	src := io.NewSectionReader(z.r, it.offset, it.compressed)
	if it.method == methodStore {
		return io.NopCloser(src), nil
	}
	in, ok := z.pool.Get().(*inflater)
	if !ok {
		br := bufio.NewReaderSize(src, 32<<10)
		in = &inflater{br: br, flat: flate.NewReader(br)}
	}
	in.br.Reset(src)
	if err := in.flat.(flate.Resetter).Reset(in.br, nil); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return &deflated{zip: z, in: in, name: it.Path}, nil
}

// deflated reads one deflated entry and insists that the stream ends where the
// entry does: what lies behind it would be another content for other readers.
type deflated struct {
	zip  *zipContent
	in   *inflater
	name string
}

func (d *deflated) Read(p []byte) (int, error) {
	if d.in == nil {
		return 0, fs.ErrClosed
	}
	n, err := d.in.flat.Read(p)
	switch err := err.(type) {
	case nil:
		return n, nil
	case flate.CorruptInputError:
		return n, refuseEntry(ruleBroken, d.name, hintUpload, "its compressed data is damaged near byte %d", int64(err))
	}
	if err == io.ErrUnexpectedEOF {
		return n, refuseEntry(ruleBroken, d.name, hintUpload, "its compressed data ends too early")
	}
	if err == io.EOF {
		if _, more := d.in.br.ReadByte(); more == nil {
			return n, refuseEntry(ruleAmbiguous, d.name, hintRezip, "there are bytes behind the end of its compressed data")
		}
	}
	return n, err
}

func (d *deflated) Close() error {
	if d.in != nil {
		d.zip.pool.Put(d.in)
		d.in = nil
	}
	return nil
}
