package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-paas/slipway/internal/paas"
)

func testConfig(t *testing.T, args ...string) *config {
	t.Helper()
	alone(t)
	c, err := loadConfig(t, append([]string{"--data", t.TempDir()}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestTaken_Ports(t *testing.T) {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}}
	l, err := shared.Listen(t.Context(), "tcp", "127.0.0.1:0") // as another Slipway's router does
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	c := testConfig(t, "--listen", addr, "--router-listen", addr)
	s := &system{config: c}
	for name, err := range map[string]error{"listen": s.listenAPI(t.Context()), "router-listen": routerPortFree(c)} {
		if paas.CodeOf(err) != paas.CodeConflict || !strings.Contains(err.Error(), "port "+port+" is taken") {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.Close()
	if err := routerPortFree(c); err != nil {
		t.Errorf("a free port: %v", err)
	}
	if err := s.listenAPI(t.Context()); err != nil {
		t.Errorf("a free port: %v", err)
	}
	s.close()
}

func TestTaken_Subnets(t *testing.T) {
	for name, args := range map[string][]string{
		"overlaps instance-subnet":     {"--instance-subnet", "10.251.0.0/16", "--build-subnet", "10.251.7.0/24"},
		"instance-subnet 127.5.0.0/16": {"--instance-subnet", "127.5.0.0/16", "--build-subnet", "10.251.7.0/24"},
		"build-subnet 127.5.0.0/16":    {"--instance-subnet", "10.251.7.0/24", "--build-subnet", "127.5.0.0/16"},
	} {
		err := (&system{config: testConfig(t, args...)}).checkSubnets()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v, want %q in it", args, err, name)
		}
	}
}

func TestDown_KnownRouters_ConfiguredAndLeft(t *testing.T) {
	c := testConfig(t, "--routers", "1")
	unlock, err := claimData(c)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := os.WriteFile(c.path("run", "router-3.pid"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := knownRouters(c); !slices.Equal(got, []string{"router-1", "router-3"}) {
		t.Errorf("got %v", got)
	}
}

func TestDown_HoldsTheLockAndSignalsNoGroup(t *testing.T) {
	c := testConfig(t)
	unlock, err := stopServer(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claimData(c); paas.CodeOf(err) != paas.CodeConflict {
		t.Errorf("a server could start while down works: %v", err)
	}
	if err := os.WriteFile(filepath.Join(c.Data, "run", "server.lock"), []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := stopServer(c); err == nil || !strings.Contains(err.Error(), `holds "0"`) {
		t.Errorf("process number 0: %v", err)
	}
	unlock()
}
