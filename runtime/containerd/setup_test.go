package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/slipway-paas/slipway/internal/paas"
	"github.com/slipway-paas/slipway/runtime/driver"
	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
	"github.com/slipway-paas/slipway/runtime/network"
)

// machine is a containerd of the test's own with the probe image in it.
type machine struct {
	data   string
	engine string
	id     string
	subnet netip.Prefix
	daemon *exec.Cmd
	*drivertest.Subject
	driver *Driver
}

// newMachine builds the programs, starts containerd and imports the image. At the
// end of the test it checks that nothing is left on the real machine.
func newMachine(t testing.TB) *machine {
	t.Helper()
	engine, err := filepath.Abs("../../bin/engine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(engine, "containerd")); err != nil {
		t.Fatalf("%v; run make engine", err)
	}
	b := make([]byte, 5)
	rand.Read(b)
	// Short and traversable: sockets have at most 108 characters.
	data, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o711); err != nil {
		t.Fatal(err)
	}
	m := &machine{data: data, engine: engine, id: hex.EncodeToString(b[:3]),
		subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 220 + b[3]%30, b[4], 0}), 24)}
	m.build(t)
	m.startDaemon(t)
	m.driver = m.open(t, nil)
	t.Cleanup(func() { m.down(t) })
	m.Subject = &drivertest.Subject{Driver: m.driver, Image: paas.ImageRef("aprobeprobe22", 1), Spare: paas.ImageRef("aspareimage22", 2), Program: "/probe"}
	m.Reopen = func(t *testing.T) driver.Driver { return m.open(t, nil) }
	m.importImage(t, m.Image, "probe")
	m.importImage(t, m.Spare, "spare")
	return m
}

func (m *machine) build(t testing.TB) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", m.data+"/bin/",
		"../../cmd/slipway-init", "../../cmd/slipway-sink", "../driver/drivertest/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.data}, elem...)...)
}

// open makes another driver object; it is closed at the end of t.
func (m *machine) open(t testing.TB, change func(*Config)) *Driver {
	t.Helper()
	cfg := Config{ID: m.id, DataDir: m.data, Address: m.path("c.sock"), StateDir: m.path("state"),
		Runc: filepath.Join(m.engine, "runc"), Init: m.path("bin", "slipway-init"), Sink: m.path("bin", "slipway-sink"),
		Network: network.Config{Subnet: m.subnet, Resolvers: []netip.Addr{netip.MustParseAddr("198.51.100.53")}}}
	if change != nil {
		change(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func (m *machine) startDaemon(t testing.TB) {
	t.Helper()
	for _, d := range []string{"root", "state", "s", "run"} {
		if err := os.MkdirAll(m.path(d), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	config := fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.monitor.container.v1.restart", "io.containerd.internal.v1.restart", "io.containerd.monitor.task.v1.cgroups",
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[ttrpc]
  address = %q
[plugins."io.containerd.shim.v1.manager"]
  socket_dir = %q
`, m.path("root"), m.path("state"), m.path("c.sock"), m.path("c.sock.ttrpc"), m.path("s"))
	if err := os.WriteFile(m.path("config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(m.path("containerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.daemon = exec.Command(filepath.Join(m.engine, "containerd"), "--config", m.path("config.toml"))
	m.daemon.Env = []string{"PATH=" + m.engine + ":/usr/sbin:/usr/bin:/sbin:/bin"}
	m.daemon.Stdout, m.daemon.Stderr = log, log
	m.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := m.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(m.path("c.sock"), client.WithDefaultNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	drivertest.Eventually(t, "containerd answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.Version(ctx)
		return err == nil
	})
}

func (m *machine) killDaemon(t testing.TB) {
	t.Helper()
	if err := m.daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.daemon.Wait()
}

// down stops all that is left, then containerd, and fails the test for every trace.
func (m *machine) down(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all, err := m.driver.List(ctx)
	if err != nil {
		t.Errorf("list: %v", err)
	}
	for _, st := range all {
		t.Errorf("instance %s is left", st.ID)
		if err := m.driver.Stop(ctx, st.ID, 0); err != nil {
			t.Error(err)
		}
	}
	for _, left := range m.remains(t) {
		t.Errorf("left: %s", left)
	}
	m.daemon.Process.Signal(syscall.SIGTERM)
	m.daemon.Wait()
	if err := Down(ctx, m.id, m.data); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		if log, err := os.ReadFile(m.path("containerd.log")); err == nil {
			t.Logf("containerd: %s", log[max(0, len(log)-8000):])
		}
	}
	if err := os.RemoveAll(m.data); err != nil {
		t.Error(err)
	}
}

func (m *machine) importImage(t testing.TB, ref, comment string) {
	t.Helper()
	c, err := client.New(m.path("c.sock"), client.WithDefaultNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	probe, err := os.ReadFile(m.path("bin", "probe"))
	if err != nil {
		t.Fatal(err)
	}
	imgs, err := c.Import(inNamespace(t.Context()), bytes.NewReader(ociArchive(ref, probe, comment)))
	if err != nil || len(imgs) != 1 {
		t.Fatalf("import: %v, %v", imgs, err)
	}
	if err := client.NewImage(c, imgs[0]).Unpack(inNamespace(t.Context()), snapshotter); err != nil {
		t.Fatal(err)
	}
}

// ociArchive packs the probe as an image (OCI image layout): its configuration
// asks for all that a driver must not give.
func ociArchive(ref string, probe []byte, comment string) []byte {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "u01", "var"} {
		tw.WriteHeader(&tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o777})
	}
	tw.WriteHeader(&tar.Header{Name: "u01/app/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: uid, Gid: gid})
	tw.WriteHeader(&tar.Header{Name: "u01/app/package.json", Typeflag: tar.TypeReg, Mode: 0o644, Uid: uid, Gid: gid})
	tw.WriteHeader(&tar.Header{Name: "probe", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(probe))})
	tw.Write(probe)
	tw.WriteHeader(&tar.Header{Name: "bin/" + comment, Typeflag: tar.TypeSymlink, Linkname: "/probe"})
	tw.Close()

	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	blob := func(b []byte) (digest.Digest, int64) {
		d := digest.FromBytes(b)
		files["blobs/sha256/"+d.Encoded()] = b
		return d, int64(len(b))
	}
	doc := func(v any) (digest.Digest, int64) {
		b, _ := json.Marshal(v)
		return blob(b)
	}
	ld, ls := blob(layer.Bytes())
	cd, cs := doc(v1.Image{
		Platform: v1.Platform{Architecture: "amd64", OS: "linux"},
		Config: v1.ImageConfig{User: "0", Env: []string{"FROM_IMAGE=1"}, Entrypoint: []string{"/bin/sh"}, WorkingDir: "/etc",
			ExposedPorts: map[string]struct{}{"22/tcp": {}}, Volumes: map[string]struct{}{"/etc": {}},
			Labels: map[string]string{"containerd.io/restart.status": "running", labelInstallation: "ffffff", "from": "image"}},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{ld}},
	})
	md, ms := doc(v1.Manifest{Versioned: ispec.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: cd, Size: cs},
		Layers: []v1.Descriptor{{MediaType: v1.MediaTypeImageLayer, Digest: ld, Size: ls}}})
	files["index.json"], _ = json.Marshal(v1.Index{Versioned: ispec.Versioned{SchemaVersion: 2}, Manifests: []v1.Descriptor{{
		MediaType: v1.MediaTypeImageManifest, Digest: md, Size: ms,
		Annotations: map[string]string{"io.containerd.image.name": ref},
		Platform:    &v1.Platform{Architecture: "amd64", OS: "linux"}}}})
	var out bytes.Buffer
	tw = tar.NewWriter(&out)
	for name, b := range files {
		tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(b))})
		tw.Write(b)
	}
	tw.Close()
	return out.Bytes()
}
