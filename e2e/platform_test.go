// Package e2e drives a whole Slipway as its users do: the built binary, its CLI
// and HTTP, with real containerd, BuildKit, runc, S3 and npm behind it. It
// imports nothing of the product. Start reading at startPlatform.
package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// shared is the one Slipway that all tests of a run use: the base images are
// made once. Tests use apps of their own.
var shared *platform

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e needs root (containers): sudo make e2e")
		return 1
	}
	dir, err := os.MkdirTemp("", "slipway-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	p, err := startPlatform(filepath.Join(dir, "data"))
	if p != nil {
		defer p.down()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = p
	code := m.Run()
	if keep := os.Getenv("SLIPWAY_E2E_LOG"); code != 0 && keep != "" {
		_ = os.WriteFile(keep, p.serverLog(), 0o644)
	}
	return code
}

// platform is one running Slipway with a data folder and ports of its own.
type platform struct {
	bin, data  string
	api        string // http://127.0.0.1:port
	routerPort int
	home       string // of the CLI's configuration
	args       []string

	mu     sync.Mutex
	server *exec.Cmd
	exited chan struct{}
}

func startPlatform(data string, extra ...string) (*platform, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return nil, err
	}
	apiPort, routerPort, err := twoPorts()
	if err != nil {
		return nil, err
	}
	p := &platform{
		bin: filepath.Join(root, "bin", "slipway"), data: data, routerPort: routerPort,
		api: fmt.Sprintf("http://127.0.0.1:%d", apiPort), home: filepath.Join(filepath.Dir(data), "home"),
	}
	p.args = append([]string{
		"server", "--data", data, "--listen", fmt.Sprintf("127.0.0.1:%d", apiPort),
		"--router-listen", fmt.Sprintf("127.0.0.1:%d", routerPort),
		"--instance-subnet", "10.218.0.0/16", "--build-subnet", "10.219.0.0/16", "--watch", "3s",
	}, extra...)
	for _, d := range []string{data, p.home} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, err
		}
	}
	if err := p.startServer(); err != nil {
		return p, err
	}
	if err := p.waitHealthy(2 * time.Minute); err != nil {
		return p, fmt.Errorf("%w\n%s", err, p.serverLog())
	}
	token, err := exec.Command(p.bin, "admin", "token", "--data", data).Output()
	if err != nil {
		return p, fmt.Errorf("slipway admin token: %w", err)
	}
	if out, err := p.command(context.Background(), "login", p.api, "--token", strings.TrimSpace(string(token))).CombinedOutput(); err != nil {
		return p, fmt.Errorf("slipway login: %w\n%s", err, out)
	}
	return p, nil
}

func (p *platform) startServer() error {
	log, err := os.OpenFile(p.data+"/server.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.bin, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	p.mu.Lock()
	p.server, p.exited = cmd, exited
	p.mu.Unlock()
	return nil
}

func (p *platform) waitHealthy(limit time.Duration) error {
	return until(limit, func() error {
		select {
		case <-p.exited:
			return fmt.Errorf("the server ended")
		default:
		}
		resp, err := http.Get(p.api + "/healthz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("healthz answered %d", resp.StatusCode)
		}
		return nil
	})
}

// signalServer sends a signal to the server and waits for its end.
func (p *platform) signalServer(sig syscall.Signal) {
	p.mu.Lock()
	cmd, exited := p.server, p.exited
	p.mu.Unlock()
	_ = cmd.Process.Signal(sig)
	<-exited
}

func (p *platform) serverLog() []byte {
	b, _ := os.ReadFile(p.data + "/server.log")
	if len(b) > 64<<10 {
		b = b[len(b)-64<<10:]
	}
	return b
}

func (p *platform) down() {
	out, err := exec.Command(p.bin, "down", "--data", p.data).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "slipway down: %v\n%s\n", err, out)
	}
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		p.signalServer(syscall.SIGKILL)
	}
}

func (p *platform) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+p.home, "XDG_CONFIG_HOME="+p.home)
	return cmd
}

// result is how a CLI call ended.
type result struct {
	out, err string
	code     int
}

func (p *platform) cli(t testing.TB, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := p.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("slipway %s: %v", strings.Join(args, " "), err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a CLI verb that has to succeed and returns its output.
func (p *platform) must(t testing.TB, args ...string) string {
	t.Helper()
	r := p.cli(t, args...)
	if r.code != 0 {
		t.Fatalf("slipway %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// mustJSON runs a verb with --json and decodes what it prints.
func (p *platform) mustJSON(t testing.TB, into any, args ...string) {
	t.Helper()
	out := p.must(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("slipway %s --json: %v in %s", strings.Join(args, " "), err, out)
	}
}

// get asks an app through the router on a fresh connection.
func (p *platform) get(app, path string) (status int, body string, err error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	return p.do(&c, app, path)
}

func (p *platform) do(c *http.Client, app, path string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", p.routerPort, path), nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = fmt.Sprintf("%s.localhost:%d", app, p.routerPort)
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// wantBody waits until the app answers 200 with the text.
func (p *platform) wantBody(t testing.TB, app, path, want string) {
	t.Helper()
	err := until(20*time.Second, func() error {
		status, body, err := p.get(app, path)
		if err != nil {
			return err
		}
		if status != 200 || !strings.Contains(body, want) {
			return fmt.Errorf("%s%s answered %d %q, want 200 with %q", app, path, status, body, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// destroyed removes an app at the end of a test.
func (p *platform) destroyed(t testing.TB, app string) string {
	t.Helper()
	t.Cleanup(func() {
		cmd := p.command(context.Background(), "destroy", app, "--yes")
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "not_found") && !strings.Contains(string(out), "no app") {
			t.Errorf("destroy %s: %v\n%s", app, err, out)
		}
	})
	return app
}

// until calls ok every 25 ms until it returns nil; the last error after limit.
func until(limit time.Duration, ok func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

func twoPorts() (int, int, error) {
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}

// component is what `slipway status --json` says of one.
type component struct {
	Name, State, Version string
	PID                  int
}

func (p *platform) components(t testing.TB) map[string]component {
	t.Helper()
	var s struct{ Components []component }
	p.mustJSON(t, &s, "status")
	out := map[string]component{}
	for _, c := range s.Components {
		out[c.Name] = c
	}
	return out
}

// pid finds a component's process from its PID file, so that it also works while
// the server is away.
func (p *platform) pid(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(p.data, "run", name+".pid"))
	if err != nil {
		return 0, err
	}
	var record struct{ PID int }
	err = json.Unmarshal(b, &record)
	return record.PID, err
}

// installationID names what this Slipway makes outside its data folder
// (docs/contracts.md).
func (p *platform) installationID() string {
	sum := sha256.Sum256([]byte(p.data))
	return hex.EncodeToString(sum[:])[:6]
}

func decode(b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w in %s", err, b)
	}
	return nil
}
