package llb

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/internal/paas"
)

// tree shows a part of the archive to BuildKit's file sync. The sync has traps,
// all silent, that this type is made around: it takes a file of the same size and
// time as unchanged (so times are made from content), it turns an error of Open
// into an empty file (so Open never fails, Read does, and failures are kept), and
// it wants its own order of paths.
type tree struct {
	fsys    fs.FS
	entries []archive.Entry // in fsutil's order

	mu     sync.Mutex
	broken error
}

var _ fsutil.FS = (*tree)(nil)

// Match selects what of the archive belongs to an input of the plan.
type Match func(path string) bool

// AppMatch selects the app's own files.
func AppMatch(p *plan.Plan) Match {
	return func(name string) bool {
		if p.App.Vendored != "" && within(name, p.App.Vendored) {
			return false
		}
		return !excluded(name, p.App.Exclude)
	}
}

// VendoredMatch selects dependencies that came with the archive.
func VendoredMatch(p *plan.Plan) Match {
	return func(name string) bool { return p.App.Vendored != "" && within(name, p.App.Vendored) }
}

// LockMatch selects what the dependency step may read.
func LockMatch(p *plan.Plan) Match {
	d := p.Dependencies
	switch {
	case d == nil:
		return func(string) bool { return false }
	case d.Whole:
		return AppMatch(p)
	}
	return func(name string) bool { return slices.Contains(d.Files, name) }
}

func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// excluded matches plain paths from the root and "**/NAME" at any depth.
func excluded(name string, patterns []string) bool {
	for _, p := range patterns {
		if base, ok := strings.CutPrefix(p, "**/"); ok {
			if slices.Contains(strings.Split(name, "/"), base) {
				return true
			}
		} else if within(name, p) {
			return true
		}
	}
	return false
}

func (r *Request) trees() map[string]*tree {
	trees := map[string]*tree{}
	add := func(name string, match Match) {
		trees[name] = newTree(r.Tree, match)
		trees[name+folders] = trees[name].onlyFolders()
	}
	add(localApp, AppMatch(r.Plan))
	if r.Plan.App.Vendored != "" {
		add(localVendored, VendoredMatch(r.Plan))
	}
	if r.Plan.Dependencies != nil {
		add(localLock, LockMatch(r.Plan))
	}
	return trees
}

// home is where the archive's root lies in the image.
var home = strings.TrimPrefix(paas.InstanceHome, "/")

func newTree(src Tree, match Match) *tree {
	all := src.Entries()
	byPath := make(map[string]archive.Entry, len(all))
	for _, e := range all {
		byPath[e.Path] = e
	}
	keep := map[string]bool{}
	t := &tree{fsys: src.FS()}
	var add func(e archive.Entry)
	add = func(e archive.Entry) {
		if keep[e.Path] {
			return
		}
		keep[e.Path] = true
		if dir := path.Dir(e.Path); dir != "." {
			add(byPath[dir]) // archive adds the folders that a zip does not list
		}
		e.Path = home + "/" + e.Path
		t.entries = append(t.entries, e)
	}
	for _, e := range all {
		if match(e.Path) {
			add(e)
		}
	}
	t.entries = append(t.entries, archive.Entry{Path: topFolder, Mode: fs.ModeDir | 0o755}, archive.Entry{Path: home, Mode: fs.ModeDir | 0o755})
	slices.SortFunc(t.entries, func(a, b archive.Entry) int { return fsutil.ComparePath(a.Path, b.Path) })
	return t
}

func (t *tree) onlyFolders() *tree {
	out := &tree{fsys: t.fsys}
	for _, e := range t.entries {
		if e.Mode.IsDir() {
			out.entries = append(out.entries, e)
		}
	}
	return out
}

// Walk implements fsutil.FS.
func (t *tree) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	target = strings.TrimPrefix(path.Clean("/"+target), "/") // the sync asks for "/"
	skip := ""
	for _, e := range t.entries {
		if target != "" && !within(e.Path, target) || skip != "" && within(e.Path, skip) {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		stat := &types.Stat{Path: e.Path, Mode: uint32(e.Mode), ModTime: fileTime(e).UnixNano(), Linkname: e.LinkTarget}
		if e.IsRegular() {
			stat.Size = e.Size
		}
		err := fn(e.Path, &fsutil.DirEntryInfo{Stat: stat}, nil)
		switch {
		case errors.Is(err, fs.SkipDir) && e.Mode.IsDir():
			skip = e.Path
		case errors.Is(err, fs.SkipDir), errors.Is(err, fs.SkipAll):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// fileTime is the time that e gets in the image. It is unique to the content, as
// archive.ModTime is, but lies between 2001 and 2024: web servers send it as
// Last-Modified, which must not be in the future, and tell two versions of a file
// apart by it, so it must not be the same for all.
func fileTime(e archive.Entry) time.Time {
	if !e.IsRegular() {
		return fixedTime
	}
	const begin, span = 978_307_200, 757_382_400
	return time.Unix(begin+int64(e.CRC32%span), int64(e.CRC32/span)*int64(time.Millisecond))
}

// Open implements fsutil.FS.
func (t *tree) Open(name string) (io.ReadCloser, error) {
	f, err := t.fsys.Open(strings.TrimPrefix(strings.TrimPrefix(path.Clean("/"+name), "/"+home), "/"))
	if err != nil {
		t.fail(err)
		return io.NopCloser(brokenReader{err}), nil
	}
	return &watched{f, t}, nil
}

func (t *tree) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken == nil {
		t.broken = err
	}
}

func (t *tree) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// watched keeps the first read error for the end of the build.
type watched struct {
	fs.File
	t *tree
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.File.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.t.fail(err)
	}
	return n, err
}
