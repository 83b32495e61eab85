package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/slipway-paas/slipway/runtime/network"
)

// canIsolateUsers says why instances cannot have user namespaces here. Without
// them every other restriction stays; apps then share uid 10001 outside.
func canIsolateUsers(cfg Config) error {
	if cfg.StateDir == "" {
		return errors.New("the containerd in use is not the installation's own, so its folders may be closed to the instances' users")
	}
	// Inside, even 0 is an ordinary user of the host: it must be able to walk to its
	// root file system and to the files that are mounted.
	for _, p := range []string{cfg.DataDir, cfg.StateDir, filepath.Dir(cfg.Init)} {
		for ; p != "/"; p = filepath.Dir(p) {
			st, err := os.Stat(p)
			if errors.Is(err, os.ErrNotExist) {
				continue // containerd makes it, traversable, when it starts
			}
			if err != nil {
				return err
			}
			const others = 0o001
			if st.Mode().Perm()&others == 0 {
				return fmt.Errorf("%s has mode %#o; allow others to pass through it (chmod o+x), or put the data folder elsewhere", p, st.Mode().Perm())
			}
		}
	}
	return network.CanHold(cfg.Init)
}

// users remembers whether containerd can shift the owners of a mount. The zero
// value asks at the first start.
type users struct {
	mu    sync.Mutex
	known bool
	able  bool
}

func (u *users) supported(ctx context.Context, d *Driver) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known {
		return u.able
	}
	can, err := d.client.GetSnapshotterCapabilities(ctx, snapshotter)
	if err != nil {
		return true // containerd does not answer: the start fails by itself
	}
	u.known, u.able = true, slices.Contains(can, "remap-ids")
	if !u.able {
		d.cfg.Log.Warn("instances get no user namespaces of their own", "err", "the file system or kernel has no idmapped mounts")
	}
	return u.able
}
