package containerd

import (
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/slipway-paas/slipway/runtime/driver/drivertest"
)

// TestContainerd_Isolation asks from inside real instances. The cells of the
// firewall itself are in runtime/network.
func TestContainerd_Isolation(t *testing.T) {
	m := newMachine(t)
	a, b := m.Spec(drivertest.Serve...), m.Spec(drivertest.Serve...)
	sa, sb := drivertest.MustStart(t, m.driver, a), drivertest.MustStart(t, m.driver, b)
	drivertest.WaitServing(t, sa.Addr)
	drivertest.WaitServing(t, sb.Addr)

	const metadata, internet = "169.254.169.254:80", "192.88.99.7:80"
	world := m.world(t, "169.254.169.254", "192.88.99.7")
	accept(t, world, "0.0.0.0:80")
	gateway := m.subnet.Addr().Next().String()
	host := accept(t, "", "0.0.0.0:0") // what the control plane would be
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		sb.Addr: "refused", gateway + ":" + port: "refused", metadata: "refused", internet: "open", sa.Addr: "open", "127.0.0.1:" + port: "refused",
	}
	var targets []string
	for target := range want {
		targets = append(targets, target)
	}
	got := outcomes(runInside(t, sa.Addr, append([]string{"dial"}, targets...)...))
	for target, w := range want {
		if got[target] != w {
			t.Errorf("instance → %s: %q, want %s", target, got[target], w)
		}
	}
}

// world is a namespace that the host routes addrs into: no packet to them can
// leave the machine.
func (m *machine) world(t *testing.T, addrs ...string) string {
	t.Helper()
	name := "sw" + m.id
	path := "/run/netns/" + name
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	visit(t, "", func() { // NewNamed enters what it makes
		h, err := netns.NewNamed(name)
		must(err)
		h.Close()
	})
	t.Cleanup(func() {
		if err := netns.DeleteNamed(name); err != nil {
			t.Error(err)
		}
		if l, err := netlink.LinkByName(name); err == nil {
			netlink.LinkDel(l)
		}
	})
	ns, err := netns.GetFromPath(path)
	must(err)
	defer ns.Close()
	one := func(s string) *net.IPNet {
		return &net.IPNet{IP: netip.MustParseAddr(s).AsSlice(), Mask: net.CIDRMask(32, 32)}
	}
	const hostSide = "198.19.77.1"
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns))}))
	l, err := netlink.LinkByName(name)
	must(err)
	must(netlink.AddrAdd(l, &netlink.Addr{IPNet: one(hostSide)}))
	must(netlink.LinkSetUp(l))
	h, err := netlink.NewHandleAt(ns)
	must(err)
	defer h.Close()
	in, err := h.LinkByName("eth0")
	must(err)
	for _, a := range addrs {
		must(h.AddrAdd(in, &netlink.Addr{IPNet: one(a)}))
	}
	must(h.LinkSetUp(in))
	i := in.Attrs().Index
	must(h.RouteAdd(&netlink.Route{LinkIndex: i, Scope: netlink.SCOPE_LINK, Dst: one(hostSide)}))
	must(h.RouteAdd(&netlink.Route{LinkIndex: i, Gw: net.ParseIP(hostSide)}))
	for _, a := range addrs {
		must(netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: one(a), Src: net.ParseIP(hostSide)}))
	}
	return path
}

// accept listens in a namespace ("" = the host's) until the test ends.
func accept(t *testing.T, ns, addr string) string {
	t.Helper()
	var l net.Listener
	visit(t, ns, func() {
		var err error
		if l, err = net.Listen("tcp4", addr); err != nil {
			t.Error(err)
		}
	})
	if l == nil {
		t.FailNow()
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}

// visit runs f on a thread in the namespace at path ("" = the host's) and brings
// the thread back, also from a namespace that f went to.
func visit(t *testing.T, path string, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if path != "" {
		there, err := netns.GetFromPath(path)
		if err == nil {
			err = netns.Set(there)
			there.Close()
		}
		if err != nil {
			t.Fatalf("enter %s: %v", path, err)
		}
	}
	defer func() {
		if err := netns.Set(home); err != nil {
			t.Fatalf("leave the namespace: %v", err)
		}
	}()
	f()
}
