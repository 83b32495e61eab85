package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	containerdclient "github.com/containerd/containerd/v2/client"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-paas/slipway/builder"
	"github.com/slipway-paas/slipway/builder/archive"
	"github.com/slipway-paas/slipway/builder/base"
	"github.com/slipway-paas/slipway/builder/llb"
	"github.com/slipway-paas/slipway/internal/engine"
	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/containerd"
	"github.com/slipway-paas/slipway/runtime/network"
	"github.com/slipway-paas/slipway/runtime/reconcile"
)

// openRuntime joins containerd, the network and reconcile.
func (s *system) openRuntime(ctx context.Context) (err error) {
	if s.driver, err = openDriver(ctx, s.config, s.engine.Addresses().Containerd); err != nil {
		return err
	}
	s.loop, err = reconcile.New(reconcile.Options{
		Store: s.store, Driver: s.driver, Router: s.feed, Blobs: &objects{s: s}, Logs: s.logs, Tail: s.tail,
		Holder: holder(s.config), KeepReleases: s.config.KeepReleases, Log: s.log,
		Policy: reconcile.Policy{Watch: s.config.Watch, Domains: s.config.Domains},
	})
	return err
}

// holder names this server in leases: the same after a restart, another one on
// another machine, whose data folder may have the same path.
func holder(c *config) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return "server-" + c.id() + "@" + host
}

const (
	sweepObjectsEvery = time.Hour
	// lostObjectAge is how old an object must be to count as left by a killed upload
	// or build: no upload and no build takes that long.
	lostObjectAge = 24 * time.Hour
)

// objects is what reconcile removes from object storage. It goes through the API,
// which knows of uploads that rely on an object without having said so yet.
type objects struct {
	s     *system
	swept time.Time // only the loop's sweep has it
}

func (o *objects) Delete(ctx context.Context, key string) error {
	return o.s.api.RemoveObject(ctx, key)
}

func (o *objects) Sweep(ctx context.Context, before time.Time) error {
	err := o.s.blobs.Sweep(ctx, before)
	// A bucket elsewhere may hold what another installation refers to.
	if err != nil || o.s.config.S3Endpoint != "" || time.Since(o.swept) < sweepObjectsEvery {
		return err
	}
	removed, err := o.s.api.SweepObjects(ctx, time.Now().Add(-lostObjectAge))
	if len(removed) > 0 {
		o.s.log.Info("objects removed that nothing refers to", "count", len(removed), "keys", removed)
	}
	if err == nil {
		o.swept = time.Now()
	}
	return err
}

// openBuilder joins BuildKit, the base images and the worker.
func (s *system) openBuilder(ctx context.Context) error {
	a := s.engine.Addresses()
	images, err := containerdclient.New(a.Containerd, containerdclient.WithDefaultNamespace(a.Namespace))
	if err != nil {
		return err
	}
	s.images = images
	registry := hostRegistry()
	s.bases, err = base.New(base.Options{
		Dir: s.config.path("bases"), Containerd: images, Registry: registry, Mirror: os.Getenv("SLIPWAY_DEBIAN_MIRROR"), CAFile: os.Getenv("SSL_CERT_FILE"), Log: s.log,
	})
	if err != nil {
		return err
	}
	s.builder, err = builder.New(builder.Options{
		Store: s.store, Blobs: s.blobs, Bases: s.bases, Solver: llb.New(a.Buildkit), LogDir: s.config.path("logs", "builds"),
		Name: "builder-" + s.config.id(), Concurrency: s.config.Builds, Deadline: s.config.BuildTimeout, Registry: registry,
		Proxy:        llb.Proxy{HTTP: os.Getenv("HTTP_PROXY"), HTTPS: os.Getenv("HTTPS_PROXY"), No: os.Getenv("NO_PROXY")},
		Limits:       llb.Limits{MemoryBytes: int64(s.config.BuildMemoryMiB) << 20},
		CgroupParent: a.BuildCgroup, Archive: archive.Limits{TempDir: s.config.path("run")}, Log: s.log,
	})
	return err
}

func openDriver(ctx context.Context, c *config, address string) (*containerd.Driver, error) {
	subnet, err := netip.ParsePrefix(c.InstanceSubnet)
	if err != nil {
		return nil, usageError{fmt.Errorf("instance-subnet %q: %w", c.InstanceSubnet, err)}
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	bin := filepath.Dir(exe)
	state := ""
	if c.Containerd == "" {
		state = c.path("containerd", "state")
	}
	return containerd.New(containerd.Config{
		ID: c.id(), DataDir: c.Data, Address: address, StateDir: state,
		Runc: filepath.Join(c.Engine, "runc"), Init: filepath.Join(bin, "slipway-init"), Sink: filepath.Join(bin, "slipway-sink"),
		Network: network.Config{Subnet: subnet, Mirrors: addresses(ctx, mirrors())},
	})
}

// tail is the end of an instance's output, for the reason of a failure.
func (s *system) tail(ctx context.Context, app, instance string, n int) []string {
	var lines []string
	err := s.logs.Read(ctx, paas.LogQuery{App: app, Instance: instance, Tail: n}, func(l paas.LogLine) error {
		lines = append(lines, l.Text)
		return nil
	})
	if err != nil {
		s.log.Debug("read last output", "app", app, "instance", instance, "err", err)
	}
	return lines
}

// checkArchive refuses at the door what the builder would refuse.
func (s *system) checkArchive(ctx context.Context, r io.ReaderAt, size int64) error {
	a, err := archive.Open(ctx, r, size, archive.Limits{TempDir: s.config.path("run")})
	if err != nil {
		return err
	}
	defer a.Close()
	return nil
}

// stopInstances ends every instance; containerd, and nothing else, is started for
// it when it does not run. It returns how many there were.
func stopInstances(ctx context.Context, c *config, e *engine.Engine) (int, error) {
	if err := e.StartContainerd(ctx); err != nil {
		return 0, fmt.Errorf("reach containerd: %w", err)
	}
	d, err := openDriver(ctx, c, e.Addresses().Containerd)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	list, err := d.List(ctx)
	if err != nil {
		return 0, err
	}
	var g errgroup.Group
	g.SetLimit(16)
	for _, i := range list {
		g.Go(func() error { return d.Stop(ctx, i.ID, -1) })
	}
	return len(list), g.Wait()
}

// mirrors are the package registries of this machine's configuration as
// host:port. Builds and instances may reach them although a proxy in front may
// have put them into a private or reserved range.
func mirrors() []string {
	list := strings.FieldsFunc(os.Getenv("SLIPWAY_ALLOW_EGRESS"), func(r rune) bool { return r == ',' || r == ' ' })
	if address := base.RegistryAddress(hostRegistry()); address != "" {
		list = append(list, address)
	}
	return list
}

// hostRegistry asks once: it may start npm, and several parts want to know.
var hostRegistry = sync.OnceValue(func() string {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return base.HostRegistry(ctx)
})

// addresses resolves mirrors; one that has no address is left out, as nobody
// could reach it either.
func addresses(ctx context.Context, hosts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, h := range hosts {
		host, _, err := net.SplitHostPort(h)
		if err != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		if err != nil {
			continue
		}
		for _, ip := range ips {
			out = append(out, netip.PrefixFrom(ip.Unmap(), 32))
		}
	}
	return out
}

// networkEnv is what buildkitd needs of our environment to fetch anything.
func networkEnv() []string {
	var env []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}
