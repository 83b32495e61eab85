package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// Two namespaces of the test's own, joined by this machine as the router: one
// hangs on the builds' bridge, the other plays a private network.
func TestApplyBuildFirewall_DeniesPrivateRangesButAllowed(t *testing.T) {
	id := IDFor(t.TempDir())
	bridge, step, private := "sl"+id+"b", "slb"+id, "slp"+id
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
		}
	}
	t.Cleanup(func() {
		for _, args := range [][]string{{"netns", "del", step}, {"netns", "del", private}, {"link", "del", bridge}} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %v: %v %s", args, err, out)
			}
		}
		if err := RemoveBuildFirewall(bridge); err != nil {
			t.Error(err)
		}
	})
	join := func(ns, host, hostAddr, addr, gateway string) {
		t.Helper()
		ip("netns", "add", ns)
		ip("link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", ns)
		if host == "b"+id {
			ip("link", "set", host, "master", bridge)
			host = bridge
			ip("link", "set", "b"+id, "up")
		}
		ip("addr", "add", hostAddr, "dev", host)
		ip("link", "set", host, "up")
		ip("-n", ns, "addr", "add", addr, "dev", "eth0")
		ip("-n", ns, "link", "set", "eth0", "up")
		ip("-n", ns, "link", "set", "lo", "up")
		ip("-n", ns, "route", "add", "default", "via", gateway)
	}
	ip("link", "add", bridge, "type", "bridge")
	join(step, "b"+id, "10.213.77.1/24", "10.213.77.2/24", "10.213.77.1")
	join(private, "p"+id, "10.214.77.1/24", "10.214.77.2/24", "10.214.77.1")
	mirror := listenIn(t, private, "10.214.77.2:0")
	other := listenIn(t, private, "10.214.77.2:0")
	host := listenIn(t, "", "10.213.77.1:0")

	if !reaches(t, step, other) || !reaches(t, step, host) {
		t.Fatal("the networks do not work without the firewall; the test would prove nothing")
	}
	// Twice: the rules are replaced, not added.
	for range 2 {
		err := ApplyBuildFirewall(t.Context(), bridge, BuildNetwork{Subnet: netip.MustParsePrefix("10.213.77.0/24"), Hosts: []string{mirror, "no port"}})
		if !errors.Is(err, ErrUnresolved) {
			t.Fatalf("error %v, want ErrUnresolved for the malformed host", err)
		}
	}
	for addr, want := range map[string]bool{mirror: true, other: false, host: false} {
		if got := reaches(t, step, addr); got != want {
			t.Errorf("step reaches %s: %v, want %v", addr, got, want)
		}
	}
	// Without a route back, only a masqueraded connection is answered.
	ip("-n", private, "route", "del", "default")
	if !reaches(t, step, mirror) {
		t.Error("the step's address is not masqueraded")
	}
	ip("-n", private, "route", "add", "default", "via", "10.214.77.1")
	in := listenIn(t, step, "10.213.77.2:0")
	if reaches(t, private, in) {
		t.Error("the private network reaches the step")
	}
}

// inNamespace runs f on a thread that is inside ns; "" means here.
func inNamespace(t *testing.T, ns string, f func() error) error {
	t.Helper()
	if ns == "" {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h, err := netns.GetFromName(ns)
		if err == nil {
			defer h.Close()
			err = netns.Set(h)
		}
		if err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", ns, err)
			return
		}
		done <- f()
	}()
	return <-done
}

func listenIn(t *testing.T, ns, addr string) string {
	t.Helper()
	var l net.Listener
	err := inNamespace(t, ns, func() (err error) {
		l, err = net.Listen("tcp4", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func reaches(t *testing.T, ns, addr string) bool {
	t.Helper()
	return inNamespace(t, ns, func() error {
		c, err := net.DialTimeout("tcp4", addr, 700*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return err
	}) == nil
}
