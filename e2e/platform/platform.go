// Package platform starts and drives a whole Slipway with a data folder and
// ports of its own, for the end-to-end tests and the benchmarks. It runs the built
// binary and imports nothing of the product. Start reading at Start.
package platform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	"time"
)

// Platform is one running Slipway with a data folder and ports of its own.
type Platform struct {
	Bin        string // the slipway binary
	Data       string
	API        string // http://127.0.0.1:port
	RouterPort int
	home       string // of the CLI's configuration
	args       []string

	mu     sync.Mutex
	server *exec.Cmd
	exited chan struct{}
}

// Start runs `slipway server` of the checkout at root on the data folder and
// signs the CLI in. A Platform that is not nil needs Down, also after an error.
func Start(root, data string, extra ...string) (*Platform, error) {
	apiPort, routerPort, err := TwoPorts()
	if err != nil {
		return nil, err
	}
	p := &Platform{
		Bin: filepath.Join(root, "bin", "slipway"), Data: data, RouterPort: routerPort,
		API: fmt.Sprintf("http://127.0.0.1:%d", apiPort), home: filepath.Join(filepath.Dir(data), "home"),
	}
	instances, builds := subnets(data)
	p.args = append([]string{
		"server", "--data", data, "--listen", fmt.Sprintf("127.0.0.1:%d", apiPort),
		"--router-listen", fmt.Sprintf("127.0.0.1:%d", routerPort),
		"--instance-subnet", instances, "--build-subnet", builds, "--watch", "3s",
	}, extra...)
	for _, d := range []string{data, p.home} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(filepath.Dir(data), 0o711); err != nil { // user namespaces need to pass through
		return nil, err
	}
	if err := p.StartServer(); err != nil {
		return p, err
	}
	if err := p.WaitHealthy(2 * time.Minute); err != nil {
		return p, fmt.Errorf("%w\n%s", err, p.ServerLog())
	}
	token, err := exec.Command(p.Bin, "admin", "token", "--data", data).Output()
	if err != nil {
		return p, fmt.Errorf("slipway admin token: %w", err)
	}
	if out, err := p.Command(context.Background(), "login", p.API, "--token", strings.TrimSpace(string(token))).CombinedOutput(); err != nil {
		return p, fmt.Errorf("slipway login: %w\n%s", err, out)
	}
	return p, nil
}

// subnets gives each data folder addresses of its own, so that two platforms on a
// machine, or one that a killed test left behind, do not meet.
func subnets(data string) (instances, builds string) {
	sum := sha256.Sum256([]byte(data))
	n := 64 + int(sum[0])%60 // apart from the defaults, 10.208 and 10.209
	return fmt.Sprintf("10.%d.0.0/16", n), fmt.Sprintf("10.%d.%d.0/24", n+60, sum[1])
}

// StartServer runs the server process; Start has done so once.
func (p *Platform) StartServer() error {
	log, err := os.OpenFile(p.Data+"/server.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.Bin, p.args...)
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

// WaitHealthy waits until the API answers, or until the server has ended.
func (p *Platform) WaitHealthy(limit time.Duration) error {
	var ended error
	err := Until(limit, func() error {
		select {
		case <-p.exited:
			ended = errors.New("the server ended")
			return nil
		default:
		}
		resp, err := http.Get(p.API + "/healthz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("healthz answered %d", resp.StatusCode)
		}
		return nil
	})
	return errors.Join(err, ended)
}

// SignalServer sends a signal to the server and waits for its end.
func (p *Platform) SignalServer(sig syscall.Signal) {
	p.mu.Lock()
	cmd, exited := p.server, p.exited
	p.mu.Unlock()
	_ = cmd.Process.Signal(sig)
	<-exited
}

// ServerLog returns the end of the server's log.
func (p *Platform) ServerLog() []byte {
	b, _ := os.ReadFile(p.Data + "/server.log")
	if len(b) > 64<<10 {
		b = b[len(b)-64<<10:]
	}
	return b
}

// Down stops everything, as `slipway down` does.
func (p *Platform) Down() {
	out, err := exec.Command(p.Bin, "down", "--data", p.Data).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "slipway down: %v\n%s\n", err, out)
	}
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		p.SignalServer(syscall.SIGKILL)
	}
}

// Command is one call of the CLI, signed in.
func (p *Platform) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.Bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+p.home, "XDG_CONFIG_HOME="+p.home)
	return cmd
}

// Get asks an app through the router on a fresh connection.
func (p *Platform) Get(app, path string) (status int, body string, err error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	return p.Do(&c, app, path)
}

// Do asks an app with a client of the caller.
func (p *Platform) Do(c *http.Client, app, path string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", p.RouterPort, path), nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = fmt.Sprintf("%s.localhost:%d", app, p.RouterPort)
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Until calls ok every 25 ms until it returns nil; the last error after limit.
func Until(limit time.Duration, ok func() error) error {
	return UntilEvery(25*time.Millisecond, limit, ok)
}

// UntilEvery is Until with an interval of the caller's.
func UntilEvery(interval, limit time.Duration, ok func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		time.Sleep(interval)
	}
}

// TwoPorts finds two free ports on loopback.
func TwoPorts() (int, int, error) {
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

// PID finds a component's process from its PID file, so that it also works while
// the server is away.
func (p *Platform) PID(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(p.Data, "run", name+".pid"))
	if err != nil {
		return 0, err
	}
	var record struct{ PID int }
	err = json.Unmarshal(b, &record)
	return record.PID, err
}

// InstallationID names what this Slipway makes outside its data folder
// (docs/contracts.md).
func (p *Platform) InstallationID() string {
	sum := sha256.Sum256([]byte(p.Data))
	return hex.EncodeToString(sum[:])[:6]
}
