// Package bundle makes the archive that the CLI uploads from a folder: a zip
// whose bytes depend on names, modes and contents only, so that an unchanged
// folder has an unchanged digest. It knows nothing of the server. Start reading
// at Zip.
package bundle

import (
	"archive/zip"
	"compress/flate"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// Result says what went into the archive and what did not.
type Result struct {
	Files     int
	SizeBytes int64 // of the files, before compression
	// LeftOut lists what was not packed with the rule that kept it out, sorted; a
	// folder stands for all that is in it ("node_modules/").
	LeftOut []LeftOut
}

// LeftOut is one path that was not packed.
type LeftOut struct {
	Path string // a folder ends in "/"
	Rule string // ".gitignore", ".slipwayignore", "always"
}

// epoch is the time of every entry: a zip cannot say "none", and 1980 is the
// format's smallest.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Zip writes the folder dir to w. It honours .gitignore (also nested ones) and
// .slipwayignore, which uses the same syntax and wins. Symbolic links are kept
// as links; sockets, devices and pipes are left out.
//
// Errors: CodeInvalid when dir is not a folder or has no file to pack.
func Zip(w io.Writer, dir string) (Result, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Result{}, paas.Errorf(paas.CodeInvalid, "cannot read %s: %v", dir, err)
	}
	if !info.IsDir() {
		return Result{}, paas.Errorf(paas.CodeInvalid, "%s is not a folder", dir)
	}
	files, res, err := collect(dir)
	if err != nil {
		return res, err
	}
	if len(files) == 0 {
		return res, paas.Errorf(paas.CodeInvalid, "%s has no file to deploy (%d left out)", dir, len(res.LeftOut)).
			WithHint("check .gitignore and .slipwayignore")
	}
	zw := zip.NewWriter(w)
	zw.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.BestSpeed)
	})
	for _, f := range files {
		n, err := add(zw, dir, f)
		if err != nil {
			return res, err
		}
		res.Files++
		res.SizeBytes += n
	}
	return res, zw.Close()
}

// file is one path to pack, relative with slashes.
type file struct {
	path string
	info fs.FileInfo
}

// collect walks dir once and sorts what it found, so that the order does not
// depend on the file system.
func collect(dir string) ([]file, Result, error) {
	var files []file
	var res Result
	ig := newIgnorer(dir)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if rel == "." {
			return ig.enter(".")
		}
		if rule := ig.rule(rel, d.IsDir()); rule != "" {
			res.LeftOut = append(res.LeftOut, LeftOut{Path: shown(rel, d.IsDir()), Rule: rule})
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return ig.enter(rel)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if t := info.Mode().Type(); t != 0 && t != fs.ModeSymlink {
			res.LeftOut = append(res.LeftOut, LeftOut{Path: rel, Rule: "not a regular file"})
			return nil
		}
		files = append(files, file{rel, info})
		return nil
	})
	sort.Slice(files, func(i, j int) bool { return files[i].path < files[j].path })
	sort.Slice(res.LeftOut, func(i, j int) bool { return res.LeftOut[i].Path < res.LeftOut[j].Path })
	return files, res, err
}

func shown(rel string, isDir bool) string {
	if isDir {
		return rel + "/"
	}
	return rel
}

// add packs one file with its permission bits reduced to 0755 or 0644.
func add(zw *zip.Writer, dir string, f file) (int64, error) {
	h := &zip.FileHeader{Name: f.path, Method: zip.Deflate, Modified: epoch}
	name := filepath.Join(dir, filepath.FromSlash(f.path))
	if f.info.Mode()&fs.ModeSymlink != 0 {
		return addLink(zw, h, name)
	}
	mode := fs.FileMode(0o644)
	if f.info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	h.SetMode(mode)
	if compressed[strings.ToLower(path.Ext(f.path))] {
		h.Method = zip.Store
	}
	in, err := os.Open(name)
	if err != nil {
		return 0, paas.Errorf(paas.CodeInvalid, "cannot read %s: %v", name, err)
	}
	defer in.Close()
	out, err := zw.CreateHeader(h)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	if err != nil {
		return n, fmt.Errorf("pack %s: %w", name, err)
	}
	return n, nil
}

func addLink(zw *zip.Writer, h *zip.FileHeader, name string) (int64, error) {
	target, err := os.Readlink(name)
	if err != nil {
		return 0, fmt.Errorf("read link %s: %w", name, err)
	}
	h.Method = zip.Store
	h.SetMode(fs.ModeSymlink | 0o777)
	out, err := zw.CreateHeader(h)
	if err != nil {
		return 0, err
	}
	n, err := io.WriteString(out, filepath.ToSlash(target))
	return int64(n), err
}

// compressed lists extensions that deflate cannot make smaller.
var compressed = map[string]bool{
	".zip": true, ".gz": true, ".tgz": true, ".jar": true, ".war": true, ".png": true, ".jpg": true, ".jpeg": true,
	".webp": true, ".woff2": true, ".mp4": true, ".br": true, ".zst": true, ".xz": true,
}
