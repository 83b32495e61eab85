// Package archive reads untrusted source archives: zip (also jar and war), tar.gz
// and plain tar. Open checks everything that can be checked without the content
// (names, links, types, counts, sizes, the structure of the container) before
// anybody can read a byte through it; what it accepts, it shows as an fs.FS
// without unpacking anything into a folder.
//
// The rules are those of the project's threat model; every refusal is
// a *paas.Error that names the entry, the rule and the next step. The checks of
// names are in names.go, of the zip container in zipdir.go and ziplocal.go, of
// tar in tar.go, of the tree (duplicates, links) in tree.go. Start with Open.
//
// It imports internal/paas and the standard library only.
package archive

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Format is the container format of an archive.
type Format string

const (
	FormatZip   Format = "zip" // also jar, war, ear
	FormatTarGz Format = "tar.gz"
	FormatTar   Format = "tar"
)

// Limits bound what an archive may ask of us. Zero fields mean the default.
type Limits struct {
	MaxEntries    int    // entries in the container, default 100,000
	MaxTotalBytes int64  // all files uncompressed, default 4 GiB
	MaxFileBytes  int64  // one file uncompressed, default 2 GiB
	MaxRatio      int64  // uncompressed ÷ archive size, looked at above 64 MiB only, default 200
	MaxDepth      int    // folders in a path, default 128
	TempDir       string // where a tar is spooled to, default os.TempDir()
}

const (
	defaultMaxEntries = 100_000
	defaultMaxTotal   = 4 << 30
	defaultMaxFile    = 2 << 30
	defaultMaxRatio   = 200
	defaultMaxDepth   = 128

	// Below this much content a high ratio is harmless and honest (generated
	// JSON, empty databases), so the ratio is not looked at.
	ratioFloorBytes = 64 << 20
	// Names are held in memory: 100,000 names of 4 KiB would be 400 MB.
	maxNameBytes = 32 << 20
)

func (l Limits) withDefaults() Limits {
	if l.MaxEntries <= 0 {
		l.MaxEntries = defaultMaxEntries
	}
	if l.MaxTotalBytes <= 0 {
		l.MaxTotalBytes = defaultMaxTotal
	}
	if l.MaxFileBytes <= 0 {
		l.MaxFileBytes = defaultMaxFile
	}
	if l.MaxRatio <= 0 {
		l.MaxRatio = defaultMaxRatio
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = defaultMaxDepth
	}
	return l
}

// Entry is one node of the tree.
type Entry struct {
	Path       string      // slash-separated, clean, relative, valid UTF-8
	Mode       fs.FileMode // type (regular, directory, symlink) and 0755 or 0644; links 0777
	Size       int64       // bytes uncompressed; 0 for directories, the target's length for links
	CRC32      uint32      // IEEE, of a regular file's content
	LinkTarget string      // of a symlink, as written in the archive
	Implied    bool        // a parent folder that the archive does not list
}

// IsRegular reports whether e is a file with content.
func (e Entry) IsRegular() bool { return e.Mode.IsRegular() }

// Archive is a checked archive. It is safe for concurrent use. Close it when all
// readers are done; the io.ReaderAt given to Open stays the caller's.
type Archive struct {
	format  Format
	tree    *tree
	dropped []string
	openRaw func(it *item) (io.ReadCloser, error) // content of a regular file, unverified
	close   func() error
}

// Open checks the archive of size bytes behind r and returns it for reading. It
// reads the directory, every local header and the symlinks of a zip; a tar is read
// once from end to end and spooled to an unlinked file in lim.TempDir. ctx bounds
// the checking only.
//
// Errors: *paas.Error with CodeInvalid or CodeTooLarge for a refused archive,
// CodeStorageFull when TempDir is full; others are r's own, or ctx's cause.
func Open(ctx context.Context, r io.ReaderAt, size int64, lim Limits) (*Archive, error) {
	lim = lim.withDefaults()
	format, err := sniff(r, size)
	if err != nil {
		return nil, err
	}
	if format == FormatZip {
		return openZip(ctx, r, size, lim)
	}
	return openTar(ctx, r, size, format, lim)
}

// Close frees the spool file of a tar. It is safe to call twice.
func (a *Archive) Close() error { return a.close() }

// Format tells the container format.
func (a *Archive) Format() Format { return a.format }

// Entries returns the whole tree sorted by path bytewise, without the root. The
// slice is the caller's.
func (a *Archive) Entries() []Entry {
	es := make([]Entry, len(a.tree.items))
	for i, it := range a.tree.items {
		es[i] = it.Entry
	}
	return es
}

// Dropped lists what the archive holds but the tree leaves out, sorted: the
// resource files that macOS adds (__MACOSX, .DS_Store, AppleDouble, Icon).
func (a *Archive) Dropped() []string { return append([]string(nil), a.dropped...) }

// TopFolder returns the one folder that holds everything, or "" if there is none.
// It is not stripped; messages use it as a hint ("zip the folder's content").
func (a *Archive) TopFolder() string {
	top := a.tree.children("")
	if len(top) == 1 && top[0].Mode.IsDir() {
		return top[0].Path
	}
	return ""
}

// FS shows the tree. It implements fs.ReadDirFS, fs.StatFS, fs.ReadFileFS and
// fs.ReadLinkFS; Open and Stat follow links, inside the archive only. A reader
// of a file returns an error instead of io.EOF when content and directory
// disagree in size or checksum.
func (a *Archive) FS() fs.FS { return archiveFS{a} }

// Verify reads every file to its end and returns the first disagreement between
// content and directory as CodeInvalid.
func (a *Archive) Verify(ctx context.Context) error {
	buf := make([]byte, 64<<10)
	for _, it := range a.tree.items {
		if !it.IsRegular() {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := a.drain(it, buf); err != nil {
			return err
		}
	}
	return nil
}

func (a *Archive) drain(it *item, buf []byte) error {
	r, err := a.open(it)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, buf)
	return err
}

// ModTime is the time to announce for e in a file sync: BuildKit's sync takes a
// file of the same size and time as unchanged, so the time is made from the
// checksum. It is stable, differs for different checksums, and lies between 1980
// and 2100.
func ModTime(e Entry) time.Time {
	// 2^32 seconds would reach past 2100; what does not fit goes to the nanosecond.
	const spanSeconds = 3_700_000_000
	epoch := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	return time.Unix(epoch+int64(e.CRC32%spanSeconds), int64(e.CRC32/spanSeconds)).UTC()
}
