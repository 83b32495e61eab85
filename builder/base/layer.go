package base

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"path"
	"sort"
	"strings"
	"time"
)

// maxPackageBytes bounds what a package may unpack to.
const maxPackageBytes = 1 << 30

// repack turns a package into a layer. npm's tarballs hold files only, in one top
// folder whose name means nothing.
func repack(tgz io.Reader, out io.Writer, links map[string]string, where place) error {
	zr, err := gzip.NewReader(tgz)
	if err != nil {
		return err
	}
	w := &layerWriter{tw: tar.NewWriter(out), dirs: map[string]bool{}}
	in := tar.NewReader(io.LimitReader(zr, maxPackageBytes))
	executable := map[string]bool{}
	for _, target := range links {
		executable[strings.TrimPrefix(target, "/")] = true
	}
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+h.Name), "/"), "/")
		dest := ""
		if h.Typeflag == tar.TypeReg && name != "" {
			dest = where(name)
		}
		if dest == "" {
			continue
		}
		mode := int64(0o644)
		if h.Mode&0o111 != 0 || executable[dest] {
			mode = 0o755
		}
		if err := w.file(dest, mode, h.Size, in); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(links))
	for name := range links {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := w.link(name, links[name]); err != nil {
			return err
		}
	}
	return w.tw.Close()
}

// layerWriter writes a tar with parents before children.
type layerWriter struct {
	tw   *tar.Writer
	dirs map[string]bool
}

var layerTime = time.Unix(epoch, 0)

func (w *layerWriter) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." || w.dirs[dir] {
		return nil
	}
	if err := w.parents(dir); err != nil {
		return err
	}
	w.dirs[dir] = true
	return w.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: layerTime})
}

func (w *layerWriter) file(name string, mode, size int64, r io.Reader) error {
	if err := w.parents(name); err != nil {
		return err
	}
	if err := w.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: layerTime}); err != nil {
		return err
	}
	_, err := io.Copy(w.tw, r)
	return err
}

func (w *layerWriter) link(name, target string) error {
	if err := w.parents(name); err != nil {
		return err
	}
	return w.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: layerTime})
}
