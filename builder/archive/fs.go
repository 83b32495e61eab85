package archive

import (
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"time"
)

// open returns the content of a regular file or link, checked while it is read.
func (a *Archive) open(it *item) (*checked, error) {
	r, err := a.openRaw(it)
	if err != nil {
		return nil, err
	}
	return &checked{ReadCloser: r, it: it, hash: crc32.NewIEEE()}, nil
}

// checked reads a content and returns an error instead of io.EOF when size or
// checksum are not what the directory says.
type checked struct {
	io.ReadCloser
	it   *item
	hash hash.Hash32
	n    int64
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	if err == nil && c.n == c.it.Size {
		// Whoever reads exactly Size bytes never asks for the end: look now.
		var one [1]byte
		var more int
		more, err = c.ReadCloser.Read(one[:])
		c.n += int64(more)
	}
	if c.n > c.it.Size {
		return 0, refuseEntry(ruleBomb, c.it.Path, hintRezip, "its content is longer than the %d bytes of its header", c.it.Size)
	}
	c.hash.Write(p[:n])
	if err != io.EOF {
		return n, err
	}
	if c.n != c.it.Size {
		return n, refuseEntry(ruleBroken, c.it.Path, hintUpload, "its content has %d bytes, its header says %d", c.n, c.it.Size)
	}
	if sum := c.hash.Sum32(); sum != c.it.CRC32 {
		return n, refuseEntry(ruleBroken, c.it.Path, hintUpload, "its content has the checksum %08x, its header says %08x", sum, c.it.CRC32)
	}
	return n, io.EOF
}

// archiveFS is the tree as a file system.
type archiveFS struct{ a *Archive }

var (
	_ fs.ReadDirFS  = archiveFS{}
	_ fs.StatFS     = archiveFS{}
	_ fs.ReadFileFS = archiveFS{}
	_ fs.ReadLinkFS = archiveFS{}
)

var root = &item{Entry: Entry{Mode: fs.ModeDir | 0o755}}

// baseName is the last component, "." for the root.
func baseName(name string) string { return path.Base(name) }

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// find returns the node of name with all links followed; nofollow leaves a link
// at the end alone.
func (f archiveFS) find(op, name string, nofollow bool) (*item, error) {
	if !fs.ValidPath(name) {
		return nil, fail(op, name, fs.ErrInvalid)
	}
	if name == "." {
		return root, nil
	}
	dir, base := parentOf(name), baseName(name)
	if dir != "" {
		at, how := f.a.tree.resolve(dir)
		if how != "" {
			return nil, fail(op, name, fs.ErrNotExist)
		}
		name = base
		if at != "" {
			name = at + "/" + base
		}
	}
	if !nofollow {
		at, how := f.a.tree.resolve(name)
		if how != "" {
			return nil, fail(op, name, fs.ErrNotExist)
		}
		if at == "" {
			return root, nil
		}
		name = at
	}
	it := f.a.tree.byPath[name]
	if it == nil {
		return nil, fail(op, name, fs.ErrNotExist)
	}
	return it, nil
}

func (f archiveFS) Open(name string) (fs.File, error) {
	it, err := f.find("open", name, false)
	if err != nil {
		return nil, err
	}
	if it.Mode.IsDir() {
		return &dirFile{info: info{it, baseName(name)}, kids: f.a.tree.children(it.Path)}, nil
	}
	r, err := f.a.open(it)
	if err != nil {
		return nil, fail("open", name, err)
	}
	return &file{checked: r, info: info{it, baseName(name)}}, nil
}

func (f archiveFS) ReadFile(name string) ([]byte, error) {
	r, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fail("read", name, err)
	}
	return b, nil
}

func (f archiveFS) Stat(name string) (fs.FileInfo, error) {
	it, err := f.find("stat", name, false)
	if err != nil {
		return nil, err
	}
	return info{it, baseName(name)}, nil
}

func (f archiveFS) Lstat(name string) (fs.FileInfo, error) {
	it, err := f.find("lstat", name, true)
	if err != nil {
		return nil, err
	}
	return info{it, baseName(name)}, nil
}

func (f archiveFS) ReadLink(name string) (string, error) {
	it, err := f.find("readlink", name, true)
	if err != nil {
		return "", err
	}
	if it.Mode&fs.ModeSymlink == 0 {
		return "", fail("readlink", name, fs.ErrInvalid)
	}
	return it.LinkTarget, nil
}

func (f archiveFS) ReadDir(name string) ([]fs.DirEntry, error) {
	it, err := f.find("readdir", name, false)
	if err != nil {
		return nil, err
	}
	if !it.Mode.IsDir() {
		return nil, fail("readdir", name, fs.ErrInvalid)
	}
	return dirEntries(f.a.tree.children(it.Path)), nil
}

func dirEntries(kids []*item) []fs.DirEntry {
	list := make([]fs.DirEntry, len(kids))
	for i, it := range kids {
		list[i] = fs.FileInfoToDirEntry(info{it, baseName(it.Path)})
	}
	return list
}

// info is a node as fs.FileInfo; its time is ModTime's.
type info struct {
	it   *item
	base string
}

func (i info) Name() string       { return i.base }
func (i info) Size() int64        { return i.it.Size }
func (i info) Mode() fs.FileMode  { return i.it.Mode }
func (i info) ModTime() time.Time { return ModTime(i.it.Entry) }
func (i info) IsDir() bool        { return i.it.Mode.IsDir() }
func (i info) Sys() any           { return nil }

// file is an open regular file.
type file struct {
	*checked
	info info
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }

// dirFile is an open folder.
type dirFile struct {
	info info
	kids []*item
}

func (d *dirFile) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *dirFile) Close() error               { return nil }
func (d *dirFile) Read([]byte) (int, error)   { return 0, fail("read", d.info.it.Path, fs.ErrInvalid) }

func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.kids)
	} else if len(d.kids) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.kids))
	list := dirEntries(d.kids[:n])
	d.kids = d.kids[n:]
	return list, nil
}
