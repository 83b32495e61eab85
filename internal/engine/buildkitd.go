package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"

	"github.com/slipway-paas/slipway/internal/supervise"
)

// buildkitdConfig: the worker is our containerd, so a built image can be run at
// once. The network is cni, not bridge: that mode insists on the firewall plugin and
// thereby on iptables.
const buildkitdConfig = `root = %[1]q

[grpc]
  address = [ %[2]q ]

[otel]
  socketPath = %[3]q

[cdi]
  disabled = true

[worker.oci]
  enabled = false

[worker.containerd]
  enabled = true
  address = %[4]q
  namespace = %[5]q
  snapshotter = "overlayfs"
  defaultCgroupParent = %[6]q
  max-parallelism = %[7]d
  networkMode = "cni"
  cniConfigPath = %[8]q
  cniBinaryPath = %[9]q
  gc = true

  [[worker.containerd.gcpolicy]]
    all = true
    keepBytes = %[10]d
    maxUsedSpace = %[10]d

[dns]
  nameservers = [ %[11]s ]

# Build graphs are ours; nobody may choose a frontend.
[frontend."dockerfile.v0"]
  enabled = false
[frontend."gateway.v0"]
  enabled = false
`

func (e *Engine) addBuildkit() error {
	e.addr.BuildBridge = "sl" + e.cfg.ID + "b"
	e.addr.BuildCgroup = "/slipway-" + e.cfg.ID + "/builds"
	if a := e.cfg.BuildkitAddress; a != "" {
		e.addr.Buildkit = a
		probe := &buildkitProbe{address: a}
		e.components = append(e.components, &component{name: "buildkitd", address: a, ready: probe.ready})
		e.closers = append(e.closers, probe.close)
		return nil
	}
	sock := e.dir("buildkit", "buildkitd.sock")
	if err := checkSocket(sock); err != nil {
		return err
	}
	for _, d := range []string{"", "root", "tmp", "cni"} {
		if err := makeDir(e.dir("buildkit", d), 0o711); err != nil {
			return err
		}
	}
	subnet, err := e.buildSubnet()
	if err != nil {
		return err
	}
	e.addr.BuildSubnet = subnet.String()
	e.addr.Buildkit = "unix://" + sock
	config, err := e.writeBuildkitConfig(sock, subnet)
	if err != nil {
		return err
	}
	probe := &buildkitProbe{address: e.addr.Buildkit}
	e.closers = append(e.closers, probe.close)
	c, err := e.newComponent(supervise.Process{
		Name: "buildkitd", Path: filepath.Join(e.cfg.EngineDir, "buildkitd"),
		Args: []string{"--config", e.dir("buildkit", "buildkitd.toml")},
		// Its temporary mounts go where sweepBuilds finds them.
		Env:    append([]string{e.path(), "TMPDIR=" + e.dir("buildkit", "tmp"), "HOME=" + e.dir("buildkit")}, e.cfg.Env...),
		Config: config, Ready: probe.ready,
		Before: func(ctx context.Context) error {
			if err := e.sweepBuilds(ctx); err != nil {
				return err
			}
			return e.applyFirewall(ctx)
		},
	})
	if err != nil {
		return err
	}
	e.components = append(e.components, c)
	return nil
}

func (e *Engine) writeBuildkitConfig(sock string, subnet netip.Prefix) ([]byte, error) {
	resolvers, err := e.resolvers()
	if err != nil {
		return nil, err
	}
	quoted := make([]string, len(resolvers))
	for i, r := range resolvers {
		quoted[i] = fmt.Sprintf("%q", r)
	}
	parallel := e.cfg.BuildParallel
	if parallel == 0 {
		parallel = runtime.NumCPU()
	}
	cniFile := e.dir("buildkit", "cni.conflist")
	config := fmt.Appendf(nil, buildkitdConfig, e.dir("buildkit", "root"), "unix://"+sock, e.dir("buildkit", "otel.sock"),
		e.addr.Containerd, Namespace, e.addr.BuildCgroup, parallel, cniFile, filepath.Join(e.cfg.EngineDir, "cni"),
		e.cfg.BuildCacheBytes, strings.Join(quoted, ", "))
	network, err := e.buildNetwork(subnet)
	if err != nil {
		return nil, err
	}
	if err := writeFile(cniFile, network, 0o600); err != nil {
		return nil, err
	}
	if err := writeFile(e.dir("buildkit", "buildkitd.toml"), config, 0o600); err != nil {
		return nil, err
	}
	return append(config, network...), nil
}

func (e *Engine) networkName() string { return "slipway-" + e.cfg.ID + "-build" }

// buildNetwork is the CNI configuration of the steps: a bridge whose ports do
// not see each other. ApplyBuildFirewall masquerades it.
func (e *Engine) buildNetwork(subnet netip.Prefix) ([]byte, error) {
	type object = map[string]any
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       e.networkName(),
		"plugins": []object{
			{"type": "loopback"},
			{
				"type": "bridge", "bridge": e.addr.BuildBridge,
				"isDefaultGateway": true, "portIsolation": true,
				"ipam": object{
					"type": "host-local", "dataDir": e.dir("buildkit", "cni"),
					"ranges": [][]object{{{"subnet": subnet.String()}}},
				},
			},
		},
	}, "", "  ")
}

// resolvers are the name servers that builds use. A loopback address would be
// the step's own.
func (e *Engine) resolvers() ([]string, error) {
	list := e.cfg.BuildResolvers
	if len(list) == 0 {
		data, err := os.ReadFile("/etc/resolv.conf")
		if err != nil {
			return nil, fmt.Errorf("find name servers for builds: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
				list = append(list, f[1])
			}
		}
	}
	var usable []string
	for _, s := range list {
		// The builds' network is IPv4 only.
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() && !a.IsLoopback() {
			usable = append(usable, s)
		}
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("no name server that a build can reach (found %q); set the builds' resolvers in the configuration", list)
	}
	return usable, nil
}

type buildkitProbe struct {
	address string
	mu      sync.Mutex
	client  *client.Client // guarded by mu; nil: not connected
}

func (p *buildkitProbe) ready(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		if path, ok := strings.CutPrefix(p.address, "unix://"); ok {
			if _, err := os.Stat(path); err != nil {
				return err
			}
		}
		c, err := client.New(ctx, p.address)
		if err != nil {
			return err
		}
		p.client = c
	}
	_, err := p.client.Info(ctx)
	if err != nil {
		// gRPC would wait longer and longer before it tries a new connection.
		p.client.Close()
		p.client = nil
	}
	return err
}

func (p *buildkitProbe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		p.client.Close()
		p.client = nil
	}
}
