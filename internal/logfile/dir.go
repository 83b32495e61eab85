package logfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/internal/paas"
)

// DefaultMaxAppBytes is what Prune leaves of one app's logs.
const DefaultMaxAppBytes = 256 << 20

var _ paas.Logs = (*Dir)(nil)

// Dir is the folder with the logs of all apps. It holds no state, so that any
// number of processes may read; safe for concurrent use.
type Dir struct {
	root string
	poll time.Duration
}

// NewDir returns the logs below root (DATA/logs/apps), which may not exist yet.
func NewDir(root string) *Dir { return &Dir{root: root, poll: 150 * time.Millisecond} }

// Path is where the output of an instance goes.
func (d *Dir) Path(app, instance string) string {
	return filepath.Join(d.root, app, instance+suffix)
}

// Remove implements paas.Logs.
func (d *Dir) Remove(_ context.Context, app string) error {
	dir, err := d.appDir(app)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove logs of %s: %w", app, err)
	}
	return nil
}

// Prune removes the oldest files of each app until it has at most maxAppBytes
// (0 means DefaultMaxAppBytes) and returns how many bytes went. A sink whose file
// is removed begins a new one.
func (d *Dir) Prune(ctx context.Context, maxAppBytes int64) (removedBytes int64, err error) {
	if maxAppBytes == 0 {
		maxAppBytes = DefaultMaxAppBytes
	}
	apps, err := os.ReadDir(d.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("prune logs: %w", err)
	}
	for _, a := range apps {
		if err := ctx.Err(); err != nil {
			return removedBytes, err
		}
		n, err := pruneApp(filepath.Join(d.root, a.Name()), maxAppBytes)
		removedBytes += n
		if err != nil {
			return removedBytes, err
		}
	}
	return removedBytes, nil
}

func pruneApp(dir string, maxBytes int64) (removedBytes int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("prune logs: %w", err)
	}
	var infos []fs.FileInfo
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // gone meanwhile: nothing to prune
			infos = append(infos, info)
			total += info.Size()
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range infos {
		if total <= maxBytes {
			break
		}
		if err := os.Remove(filepath.Join(dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removedBytes, fmt.Errorf("prune logs: %w", err)
		}
		total -= info.Size()
		removedBytes += info.Size()
	}
	return removedBytes, nil
}

func (d *Dir) appDir(app string) (string, error) {
	if app == "" || app == "." || app == ".." || strings.ContainsAny(app, "/\x00") {
		return "", paas.Errorf(paas.CodeInvalid, "app name %q is not allowed", app)
	}
	return filepath.Join(d.root, app), nil
}

// instanceFiles are the files of one instance, oldest first.
type instanceFiles struct {
	name  string // instance ID
	paths []string
}

// instances lists what is kept of an app, sorted by name. A missing folder is
// empty: the app has not said anything yet.
func (d *Dir) instances(dir string) ([]instanceFiles, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	type numbered struct {
		n    int
		path string
	}
	byName := map[string][]numbered{}
	for _, e := range entries {
		name, number, ok := strings.Cut(e.Name(), suffix)
		if !ok {
			continue
		}
		n, _ := strconv.Atoi(strings.TrimPrefix(number, ".")) // the newest has none: 0
		byName[name] = append(byName[name], numbered{n, filepath.Join(dir, e.Name())})
	}
	var out []instanceFiles
	for name, files := range byName {
		slices.SortFunc(files, func(a, b numbered) int { return cmp.Compare(b.n, a.n) })
		in := instanceFiles{name: name}
		for _, f := range files {
			in.paths = append(in.paths, f.path)
		}
		out = append(out, in)
	}
	slices.SortFunc(out, func(a, b instanceFiles) int { return strings.Compare(a.name, b.name) })
	return out, nil
}
