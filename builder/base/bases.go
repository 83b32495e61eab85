// Package base makes the images that apps stand on, once each, on this machine:
// the Debian root file system, the same with compilers, Node.js and the package
// managers from the npm registry. Each is a tar of one layer in a folder, imported
// into containerd under slipway.local/…, where BuildKit finds it without a
// registry. It also keeps the catalogue of versions that there are.
//
// It imports buildpacks/source, internal/paas and the containerd client; it must
// not import BuildKit or other adapters. Start with Bases; debian.go and npm.go
// make the tars, image.go imports them, catalog.go knows the versions.
package base

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/buildpacks/plan"
)

// RefPrefix begins the names of all images made here. They belong to no app and
// are never removed with one.
const RefPrefix = "slipway.local/base/"

// Options configure Bases. Zero fields mean the default.
type Options struct {
	Dir         string             // where tars and the catalogue are kept; required
	Containerd  *containerd.Client // required; its default namespace is where images go
	Snapshotter string             // "" = overlayfs
	Registry    string             // npm registry URL, see HostRegistry; without one nothing new can be made
	Mirror      string             // Debian mirror URL; "" = that of the host's apt
	CAFile      string             // PEM bundle to trust besides the system's
	Log         *slog.Logger
	Now         func() time.Time
}

// Bases makes and finds base images. It is safe for concurrent use, also by
// several processes that share Dir.
type Bases struct {
	o    Options
	http *http.Client

	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the holder is done
}

// Image is a base image in containerd.
type Image struct {
	Ref    string
	Digest string // of the manifest
}

// New prepares Dir and removes what a killed process left half made.
func New(o Options) (*Bases, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Snapshotter == "" {
		o.Snapshotter = "overlayfs"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	client, err := httpClient(o.CAFile)
	if err != nil {
		return nil, err
	}
	b := &Bases{o: o, http: client, busy: map[string]chan struct{}{}}
	return b, b.removeHalfMade()
}

// halfMade marks files that are being written; a lock tells whether by somebody
// alive.
const halfMade = ".part"

func (b *Bases) removeHalfMade() error {
	parts, err := filepath.Glob(filepath.Join(b.o.Dir, "*"+halfMade))
	if err != nil {
		return err
	}
	for _, p := range parts {
		name := strings.TrimSuffix(filepath.Base(p), halfMade)
		unlock, err := b.tryFileLock(strings.TrimSuffix(name, ".tar"))
		if err != nil {
			continue // its maker lives
		}
		err = removeTree(p)
		unlock()
		if err != nil {
			b.o.Log.Warn("half made base image not removed; the next start tries again", "path", p, "err", err)
		}
	}
	return nil
}

// removeTree removes dir and what a killed maker left mounted in it. The mounts go
// first: behind them are this machine's own /sys and /dev/shm.
func removeTree(dir string) error {
	if err := mount.UnmountRecursive(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// Base is the image under every app.
func (b *Bases) Base(ctx context.Context, say func(string)) (Image, error) {
	return b.debian(ctx, runtimeSystem, say)
}

// Toolchain is Base with compilers, python3 and git, for build steps.
func (b *Bases) Toolchain(ctx context.Context, say func(string)) (Image, error) {
	return b.debian(ctx, toolchainSystem, say)
}

func (b *Bases) debian(ctx context.Context, s system, say func(string)) (Image, error) {
	return b.ensure(ctx, s.key(), "debian", s.what, say, func(ctx context.Context) error { return b.makeSystem(ctx, s) })
}

// Runtime is the layer with a language runtime.
func (b *Bases) Runtime(ctx context.Context, p plan.Package, say func(string)) (Image, error) {
	if p.Name != "node" {
		return Image{}, fmt.Errorf("no runtime called %q", p.Name)
	}
	key := "node-" + p.Version
	return b.ensure(ctx, key, "node", "Node.js "+p.Version, say, func(ctx context.Context) error { return b.makeNode(ctx, p.Version) })
}

// Headers is the layer that compiling native addons for a Node version needs.
func (b *Bases) Headers(ctx context.Context, p plan.Package, say func(string)) (Image, error) {
	key := "node-headers-" + p.Version
	return b.ensure(ctx, key, "node", "headers of Node.js "+p.Version, say, func(ctx context.Context) error { return b.makeHeaders(ctx, p.Version) })
}

// Tool is the layer with a package manager.
func (b *Bases) Tool(ctx context.Context, p plan.Package, say func(string)) (Image, error) {
	key := "tool-" + strings.NewReplacer("@", "", "/", "-").Replace(p.Name) + "-" + p.Version
	return b.ensure(ctx, key, "tool", p.Name+" "+p.Version, say, func(ctx context.Context) error { return b.makeTool(ctx, key, p) })
}

// ensure returns the image of key, made by make (which writes key.tar) and
// imported as needed. say is told only when there is work.
func (b *Bases) ensure(ctx context.Context, key, kind, what string, say func(string), make func(context.Context) error) (Image, error) {
	ref := RefPrefix + kind + ":" + key
	if img, err := b.find(ctx, ref); err != nil || img.Digest != "" {
		return img, err
	}
	unlock, err := b.lock(ctx, key)
	if err != nil {
		return Image{}, fmt.Errorf("wait for %s: %w", what, err)
	}
	defer unlock()
	if img, err := b.find(ctx, ref); err != nil || img.Digest != "" {
		return img, err // another build made it meanwhile
	}
	started := b.o.Now()
	if _, err := os.Stat(b.tar(key)); errors.Is(err, os.ErrNotExist) {
		say("preparing " + what + " (once on this machine)")
		if err := make(ctx); err != nil {
			return Image{}, fmt.Errorf("make %s: %w", what, err)
		}
	}
	img, err := b.load(ctx, ref, b.tar(key))
	if err != nil {
		return Image{}, fmt.Errorf("import %s: %w", what, err)
	}
	took := b.o.Now().Sub(started).Round(100 * time.Millisecond)
	say(fmt.Sprintf("%s is ready after %s", what, took))
	b.o.Log.Info("base image made", "image", ref, "digest", img.Digest, "duration", took)
	return img, nil
}

func (b *Bases) tar(key string) string { return filepath.Join(b.o.Dir, key+".tar") }

// lock holds key among the goroutines of this process and among processes.
func (b *Bases) lock(ctx context.Context, key string) (unlock func(), err error) {
	done := make(chan struct{})
	for {
		b.mu.Lock()
		other, taken := b.busy[key]
		if !taken {
			b.busy[key] = done
			b.mu.Unlock()
			break
		}
		b.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	free := func() {
		b.mu.Lock()
		delete(b.busy, key)
		b.mu.Unlock()
		close(done)
	}
	unlockFile, err := b.fileLock(ctx, key)
	if err != nil {
		free()
		return nil, err
	}
	return func() { unlockFile(); free() }, nil
}

var errLocked = errors.New("held by another process")

// fileLockPoll is how often a lock of another process is tried again.
const fileLockPoll = 200 * time.Millisecond

func (b *Bases) fileLock(ctx context.Context, key string) (func(), error) {
	tick := time.NewTicker(fileLockPoll)
	defer tick.Stop()
	for {
		unlock, err := b.tryFileLock(key)
		if !errors.Is(err, errLocked) {
			return unlock, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (b *Bases) tryFileLock(key string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(b.o.Dir, "."+key+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	return func() { f.Close() }, nil // closing frees the lock; the file stays, since removing it would race
}
