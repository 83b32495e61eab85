package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	containerd "github.com/containerd/containerd/v2/client"

	"github.com/slipway-paas/slipway/internal/supervise"
)

// containerdConfig: only what our clients use. The restart monitor would start
// programs that a container's labels name (CVE-2026-53488); CRI, NRI, CDI, image
// verifiers and the opt plugin look at places outside the data folder.
const containerdConfig = `version = 3
root = %q
state = %q
temp = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox",
  "io.containerd.monitor.container.v1.restart", "io.containerd.internal.v1.restart",
  "io.containerd.monitor.task.v1.cgroups",
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.image-verifier.v1.bindir",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs", "io.containerd.differ.v1.erofs",
  "io.containerd.mount-handler.v1.erofs",
]

[grpc]
  address = %q

[ttrpc]
  address = %q

[plugins."io.containerd.shim.v1.manager"]
  socket_dir = %q
`

func (e *Engine) addContainerd() error {
	if a := e.cfg.ContainerdAddress; a != "" {
		probe := &containerdProbe{address: a}
		e.addr.Containerd = a
		e.components = append(e.components, &component{name: "containerd", address: a, ready: probe.ready})
		e.closers = append(e.closers, probe.close)
		return nil
	}
	dir := e.dir("containerd")
	sock := filepath.Join(dir, "containerd.sock")
	if err := checkSocket(sock + ".ttrpc"); err != nil {
		return err
	}
	// Apps with a user namespace of their own reach their root file system through these.
	for _, d := range []string{dir, filepath.Join(dir, "root"), filepath.Join(dir, "state"), filepath.Join(dir, "tmp")} {
		if err := makeDir(d, 0o711); err != nil {
			return err
		}
	}
	// Its database holds every app's environment and its content every app's source;
	// containerd would let all users of the machine read both.
	for _, d := range []string{"io.containerd.metadata.v1.bolt", "io.containerd.content.v1.content"} {
		if err := makeDir(filepath.Join(dir, "root", d), 0o700); err != nil {
			return err
		}
	}
	config := fmt.Appendf(nil, containerdConfig, filepath.Join(dir, "root"), filepath.Join(dir, "state"),
		filepath.Join(dir, "tmp"), sock, sock+".ttrpc", e.shimSocketDir())
	file := filepath.Join(dir, "config.toml")
	if err := writeFile(file, config, 0o600); err != nil {
		return err
	}
	probe := &containerdProbe{address: sock}
	c, err := e.newComponent(supervise.Process{
		Name: "containerd", Path: filepath.Join(e.cfg.EngineDir, "containerd"), Args: []string{"--config", file},
		Env: []string{e.path(), "TMPDIR=" + filepath.Join(dir, "tmp")}, Config: config, Ready: probe.ready,
	})
	if err != nil {
		return err
	}
	e.addr.Containerd = sock
	e.components = append(e.components, c)
	e.closers = append(e.closers, probe.close)
	return nil
}

// shimSocketDir is below the data folder where that is short: a shim's socket
// name takes 65 bytes, and containerd refuses a longer folder.
func (e *Engine) shimSocketDir() string {
	const nameBytes = 65
	if d := e.dir("containerd", "s"); len(d)+nameBytes <= maxSocketPath {
		return d
	}
	return "/run/slipway-" + e.cfg.ID
}

// containerdProbe keeps one connection: a new one each time would cost more
// than the question.
type containerdProbe struct {
	address string
	mu      sync.Mutex
	client  *containerd.Client // guarded by mu; nil: not connected
}

func (p *containerdProbe) ready(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		if _, err := os.Stat(p.address); err != nil {
			return err
		}
		client, err := containerd.New(p.address, containerd.WithDefaultNamespace(Namespace))
		if err != nil {
			return err
		}
		p.client = client
	}
	if _, err := p.client.Version(ctx); err != nil {
		// gRPC would wait longer and longer before it tries a new connection.
		p.client.Close()
		p.client = nil
		return err
	}
	return nil
}

func (p *containerdProbe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		p.client.Close()
		p.client = nil
	}
}
