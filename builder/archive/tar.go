package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
)

// tarReader reads a tar once and spools the content of its files.
type tarReader struct {
	lim       Limits
	sum       sums
	tree      *tree
	spool     *os.File
	out       *bufio.Writer
	at        int64 // bytes spooled
	count     int
	nameBytes int
	dropped   []string
	buf       []byte
}

func openTar(ctx context.Context, r io.ReaderAt, size int64, format Format, lim Limits) (_ *Archive, err error) {
	spool, err := os.CreateTemp(lim.TempDir, "archive-*.tar")
	if err != nil {
		return nil, spoolError(err)
	}
	defer func() {
		if err != nil {
			_ = spool.Close() // unlinked: closing frees it, whatever it returns
		}
	}()
	if err := os.Remove(spool.Name()); err != nil {
		return nil, spoolError(err)
	}
	t := &tarReader{
		lim: lim, sum: sums{lim: lim, archiveBytes: size}, tree: newTree(lim.MaxEntries),
		spool: spool, out: bufio.NewWriterSize(spool, 1<<20), buf: make([]byte, 64<<10),
	}
	src, err := uncompressed(ctx, r, size, format, lim)
	if err != nil {
		return nil, err
	}
	if err := t.readAll(tar.NewReader(src)); err != nil {
		return nil, err
	}
	if err := checkTarEnd(src); err != nil {
		return nil, err
	}
	if err := t.out.Flush(); err != nil {
		return nil, spoolError(err)
	}
	if err := t.tree.finish(ctx); err != nil {
		return nil, err
	}
	sort.Strings(t.dropped)
	return &Archive{
		format: format, tree: t.tree, dropped: t.dropped, close: closeOnce(spool),
		openRaw: func(it *item) (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(spool, it.offset, it.Size)), nil
		},
	}, nil
}

func closeOnce(f *os.File) func() error {
	return func() error {
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			return err
		}
		return nil
	}
}

func (t *tarReader) readAll(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return tarError(err, fmt.Sprintf("entry %d", t.count+1))
		}
		if t.count++; t.count > t.lim.MaxEntries {
			return tooLarge("it has more than %d entries", t.lim.MaxEntries)
		}
		if t.nameBytes += len(h.Name) + len(h.Linkname); t.nameBytes > maxNameBytes {
			return tooLarge("its names have more than %d MiB", maxNameBytes>>20)
		}
		if err := t.add(h, tr); err != nil {
			return err
		}
	}
	if t.count == 0 {
		return refuse(ruleBroken, "put the app's files into the archive", "it is an empty tar: it holds no files")
	}
	return nil
}

// add takes one entry (rules ).
func (t *tarReader) add(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return checkGlobal(h)
	}
	name, err := cleanName(h.Name, t.lim.MaxDepth)
	if err != nil {
		return err
	}
	if err := checkType(h); err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return refuseEntry(ruleName, h.Name, hintRezip, "the name stands for the archive itself")
		}
		return nil
	}
	if isMacJunk(name) && h.Typeflag == tar.TypeReg {
		t.dropped = append(t.dropped, name)
		return t.sum.add(name, uint64(h.Size))
	}
	it := &item{Entry: Entry{Path: name}}
	switch h.Typeflag {
	case tar.TypeDir:
		it.Mode = fs.ModeDir | 0o755
	case tar.TypeSymlink:
		it.Mode, it.LinkTarget, it.Size = fs.ModeSymlink|0o777, h.Linkname, int64(len(h.Linkname))
		if err := checkTarget(name, h.Linkname); err != nil {
			return err
		}
	case tar.TypeLink:
		if err := t.hardLink(it, h); err != nil {
			return err
		}
	default:
		double, err := t.spoolFile(it, h, content)
		if err != nil || double {
			return err
		}
	}
	return t.tree.add(it)
}

// checkGlobal lets pass what git archive writes (a comment with the commit) and
// refuses global headers that change entries: readers disagree about them.
func checkGlobal(h *tar.Header) error {
	for key := range h.PAXRecords {
		if key == "path" || key == "linkpath" || key == "size" || strings.HasPrefix(key, "GNU.sparse") {
			return refuse(ruleAmbiguous, hintRezip, "a global header sets %q for all entries", key)
		}
	}
	return nil
}

func checkType(h *tar.Header) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse") {
			return refuseEntry(ruleType, h.Name, "make the tar without --sparse", "it is a sparse file")
		}
	}
	if strings.HasSuffix(h.Name, "/") && h.Typeflag != tar.TypeDir {
		return refuseEntry(ruleAmbiguous, h.Name, hintRezip, "it is named like a folder but is none")
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
		return nil
	case tar.TypeChar, tar.TypeBlock:
		return refuseEntry(ruleType, h.Name, "leave it out", "it is a device")
	case tar.TypeFifo:
		return refuseEntry(ruleType, h.Name, "leave it out", "it is a named pipe")
	case tar.TypeGNUSparse:
		return refuseEntry(ruleType, h.Name, "make the tar without --sparse", "it is a sparse file")
	}
	return refuseEntry(ruleType, h.Name, hintRezip, "its type %q is not known", h.Typeflag)
}

// hardLink makes it another name of an earlier file. The content counts again:
// whoever copies the tree writes it twice.
func (t *tarReader) hardLink(it *item, h *tar.Header) error {
	target, err := cleanName(h.Linkname, t.lim.MaxDepth)
	if err != nil {
		return refuseEntry(ruleLink, h.Name, hintLinks, "its hard link to %s is not allowed", quoteName(h.Linkname)).WithCause(err)
	}
	old := t.tree.byPath[target]
	if old == nil || old.Mode.IsDir() {
		return refuseEntry(ruleLink, h.Name, hintLinks, "its hard link leads to %s, which is no earlier file of the archive", quoteName(h.Linkname))
	}
	path := it.Path
	*it = *old
	it.Path = path
	return t.sum.add(path, uint64(old.Size))
}

// spoolFile copies one content into the spool file. double tells an AppleDouble
// file ("._x" beside x), which macOS's tar adds and which is dropped.
func (t *tarReader) spoolFile(it *item, h *tar.Header, content io.Reader) (double bool, err error) {
	if err := t.sum.add(h.Name, uint64(h.Size)); err != nil {
		return false, err
	}
	it.Mode, it.Size, it.offset = 0o644, h.Size, t.at
	if h.Mode&0o111 != 0 {
		it.Mode = 0o755
	}
	crc := crc32.NewIEEE()
	var head []byte
	for left := h.Size; left > 0; {
		n, err := io.ReadFull(content, t.buf[:min(left, int64(len(t.buf)))])
		if err != nil {
			return false, tarError(err, "entry "+quoteName(h.Name))
		}
		if head == nil {
			head = bytes.Clone(t.buf[:min(n, 4)])
		}
		crc.Write(t.buf[:n])
		if _, err := t.out.Write(t.buf[:n]); err != nil {
			return false, spoolError(err)
		}
		left -= int64(n)
	}
	t.at += h.Size
	it.CRC32 = crc.Sum32()
	if strings.HasPrefix(path.Base(it.Path), "._") && string(head) == "\x00\x05\x16\x07" {
		t.dropped = append(t.dropped, it.Path)
		return true, nil
	}
	return false, nil
}
